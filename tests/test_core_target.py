"""What an attack holds: accesses that nest, a meter that tells the truth, and a victim out of sight."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from seepage.core.errors import AccessDenied, BudgetExceeded, ConfigError, DataError
from seepage.core.spec import InputSpec
from seepage.core.target import Meter, Target
from seepage.core.victim import Models, Update, Updates
from seepage.core.vocabulary import Access, Modality, allows, closure
from seepage.testing.cases import membership_case, smooth_pictures
from seepage.testing.fingerprints import reached
from seepage.testing.victims import ConstantVictim, TemplateVictim

ACCESSES = st.frozensets(st.sampled_from(list(Access)))
PICTURES = smooth_pictures(6, np.random.default_rng(0))


def victim() -> TemplateVictim:
    return TemplateVictim(PICTURES)


@given(one=ACCESSES, other=ACCESSES)
def test_closure_is_a_closure(one: frozenset[Access], other: frozenset[Access]) -> None:
    assert closure(one) >= one
    assert closure(closure(one)) == closure(one)
    assert closure(one | other) == closure(one) | closure(other)
    if one <= other:
        assert closure(one) <= closure(other)


@given(granted=ACCESSES, needed=ACCESSES)
def test_allowed_is_what_the_closure_holds(granted: frozenset[Access], needed: frozenset[Access]) -> None:
    assert allows(granted, needed) == (needed <= closure(granted))
    assert allows(granted, ())


def test_seeing_less_never_opens_more() -> None:
    ladder = [Access.LABELS, Access.TOP_K, Access.SCORES, Access.LOGITS, Access.WEIGHTS]
    for low, high in combinations(ladder, 2):
        assert allows({high}, {low})
        assert not allows({low}, {high})
    for apart in (Access.UPDATES, Access.EMBEDDINGS):
        assert closure({apart}) == {apart}


class MeterMachine(RuleBasedStateMachine):
    """Any sequence of charges: what was let through is counted, what was refused is not, the budget holds."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[int] = []
        self.meter = Meter(20, self.told.append)
        self.paid: dict[Access, int] = {}

    @rule(n=st.integers(0, 25), access=st.sampled_from([Access.LABELS, Access.SCORES]))
    def charge(self, n: int, access: Access) -> None:
        left = 20 - sum(self.paid.values())
        if n > left:
            with pytest.raises(BudgetExceeded, match=f"{n} more queries were asked with {left} left of 20"):
                self.meter.charge(n, access)
        else:
            self.meter.charge(n, access)
            self.paid[access] = self.paid.get(access, 0) + n

    @invariant()
    def adds_up(self) -> None:
        spent = sum(self.paid.values())
        assert self.meter.spent == spent <= 20
        assert self.meter.remaining == 20 - spent
        assert self.meter.by_access == self.paid
        assert not self.told or self.told[-1] == spent


TestMeterMachine = MeterMachine.TestCase
TestMeterMachine.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)


def test_a_meter_without_a_budget_refuses_nothing() -> None:
    meter = Meter()
    meter.charge(10**9, Access.LABELS)
    assert meter.remaining is None
    assert meter.spent == 10**9


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match="zero or more, got -1"):
        Meter(-1)


def test_what_the_meter_tells_cannot_be_used_to_change_it() -> None:
    meter = Meter(5)
    meter.charge(2, Access.LABELS)
    meter.by_access[Access.LABELS] = 0
    assert meter.by_access == {Access.LABELS: 2}


