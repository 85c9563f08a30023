"""The vocabulary carries defenses of outputs and of training, with an adversary who knows them and one who does not."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from plain_attacks import Loss
from plain_defenses import LabelsOnly, LargeLeaves
from pydantic import Field
from vocabulary_parts import COLUMNS, EACH, Tree, overfitted_case, played, trees

from seepage.core.attack import MembershipAttack
from seepage.core.case import Case, Training
from seepage.core.errors import AccessDenied, ConfigError
from seepage.core.guess import Scores
from seepage.core.knowledge import MembershipKnowledge
from seepage.core.record import Score
from seepage.core.secrets import MembershipSecret
from seepage.core.seeds import stream
from seepage.core.target import Target
from seepage.core.victim import Model, Updates
from seepage.core.vocabulary import Access
from seepage.scoring import membership
from seepage.testing.contracts import check_attack, check_defense


class Neighbours(MembershipAttack):
    """Asks for the labels of `around` noisy neighbours of each candidate, if it knows that labels are all there is.

    A record that was trained on lies further from the decision boundary: more of its neighbours at
    `radius` keep its label. An adversary who does not know better asks each candidate once and scores
    whether the answer is right.
    """

    name: ClassVar[str] = "neighbours"
    title: ClassVar[str] = "Labels of noisy neighbours"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.LABELS})
    cites: ClassVar[tuple[str, ...]] = (
        "Choquette-Choo, Tramer, Carlini, Papernot, 2021, Label-only membership inference attacks, ICML",
    )

    around: int = Field(default=60, ge=1)
    radius: float = Field(default=0.35, gt=0)

    def _each(self, knowledge: MembershipKnowledge) -> int:
        labels_alone = any(getattr(d, "leaves", None) == {Access.LABELS} for d in knowledge.defenses)
        return 1 + self.around * labels_alone

    def cost(self, knowledge: MembershipKnowledge, budget: int | None) -> int:
        return self._each(knowledge) * len(knowledge.candidates)

    def run(self, target: Target, knowledge: MembershipKnowledge, rng: np.random.Generator) -> Scores:
        assert target.spec is not None
        records = knowledge.candidates
        right = (target.labels(records.x) == records.labels()).astype(float)
        kept = np.zeros(len(records))
        for _ in range(self._each(knowledge) - 1):
            near = target.spec.bounds.clip(records.x + self.radius * rng.normal(size=records.x.shape))
            kept += target.labels(near) == records.labels()
        return Scores(right + kept / (self.around + 1))


def auc(case: Case, attack: MembershipAttack) -> Score:
    return played(case, attack, membership.score)[0].scores["auc"]


def leaking(score: Score) -> float:
    assert score.leakage is not None
    return score.leakage.low


def test_labels_alone_stop_the_loss_attack_and_not_an_adversary_who_knows() -> None:
    bare = overfitted_case(0)
    known, unknown = bare.defended(LabelsOnly()), bare.defended(LabelsOnly(), aware=False)
    before = auc(bare, Loss())
    assert before.value is not None
    assert before.value > 0.95

    with pytest.raises(AccessDenied, match="the victim offers labels; an attack that needs scores"):
        Target(known.victim, Loss.needs)

    gap, adaptive = auc(unknown, Neighbours()), auc(known, Neighbours())
    assert gap.value is not None
    assert adaptive.value is not None
    assert 0.5 < gap.value < adaptive.value < before.value
    assert gap.high is not None
    assert adaptive.low is not None
    assert adaptive.low > gap.high
    assert leaking(adaptive) > 0
    for found in (before, gap, adaptive):
        null = found.controls["null_model"]
        assert null is not None
        assert null.low < 0.5 < null.high


def test_what_the_adversary_knows_is_recorded_and_reaches_its_reference_models() -> None:
    bare = overfitted_case(0)
    known, unknown = bare.defended(LabelsOnly()), bare.defended(LabelsOnly(), aware=False)
    assert (known.adversary, unknown.adversary) == ("adaptive", "unaware")
    assert known.knowledge.defenses == (LabelsOnly(),)
    assert unknown.knowledge.defenses == ()
    for case, offered in ((known, {Access.LABELS}), (unknown, bare.victim.offers)):
        assert case.knowledge.recipe is not None
        assert case.knowledge.recipe.fit(np.arange(EACH), 1).offers == offered
    for case in (known, unknown):
        assert case.null is not None
        assert case.victim.offers == case.null.offers == {Access.LABELS}
    assert bare.victim.offers > {Access.SCORES}


def test_large_leaves_take_the_leak_away_and_keep_the_use() -> None:
    bare = trees(0)
    defended = bare.defended(LargeLeaves(records=25))
    before, after = auc(bare, Loss()), auc(defended, Loss())
    assert leaking(before) > 0
    assert leaking(after) <= 0
    assert before.value is not None
    assert after.value is not None
    assert before.value - after.value > 0.1
    assert isinstance(bare.secret, MembershipSecret)
    outside = bare.secret.candidates[~bare.secret.is_member]

    def right(victim: Any) -> float:
        assert isinstance(victim, Model)
        return float((victim.predict(outside.x).argmax(axis=1) == outside.labels()).mean())

    assert right(defended.victim) > right(bare.victim) - 0.05


def test_a_training_defense_reaches_victim_twin_and_reference_models() -> None:
    case = trees(0).defended(LargeLeaves(records=25))
    assert case.knowledge.recipe is not None
    for tree in (case.victim, case.null, case.knowledge.recipe.fit(np.arange(EACH), 2)):
        assert isinstance(tree, Tree)
        assert tree.inside.min_samples_leaf == 25


def test_defenses_compose_in_either_order() -> None:
    both = (
        trees(0).defended(LabelsOnly()).defended(LargeLeaves()),
        trees(0).defended(LargeLeaves()).defended(LabelsOnly()),
    )
    x = np.random.default_rng(0).normal(size=(50, COLUMNS)).astype(np.float32)
    answers = []
    for case in both:
        assert case.victim.offers == {Access.LABELS}
        assert isinstance(case.victim, Model)
        answers.append(case.victim.predict(x))
        assert len(case.knowledge.defenses) == 2
    np.testing.assert_array_equal(*answers)
    grown = trees(0).defended(LargeLeaves()).victim
    assert isinstance(grown, Model)
    np.testing.assert_array_equal(answers[0].argmax(axis=1), grown.predict(x).argmax(axis=1))


def test_a_training_defense_says_what_it_lacks() -> None:
    with pytest.raises(ConfigError, match="'min_samples_leaf', which its trainer does not take"):
        overfitted_case(0).defended(LargeLeaves())
    with pytest.raises(ConfigError, match="'large-leaves' retrains the victim: give a recipe"):
        replace(trees(0), training=None).defended(LargeLeaves())
    with pytest.raises(ConfigError, match="'labels-only' does not act on a Updates"):
        LabelsOnly().on_victim(Updates(()), stream(0, "x"))


def test_the_plugins_keep_their_contracts() -> None:
    check_attack(Neighbours, case=lambda seed: overfitted_case(seed).defended(LabelsOnly()), params={"around": 3})

    def training() -> Training:
        found = trees(0).training
        assert found is not None
        return found

    check_defense(LargeLeaves, training=training)
