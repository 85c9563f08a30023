"""Output defenses: what they may change, and what must stay out of reach behind them."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from seepage.core.errors import AccessDenied, ConfigError
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.registry import defense_class
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import GivesEmbeddings, GivesLogits, GivesWeights, Model, Update
from seepage.core.vocabulary import Access
from seepage.defenses.outputs.labels import LabelsOnly
from seepage.defenses.outputs.rounding import Round
from seepage.defenses.outputs.topk import TopK
from seepage.defenses.outputs.wrapped import ANSWERS, DefendedModel

SPEC = InputSpec((1, 2, 2))
PROBABILITIES = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(2, 6)), elements=st.floats(0, 1, width=32))


@dataclass(frozen=True)
class Open:
    """A victim that would give everything."""

    classes: int = 4
    family: str = "linear"
    offers: frozenset[Access] = frozenset({Access.WEIGHTS})
    spec: InputSpec = SPEC

    def logits(self, x):
        return np.stack([x.sum(axis=(1, 2, 3)) * k for k in range(self.classes)], axis=1)

    def predict(self, x):
        weight = np.exp(self.logits(x))
        return (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)

    def embeddings(self, x):
        return x.reshape(len(x), -1)

    def differentiable(self):
        return None


def _x(n=5):
    return np.random.default_rng(81).random((n, 1, 2, 2)).astype(np.float32)


RNG = np.random.default_rng(82)


@given(PROBABILITIES, st.integers(0, 10))
@settings(deadline=None)
def test_rounding_twice_is_rounding_once(scores, digits):
    once = Round(digits=digits).answer(scores)
    assert once.dtype == np.float32
    np.testing.assert_array_equal(Round(digits=digits).answer(once), once)


@given(PROBABILITIES, st.integers(0, 10))
@settings(deadline=None)
def test_no_score_moves_further_than_half_a_digit(scores, digits):
    moved = np.abs(Round(digits=digits).answer(scores).astype(float) - scores.astype(float)).max()
    assert moved <= 0.5 * 10.0**-digits + 6e-8


def test_more_digits_never_tell_less():
    scores = np.random.default_rng(83).dirichlet(np.ones(10), 2000).astype(np.float32)
    answers = [Round(digits=digits).answer(scores) for digits in range(11)]
    distortion = [np.abs(answer - scores).max() for answer in answers]
    distinct = [len(np.unique(answer)) for answer in answers]
    assert distortion == sorted(distortion, reverse=True)
    assert distinct == sorted(distinct)
    assert all(count <= 10**digits + 1 for digits, count in enumerate(distinct))


def test_only_answers_leave_a_defended_model():
    defended = Round(digits=1).wrap(Open(), RNG)
    assert isinstance(defended, Model)
    assert defended.offers == ANSWERS
    for more in (GivesLogits, GivesEmbeddings, GivesWeights):
        assert isinstance(Open(), more)
        assert not isinstance(defended, more)
    for access in (Access.WEIGHTS, Access.LOGITS, Access.EMBEDDINGS):
        with pytest.raises(AccessDenied):
            Target(defended, {access})
    target = Target(defended, {Access.SCORES})
    with pytest.raises(AccessDenied):
        target.weights()
    np.testing.assert_array_equal(target.scores(_x()), np.round(Open().predict(_x()), 1))
    assert (defended.spec, defended.classes, defended.family) == (SPEC, 4, "linear")


def test_the_model_inside_cannot_be_reached_by_name():
    inside = Open()
    defended = DefendedModel(inside, lambda scores: scores)
    reachable = [getattr(defended, name) for name in dir(defended) if not name.startswith("__")]
    assert not any(thing is inside or getattr(thing, "__self__", None) is inside for thing in reachable)
    assert not hasattr(defended, "__dict__")


def test_a_defense_opens_nothing_its_model_kept_shut():
    labels_only = Open(offers=frozenset({Access.LABELS}))
    assert Round().wrap(labels_only, RNG).offers == frozenset({Access.LABELS})
    narrowed = DefendedModel(Open(), lambda scores: scores, frozenset({Access.LABELS, Access.WEIGHTS}))
    assert narrowed.offers == frozenset({Access.LABELS})
    twice = Round(digits=1).wrap(Round(digits=3).wrap(Open(), RNG), RNG)
    assert twice.offers == ANSWERS


def test_labels_are_read_off_the_rounded_scores():
    """The likeliest class stays where no tie hides it; a tie is the lowest class."""
    scores = np.array([[0.1, 0.2, 0.7], [0.31, 0.33, 0.36], [0.2, 0.39, 0.41]], dtype=np.float32)

    @dataclass(frozen=True)
    class Fixed(Open):
        classes: int = 3

        def predict(self, x):
            return scores

    ask = {d: Target(Round(digits=d).wrap(Fixed(), RNG), {Access.LABELS}).labels(_x(3)).tolist() for d in (0, 1, 2)}
    assert ask[2] == scores.argmax(axis=1).tolist() == [2, 2, 2]
    assert ask[1] == [2, 2, 1]
    assert ask[0] == [2, 0, 0]


def test_the_recipe_behind_rounding_trains_rounded_models():
    """What an adversary who knows the defense trains as references."""
    records = Records(_x(8), np.tile(np.arange(4), 2))
    recipe = Round(digits=1).on_recipe(Recipe(lambda data, seed: Open(), records, "fit"))
    fitted = recipe.fit(np.arange(8), 0)
    assert isinstance(fitted, DefendedModel)
    assert recipe.name == "fit+round"
    np.testing.assert_array_equal(fitted.predict(_x()), np.round(fitted.predict(_x()), 1))


def test_rounding_needs_a_classifier_and_sensible_digits():
    with pytest.raises(ConfigError, match="does not act on a Update"):
        Round().on_victim(Update({}), RNG)
    for digits in (-1, 11):
        with pytest.raises(ValidationError):
            Round(digits=digits)
    assert defense_class("round") is Round
    assert Round(digits=3).resolution == pytest.approx(1e-3)
    assert Round.model_validate_json(Round(digits=3).model_dump_json()) == Round(digits=3)


# --- labels only, and the likeliest classes only


@given(PROBABILITIES)
@settings(deadline=None)
def test_labels_alone_are_one_hot_at_the_likeliest_class(scores):
    rows = LabelsOnly().answer(scores)
    assert rows.dtype == np.float32
    assert ((rows == 0) | (rows == 1)).all()
    np.testing.assert_array_equal(rows.sum(axis=1), 1)
    np.testing.assert_array_equal(rows.argmax(axis=1), scores.argmax(axis=1))
    np.testing.assert_array_equal(LabelsOnly().answer(rows), rows)


def test_labels_alone_tell_no_more_than_which_class():
    """Scores of one order give one answer, however sure they are."""
    sure, unsure = np.array([[0.01, 0.98, 0.01]]), np.array([[0.33, 0.34, 0.33]])
    np.testing.assert_array_equal(LabelsOnly().answer(sure), LabelsOnly().answer(unsure))
    victim = LabelsOnly().wrap(Open(), RNG)
    assert victim.offers == frozenset({Access.LABELS})
    np.testing.assert_array_equal(Target(victim, {Access.LABELS}).labels(_x()), Open().predict(_x()).argmax(axis=1))
    for access in (Access.TOP_K, Access.SCORES, Access.LOGITS, Access.WEIGHTS):
        with pytest.raises(AccessDenied):
            Target(victim, {access})


@given(PROBABILITIES, st.integers(1, 7))
@settings(deadline=None)
def test_the_k_greatest_scores_are_answered_as_they_are(scores, k):
    rows = TopK(k=k).answer(scores)
    shown = min(k, scores.shape[1])
    greatest = -np.sort(-scores, axis=1)[:, :shown]
    np.testing.assert_array_equal(-np.sort(-rows, axis=1)[:, :shown], greatest)
    assert ((rows == scores) | (rows == 0)).all()
    assert ((rows != 0).sum(axis=1) <= k).all()
    np.testing.assert_array_equal(rows.argmax(axis=1), scores.argmax(axis=1))
    np.testing.assert_array_equal(TopK(k=k).answer(rows), rows)


def test_of_classes_tied_for_the_last_place_the_lower_are_answered():
    rows = TopK(k=2).answer(np.array([[0.2, 0.4, 0.2, 0.2]], dtype=np.float32))
    np.testing.assert_array_equal(rows, np.array([[0.2, 0.4, 0.0, 0.0]], dtype=np.float32))


def test_more_classes_answered_never_tell_less():
    scores = np.random.default_rng(84).dirichlet(np.ones(6), 500).astype(np.float32)
    told = [TopK(k=k).answer(scores).sum(axis=1) for k in range(1, 8)]
    assert all((more >= less).all() for less, more in pairwise(told))
    np.testing.assert_array_equal(TopK(k=6).answer(scores), scores)
    np.testing.assert_array_equal(TopK(k=9).answer(scores), scores)


def test_the_likeliest_classes_can_be_had_behind_a_mask_and_the_scores_cannot():
    victim = TopK(k=2).wrap(Open(), RNG)
    assert victim.offers == frozenset({Access.TOP_K, Access.LABELS})
    with pytest.raises(AccessDenied):
        Target(victim, {Access.SCORES})
    behind, bare = Target(victim, {Access.TOP_K}), Target(Open(), {Access.TOP_K})
    for got, was in zip(behind.top_k(_x(), 2), bare.top_k(_x(), 2), strict=True):
        np.testing.assert_array_equal(got, was)
    assert (behind.top_k(_x(), 4)[1][:, 2:] == 0).all()
    with pytest.raises(ValidationError):
        TopK(k=0)


def test_masks_and_rounding_stand_behind_each_other():
    """Whichever stands in front, no more leaves than the stricter of the two lets through."""
    orders = [
        TopK(k=2).wrap(LabelsOnly().wrap(Open(), RNG), RNG),
        LabelsOnly().wrap(TopK(k=2).wrap(Open(), RNG), RNG),
        Round(digits=1).wrap(LabelsOnly().wrap(Open(), RNG), RNG),
    ]
    for victim in orders:
        assert victim.offers == frozenset({Access.LABELS})
        rows = victim.predict(_x())
        np.testing.assert_array_equal(rows, np.eye(4)[Open().predict(_x()).argmax(axis=1)])