class TestCharging:
    def test_the_last_query_of_the_budget_is_answered_and_the_next_refused(self) -> None:
        target = Target(victim(), {Access.SCORES}, budget=6)
        target.scores(PICTURES)
        assert target.remaining == 0
        target.scores(PICTURES[:0])
        with pytest.raises(BudgetExceeded):
            target.labels(PICTURES[:1])
        assert target.queries == 6

    def test_a_refused_query_costs_nothing_and_asks_nothing(self) -> None:
        asked: list[int] = []

        class Listens(TemplateVictim):
            def predict(self, x: Any) -> Any:
                asked.append(len(x))
                return super().predict(x)

        target = Target(Listens(PICTURES), {Access.SCORES}, budget=4)
        with pytest.raises(BudgetExceeded):
            target.scores(PICTURES)
        assert asked == []
        assert target.queries == 0

    def test_a_query_that_crashes_is_counted(self) -> None:
        class Crashes(TemplateVictim):
            def predict(self, x: Any) -> Any:
                raise RuntimeError("the endpoint went away")

        target = Target(Crashes(PICTURES), {Access.SCORES}, budget=10)
        with pytest.raises(RuntimeError, match="went away"):
            target.scores(PICTURES)
        assert target.queries == 6

    def test_a_denied_or_malformed_query_costs_nothing(self) -> None:
        target = Target(victim(), {Access.LABELS}, budget=10)
        with pytest.raises(AccessDenied, match="was given labels and asked for scores"):
            target.scores(PICTURES)
        with pytest.raises(DataError, match="should have shape"):
            target.labels(PICTURES[:, :, :5])
        with pytest.raises(DataError, match="NaN"):
            target.labels(PICTURES * np.float32("nan"))
        with pytest.raises(DataError, match="should lie in"):
            target.labels(PICTURES + 3)
        assert target.queries == 0

    def test_every_access_is_counted_under_its_own_name(self) -> None:
        target = Target(victim(), {Access.WEIGHTS, Access.EMBEDDINGS})
        target.labels(PICTURES[:1])
        target.top_k(PICTURES[:2], 2)
        target.scores(PICTURES[:3])
        target.logits(PICTURES[:4])
        target.embeddings(PICTURES[:5])
        target.weights()(torch.from_numpy(PICTURES))
        assert list(target.meter.by_access.values()) == [1, 2, 3, 4, 5, 6]
        assert target.queries == 21

    def test_progress_is_told_after_every_charge(self) -> None:
        told: list[int] = []
        target = Target(victim(), {Access.SCORES}, on_charge=told.append)
        target.scores(PICTURES[:2])
        target.labels(PICTURES[:3])
        assert told == [2, 5]


class TestNarrowing:
    def test_answers_agree_with_each_other(self) -> None:
        model = victim()
        target = Target(model, {Access.LOGITS})
        scores = target.scores(PICTURES)
        np.testing.assert_array_equal(scores, model.predict(PICTURES))
        np.testing.assert_array_equal(target.labels(PICTURES), scores.argmax(axis=1))
        np.testing.assert_array_equal(target.logits(PICTURES), model.logits(PICTURES))
        order, top = target.top_k(PICTURES, 3)
        assert order.shape == top.shape == (6, 3)
        assert (np.diff(top, axis=1) <= 0).all()
        np.testing.assert_array_equal(top, np.take_along_axis(scores, order, axis=1))

    @pytest.mark.parametrize("opened", [Access.LABELS, Access.TOP_K, Access.SCORES, Access.LOGITS])
    def test_nothing_above_what_is_opened_is_answered(self, opened: Access) -> None:
        target = Target(victim(), {opened})
        for access, ask in {
            Access.LABELS: target.labels,
            Access.TOP_K: lambda x: target.top_k(x, 2),
            Access.SCORES: target.scores,
            Access.LOGITS: target.logits,
            Access.EMBEDDINGS: target.embeddings,
            Access.WEIGHTS: lambda x: target.weights(),
        }.items():
            if access in closure({opened}):
                ask(PICTURES)
            else:
                with pytest.raises(AccessDenied):
                    ask(PICTURES)

    def test_what_the_victim_cannot_give_is_refused_on_opening(self) -> None:
        plain = membership_case(0).victim
        with pytest.raises(AccessDenied, match="an attack that needs weights cannot be run on it"):
            Target(plain, {Access.WEIGHTS})
        with pytest.raises(AccessDenied, match="the victim offers updates"):
            Target(Update({}), iter([Access.SCORES]))

    def test_only_what_such_a_victim_has_counts_as_opened(self) -> None:
        """Weights give text where there is text; on a classifier the record must not say so."""
        assert Access.TEXT not in Target(victim(), {Access.WEIGHTS}).access
        assert Target(Updates((Update({}),)), {Access.UPDATES}).access == {Access.UPDATES}

    def test_questions_of_another_kind_are_denied(self) -> None:
        target = Target(victim(), {Access.SCORES})
        for ask in (target.update, lambda: target.generate(["a"], 1), lambda: target.logprobs(["a"])):
            with pytest.raises(AccessDenied):
                ask()


