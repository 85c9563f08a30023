"""The vocabulary carries stealing: a softmax regression, exactly, from as many scores as it has inputs and one.

log p_k - log p_0 = (w_k - w_0) x + b_k - b_0 at every x, so that the origin and one step along each axis give
all parameters up to the shift that the softmax does not show (Tramer et al. 2016, section 4.1).
"""

from functools import cache
from typing import ClassVar

import numpy as np
import pytest
from vocabulary_parts import SoftmaxRegression, fit_softmax, played, table, table_spec

from seepage.core.attack import StealingAttack
from seepage.core.case import Case, Training
from seepage.core.errors import BudgetExceeded
from seepage.core.guess import Guess, Surrogate
from seepage.core.knowledge import StealingKnowledge
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import Secret, StealingSecret
from seepage.core.seeds import stream
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Leak
from seepage.scoring import controls as against
from seepage.testing.contracts import check_attack

COLUMNS, CLASSES, MEMBERS = 8, 3, 40


class SolveLinear(StealingAttack):
    """Reads the log-odds at the origin and at a step of 1 along each axis."""

    name: ClassVar[str] = "solve-linear"
    title: ClassVar[str] = "Equation solving"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES})
    cites: ClassVar[tuple[str, ...]] = ("Tramer et al., 2016, Stealing machine learning models, USENIX Security",)

    def cost(self, knowledge: StealingKnowledge, budget: int | None) -> int:
        return knowledge.spec.size + 1

    def run(self, target: Target, knowledge: StealingKnowledge, rng: np.random.Generator) -> Surrogate:
        d = knowledge.spec.size
        logs = np.log(target.scores(np.vstack([np.zeros((1, d)), np.eye(d)]).astype(np.float32)))
        odds = logs - logs[:, :1]
        return Surrogate(SoftmaxRegression((odds[1:] - odds[0]).T, odds[0]))


def score(guess: Guess, secret: Secret, controls: Controls) -> Scored:
    """The share of inputs for which the copy and the victim give the same class."""
    assert isinstance(secret, StealingSecret)
    truth = secret.victim.predict(secret.probes).argmax(axis=1)

    def measure(one: Guess) -> against.UnitMean:
        assert isinstance(one, Surrogate)
        same = one.model.predict(secret.probes).argmax(axis=1) == truth
        return against.UnitMean(same.astype(float), np.arange(len(truth)))

    made = against.score(
        "fidelity",
        "answers in which the copy agrees",
        measure(guess),
        against.Against(
            chance=1 / secret.victim.classes,
            no_model={name: measure(one) for name, one in controls.no_model.items()},
            null_model=None if controls.null_model is None else measure(controls.null_model),
            missing=controls.missing,
        ),
        n=len(truth),
        unit="input",
        method="Wilson over inputs",
    )
    return Scored({"fidelity": made}, "fidelity")


@cache
def stealing_case(seed: int) -> Case:
    rng = stream(seed, "stealing proof")
    truth = rng.normal(size=(CLASSES, COLUMNS))

    def drawn(n: int) -> Records:
        x = rng.normal(size=(n, COLUMNS))
        return table(x, (x @ truth.T + rng.gumbel(size=(n, CLASSES))).argmax(axis=1), CLASSES)

    own, other, public = drawn(MEMBERS), drawn(MEMBERS), drawn(MEMBERS)
    training = Training(
        recipe=Recipe(fit_softmax, own, "softmax regression"),
        members=np.arange(MEMBERS),
        seed=seed,
        null_recipe=Recipe(fit_softmax, other, "softmax regression"),
        null_members=np.arange(MEMBERS),
    )
    victim, null = training.fit()
    assert isinstance(victim, SoftmaxRegression)
    return Case(
        leak=Leak.STEALING,
        name="softmax regression",
        victim=victim,
        null=null,
        knowledge=StealingKnowledge(public=public, spec=table_spec(COLUMNS), classes=CLASSES),
        secret=StealingSecret(victim=victim, probes=drawn(400).x),
        baselines={"trained on public records": Surrogate(fit_softmax(public, seed))},
        training=training,
        seed=seed,
    )


def test_the_copy_is_exact_within_the_budget_and_nothing_else_explains_it() -> None:
    case = stealing_case(0)
    scored, target = played(case, SolveLinear(), score, budget=COLUMNS + 1)
    found = scored.scores["fidelity"]
    assert target.remaining == 0
    assert found.value == 1.0
    for control in ("no_model", "null_model"):
        at = found.controls[control]
        assert at is not None
        assert 0.6 < at.value < 0.97
    assert found.leakage is not None
    assert found.leakage.low > 0


def test_the_parameters_are_recovered_up_to_the_shift_that_does_not_show() -> None:
    case = stealing_case(0)
    copy = SolveLinear().run(Target(case.victim, {Access.SCORES}), case.knowledge, stream(0, "x")).model
    assert isinstance(copy, SoftmaxRegression)
    assert isinstance(case.victim, SoftmaxRegression)
    for mine, theirs in ((copy.weight, case.victim.weight), (copy.bias, case.victim.bias)):
        np.testing.assert_allclose(mine, theirs - theirs[0], atol=1e-9)


def test_one_query_less_is_not_enough() -> None:
    case = stealing_case(0)
    assert SolveLinear().obstacle(case.knowledge, COLUMNS + 1) is None
    assert "9 queries" in str(SolveLinear().obstacle(case.knowledge, COLUMNS))
    target = Target(case.victim, {Access.SCORES}, budget=COLUMNS)
    with pytest.raises(BudgetExceeded):
        SolveLinear().run(target, case.knowledge, stream(0, "x"))
    assert target.queries == 0


def test_the_attack_keeps_its_contracts() -> None:
    check_attack(SolveLinear, case=stealing_case)
