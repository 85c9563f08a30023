"""The vocabulary carries attribute inference: a column of the records that a tree was grown on."""

from dataclasses import replace
from functools import cache
from typing import ClassVar

import numpy as np
import pytest
from pydantic import Field
from sklearn.ensemble import RandomForestClassifier
from vocabulary_parts import fit_tree, played, table

from seepage.core.attack import AttributeAttack
from seepage.core.case import Case, Training
from seepage.core.guess import Guess, Posterior
from seepage.core.knowledge import AttributeKnowledge
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import AttributeSecret, Secret
from seepage.core.seeds import stream
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Leak
from seepage.scoring import controls as against
from seepage.testing.contracts import check_attack

COLUMN, VALUES, EACH = 3, np.array([0.0, 1.0]), 200


def drawn(n: int, rng: np.random.Generator) -> Records:
    """Three known columns and a sensitive one; the label depends on both, and is wrong for 30 %."""
    known, sensitive = rng.normal(size=(n, 3)), rng.integers(2, size=n)
    label = (known[:, 0] + 0.5 * known[:, 1] + 2 * sensitive - 1 > 0).astype(int)
    label = np.where(rng.random(n) < 0.3, 1 - label, label)
    return table(np.column_stack([known, sensitive]), label, 2)


def imputed(public: Records, partial: Records) -> Posterior:
    """What the other columns and the label say of the hidden one, learned from public records."""

    def features(records: Records) -> np.ndarray:
        known, label = np.delete(records.x, COLUMN, axis=1), records.labels()[:, None]
        return np.hstack([known, label, known * label])

    forest = RandomForestClassifier(40, min_samples_leaf=5, random_state=0)
    forest.fit(features(public), public.x[:, COLUMN].astype(int))
    return Posterior(forest.predict_proba(features(partial)))


class Fill(AttributeAttack):
    """Weighs every value by its prior among similar public records and by the victim's score of the true label.

    `floor` is added to the score, so that a victim that is wrong does not rule a value out.
    """

    name: ClassVar[str] = "fill-in"
    title: ClassVar[str] = "Every value tried in the hidden column"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES})
    cites: ClassVar[tuple[str, ...]] = ("Fredrikson et al., 2014, Privacy in pharmacogenetics, USENIX Security",)
    needs_public: ClassVar[bool] = True

    floor: float = Field(default=0.05, gt=0)

    def cost(self, knowledge: AttributeKnowledge, budget: int | None) -> int:
        return len(knowledge.partial) * len(knowledge.values)

    def run(self, target: Target, knowledge: AttributeKnowledge, rng: np.random.Generator) -> Posterior:
        assert knowledge.public is not None
        partial = knowledge.partial
        prior = imputed(knowledge.public, partial).values
        likely = np.zeros_like(prior)
        for place, value in enumerate(knowledge.values):
            x = partial.x.copy()
            x[:, knowledge.column] = value
            likely[:, place] = target.scores(x)[np.arange(len(partial)), partial.labels()]
        weighed = prior * (likely + self.floor)
        return Posterior(weighed / weighed.sum(axis=1, keepdims=True))


def score(guess: Guess, secret: Secret, controls: Controls) -> Scored:
    """The share of members whose hidden value is the likeliest one, and the same for those not trained on."""
    assert isinstance(secret, AttributeSecret)
    assert secret.is_member is not None
    truth, member = secret.values, secret.is_member

    def share(rows: np.ndarray, name: str) -> against.Score:
        def measure(one: Guess) -> against.UnitMean:
            assert isinstance(one, Posterior)
            hits = one.values.argmax(axis=1) == truth
            return against.UnitMean(hits[rows].astype(float), np.nonzero(rows)[0])

        return against.score(
            name,
            "hidden values found",
            measure(guess),
            against.Against(
                chance=float(np.bincount(truth[rows]).max() / rows.sum()),
                no_model={part: measure(one) for part, one in controls.no_model.items()},
                null_model=None if controls.null_model is None else measure(controls.null_model),
                missing=controls.missing,
            ),
            n=int(rows.sum()),
            unit="record",
            method="Wilson over records",
        )

    scores = [share(member, "members"), share(~member, "others")]
    return Scored({one.name: one for one in scores}, "members")


@cache
def attribute_case(seed: int) -> Case:
    rng = stream(seed, "attribute proof")
    pool, other, public = drawn(2 * EACH, rng), drawn(EACH, rng), drawn(2 * EACH, rng)
    training = Training(
        recipe=Recipe(fit_tree, pool, "tree"),
        members=np.arange(EACH),
        seed=seed,
        null_recipe=Recipe(fit_tree, other, "tree"),
        null_members=np.arange(EACH),
    )
    victim, null = training.fit()
    x = pool.x.copy()
    x[:, COLUMN] = np.nan
    partial = replace(pool, x=x)
    return Case(
        leak=Leak.ATTRIBUTE,
        name="sensitive column",
        victim=victim,
        null=null,
        knowledge=AttributeKnowledge(public=public, partial=partial, column=COLUMN, values=VALUES),
        secret=AttributeSecret(values=pool.x[:, COLUMN].astype(int), is_member=np.arange(2 * EACH) < EACH),
        baselines={"imputation": imputed(public, partial)},
        training=training,
        seed=seed,
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_tree_gives_away_its_members_and_nobody_else(seed: int) -> None:
    """Above imputation for those it was grown on; what it says of others it says by correlation alone."""
    scored, target = played(attribute_case(seed), Fill(), score)
    members, others = scored.scores["members"], scored.scores["others"]
    assert target.queries == 2 * EACH * len(VALUES)
    for found in (members, others):
        assert found.controls["no_model"] is not None
        assert found.controls["no_model"].value > 0.5
        assert found.leakage is not None
    assert members.leakage is not None
    assert members.leakage.low > 0
    assert others.leakage is not None
    assert others.leakage.low <= 0


def test_a_tree_that_never_saw_them_gives_no_more_than_imputation() -> None:
    case = attribute_case(0)
    assert case.null is not None
    found = played(replace(case, victim=case.null, null=None), Fill(), score)[0].scores["members"]
    assert found.leakage is not None
    assert found.leakage.low <= 0


def test_the_hidden_column_is_hidden() -> None:
    knowledge = attribute_case(0).knowledge
    assert isinstance(knowledge, AttributeKnowledge)
    assert np.isnan(knowledge.partial.x[:, COLUMN]).all()


def test_the_attack_keeps_its_contracts() -> None:
    check_attack(Fill, case=attribute_case)
