"""The vocabulary carries poisons: mislabelled copies of the candidates make their membership plain.

In a tree, a record that was trained on shares its leaf with its mislabelled copies, one that was not leaves
them alone: the score of its true class is 1 / (copies + 1) or 0 (Tramer et al. 2022, section 4).
"""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from plain_attacks import Loss
from plain_defenses import LargeLeaves
from pydantic import Field
from vocabulary_parts import CLASSES, EACH, Tree, played, trees

from seepage.core.case import Case
from seepage.core.defense import Poison
from seepage.core.errors import ConfigError
from seepage.core.knowledge import Knowledge, MembershipKnowledge
from seepage.core.recipe import Recipe
from seepage.core.secrets import MembershipSecret
from seepage.core.seeds import stream
from seepage.core.target import Target
from seepage.core.vocabulary import Access
from seepage.scoring import membership


class Mislabelled(Poison):
    """Slips in `copies` of every candidate under one wrong class, the same for all copies of it."""

    name: ClassVar[str] = "mislabelled"
    title: ClassVar[str] = "Mislabelled copies"
    cites: ClassVar[tuple[str, ...]] = ("Tramer et al., 2022, Truth serum, CCS",)

    copies: int = Field(default=2, ge=1)

    def apply(self, recipe: Recipe, knowledge: Knowledge, rng: np.random.Generator) -> Recipe:
        if not isinstance(knowledge, MembershipKnowledge):
            raise ConfigError(f"the poison '{self.name}' is after the candidates of a membership case")
        wanted = knowledge.candidates
        wrong = (wanted.labels() + rng.integers(1, CLASSES, size=len(wanted))) % CLASSES
        rows = np.repeat(np.arange(len(wanted)), self.copies)
        return recipe.with_extra(replace(wanted[rows], y=wrong[rows]))


def test_poisoned_a_tree_tells_every_member() -> None:
    bare = trees(1)
    poisoned = bare.poisoned(Mislabelled())
    before = played(bare, Loss(), membership.score)[0].scores["auc"]
    after = played(poisoned, Loss(), membership.score)[0].scores["auc"]
    assert before.value is not None
    assert before.value < 0.8
    assert after.value == 1.0
    for found in (before, after):
        null = found.controls["null_model"]
        assert null is not None
        assert null.low <= 0.5 <= null.high
    assert after.leakage is not None
    assert before.leakage is not None
    assert after.leakage.low > before.leakage.high


def test_scores_under_poison_are_those_of_theory() -> None:
    poisoned = trees(1).poisoned(Mislabelled(copies=3))
    guess = Loss().run(Target(poisoned.victim, {Access.SCORES}), _membership(poisoned), stream(0, "x"))
    assert isinstance(poisoned.secret, MembershipSecret)
    np.testing.assert_allclose(np.exp(guess.values), np.where(poisoned.secret.is_member, 1 / 4, 1e-12))


def _membership(case: Case) -> MembershipKnowledge:
    assert isinstance(case.knowledge, MembershipKnowledge)
    return case.knowledge


def test_twin_and_reference_models_are_poisoned_alike() -> None:
    poisoned = trees(1).poisoned(Mislabelled())
    assert poisoned.training is not None
    recipes = (poisoned.training.recipe, poisoned.training.null_recipe, poisoned.knowledge.recipe)
    digests = set()
    for recipe in recipes:
        assert recipe is not None
        assert recipe.extra is not None
        digests.add(recipe.extra.digest())
    assert len(digests) == 1
    assert poisoned.knowledge.recipe is not None
    reference = poisoned.knowledge.recipe.fit(np.arange(EACH), 5)
    assert isinstance(reference, Tree)
    wrong = reference.predict(_membership(poisoned).candidates.x).argmax(axis=1)
    assert (wrong != _membership(poisoned).candidates.labels()).all()


def test_a_poisoned_case_can_be_defended() -> None:
    """Leaves larger than the copies of one record blur what the poison sharpened."""
    poisoned = trees(1).poisoned(Mislabelled(copies=1))
    defended = poisoned.defended(LargeLeaves(records=25))
    before = played(poisoned, Loss(), membership.score)[0].scores["auc"]
    after = played(defended, Loss(), membership.score)[0].scores["auc"]
    assert before.value == 1.0
    assert after.value is not None
    assert after.value < 0.8
    assert defended.training is not None
    assert defended.training.recipe.extra is not None


def test_a_poison_needs_a_recipe() -> None:
    with pytest.raises(ConfigError, match="'mislabelled' retrains the victim: give a recipe"):
        replace(trees(1), training=None).poisoned(Mislabelled())