class TestHiding:
    def test_the_victim_cannot_be_reached_from_the_target(self) -> None:
        model = victim()
        target = Target(model, {Access.WEIGHTS})
        assert reached(target, [model]) is None
        target.scores(PICTURES)
        target.weights()
        assert reached(target, [model]) is None

    def test_the_search_would_find_it(self) -> None:
        """A bound method carries the victim: the search sees through it, as an attack could."""
        model = victim()
        target = Target(model, {Access.SCORES})
        target._ask["predict"] = model.predict
        path = reached(target, [model])
        assert path is not None
        assert path.endswith("__self__")

    def test_the_network_is_not_among_its_own_layers(self) -> None:
        """Called as a layer, its passes would not be counted."""
        box = Target(victim(), {Access.WEIGHTS}).weights()
        assert "" not in box.layers
        assert set(box.parameters()) == {"templates"}


# Several models


def _several(models: int = 3) -> Models:
    spec = InputSpec((2,), modality=Modality.TABLE)
    return Models(tuple(ConstantVictim([0.5 - 0.1 * i, 0.5 + 0.1 * i], spec) for i in range(models)))


def test_one_of_several_models_is_asked_with_the_whole_budget() -> None:
    target = Target(_several(), {Access.SCORES}, budget=5)
    x = np.zeros((3, 2), dtype=np.float32)
    assert target.models == 3
    assert target.model(1).scores(x)[0, 1] == pytest.approx(0.6)
    assert target.model(2).scores(x)[0, 1] == pytest.approx(0.7)
    # What an attack has spent is what it asked of the model that it asked most.
    assert target.queries == 3
    target.model(1).labels(x[:2])
    assert target.queries == 5
    assert target.meter.by_access == {Access.SCORES: 3, Access.LABELS: 2}
    # The same model again goes on where it was: nobody gets a second budget.
    with pytest.raises(BudgetExceeded):
        target.model(1).scores(x[:1])
    assert target.queries == 5
    target.model(0).scores(x)
    target.model(0).labels(x[:2])
    target.model(2).labels(x[:2])
    assert target.queries == 5


def test_what_models_are_asked_by_different_accesses_is_not_added_up() -> None:
    target = Target(_several(), {Access.SCORES}, budget=5)
    x = np.zeros((5, 2), dtype=np.float32)
    target.model(0).scores(x[:4])
    target.model(1).labels(x)
    assert target.queries == 5
    assert sum(target.meter.by_access.values()) == 5


def test_several_models_open_what_each_of_them_gives() -> None:
    target = Target(_several(), {Access.LABELS})
    x = np.zeros((1, 2), dtype=np.float32)
    with pytest.raises(AccessDenied):
        target.model(0).scores(x)
    with pytest.raises(AccessDenied):
        target.scores(x)
    for number in (-1, 3):
        with pytest.raises(DataError, match="from 0 to 2"):
            target.model(number)
    alone = Target(ConstantVictim([0.5, 0.5], InputSpec((2,), modality=Modality.TABLE)), {Access.LABELS})
    with pytest.raises(DataError, match="a model from"):
        alone.model(0)
