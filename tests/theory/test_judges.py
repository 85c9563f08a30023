"""Judges: independent of the victim or said not to be, sane on few classes, with features that mean likeness."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from seepage.cases.inversion import build, obstacle
from seepage.cases.world import World
from seepage.core.errors import ConfigError
from seepage.core.records import Records, row_digests
from seepage.core.secrets import GivesFeatures, InversionSecret
from seepage.core.spec import Bounds, InputSpec
from seepage.core.vocabulary import Modality
from seepage.data import load_builtin
from seepage.models.judges import fit_judge
from seepage.testing.cases import smooth_pictures
from seepage.testing.judges import TemplateJudge
from seepage.testing.victims import TemplateVictim

NAMES = tuple("abcdef")


def _people(seed: int, each: int, classes: int = 6, side: int = 12) -> Records:
    """Noisy pictures of the same people, whatever the seed."""
    things = smooth_pictures(classes, np.random.default_rng(7), side)
    y = np.repeat(np.arange(classes), each)
    x = things[y] + 0.05 * np.random.default_rng(seed).standard_normal((len(y), 1, side, side))
    return Records(x.clip(0, 1).astype(np.float32), y, NAMES[:classes])


def _world(nonmembers: Records | None, members: Records | None = None, own=None) -> World:
    members = _people(1, 6) if members is None else members
    spec = InputSpec(members.x.shape[1:])
    victim = TemplateVictim(np.stack([members.of_class(c).x.mean(axis=0) for c in range(len(members.class_names))]))
    return World(open_victim=lambda: victim, spec=spec, members=members, nonmembers=nonmembers, own_judge=own, seed=3)


# --- independence


@dataclass
class Own:
    """A judge brought by the user."""

    trained_on: object
    family: str = "own"

    @property
    def facts(self) -> dict[str, float | str | None]:
        return {}

    def predict(self, x):
        return np.full((len(x), 6), 1 / 6)


def test_a_judge_that_learned_from_members_is_refused():
    members = _people(1, 6)
    mixed = _people(2, 6).joined(members[np.array([3, 8])])
    for trained_on in (mixed, row_digests(mixed.x), list(row_digests(members.x[[3, 8]]))):
        with pytest.raises(ConfigError, match=r"learned from 2 of the 36 members.*other records of the same classes"):
            _world(None, own=Own(trained_on))
    for trained_on in (None, _people(2, 6), row_digests(_people(2, 6).x), ()):
        own = Own(trained_on)
        assert _world(None, own=own).judge is own
    for wrong in (members.x, "members", [1, 2]):
        with pytest.raises(ConfigError, match="`trained_on` should be Records, or digests"):
            _world(None, own=Own(wrong))


def test_digests_are_of_the_values_and_not_of_how_they_are_stored():
    members = _people(1, 6)
    object.__setattr__(wide := _people(1, 6), "x", members.x.astype(np.float64))
    with pytest.raises(ConfigError, match="learned from 36 of the 36"):
        _world(None, own=Own(wide))


def test_training_a_judge_on_members_is_refused():
    members, others = _people(1, 6), _people(2, 6)
    options = {"held_out": members, "spec": InputSpec((1, 12, 12)), "kind": "trees", "avoid": "cnn", "seed": 0}
    with pytest.raises(ConfigError, match="1 of the 37 records for the judge are among the members"):
        fit_judge(others.joined(members[np.array([5])]), members=members, **options)
    judge = fit_judge(others, members=members, **options)
    assert judge.facts["trained_on"] == "36 non-members"


# --- without non-members


def test_without_non_members_half_of_the_members_train_the_judge_and_it_says_so():
    world = _world(None)
    assert obstacle(world) is None
    judge = world.judge
    assert judge is not None
    assert judge.facts["trained_on"] == "18 held-out members: weaker, the victim saw them too"
    learned, members = set(row_digests(judge.trained_on.x)), row_digests(world.members.x)
    assert learned < set(members)
    rest = world.members[np.array([one not in learned for one in members])]
    assert np.bincount(rest.labels()).tolist() == [3] * 6
    assert judge.facts["held_out"] == 18
    accuracy = float((judge.predict(rest.x).argmax(axis=1) == rest.labels()).mean())
    assert judge.facts["accuracy_held_out"] == accuracy > 0.9
    assert world.judge_missing is None
    secret = build(world).secret
    assert isinstance(secret, InversionSecret)
    assert secret.judge is judge


def test_the_half_does_not_depend_on_anything_but_the_seed():
    first, second = _world(None).judge, _world(None).judge
    np.testing.assert_array_equal(first.trained_on.x, second.trained_on.x)


def test_non_members_come_first_and_too_few_of_them_do_not_count():
    both = _world(_people(2, 4)).judge
    assert both.facts["trained_on"] == "24 non-members"
    assert not set(row_digests(both.trained_on.x)) & set(row_digests(_people(1, 6).x))
    for few in (_people(2, 1), Records(_people(2, 4).x), _people(2, 4)[np.arange(8)]):
        assert "held-out members" in _world(few).judge.facts["trained_on"]


def test_what_is_missing_is_said():
    three = _people(1, 3)
    assert "non-members with classes" in _world(None, three).judge_missing
    assert "4 different members of every class" in _world(None, three).judge_missing
    assert "6 classes have fewer" in _world(_people(2, 1), three).judge_missing
    assert _world(None, three).judge is None
    assert "cannot be judged" in obstacle(_world(None, three))
    assert _world(_people(2, 2), three).judge_missing is None


def test_copies_of_a_record_are_never_on_both_sides():
    copied = _people(1, 4)
    copied = copied.joined(copied)
    world = _world(None, copied)
    learned = set(row_digests(world.judge.trained_on.x))
    assert world.judge.facts["held_out"] == 24
    assert len(learned) == 12
    one = copied[np.arange(24) // 4 * 4]
    assert _world(None, one).judge_missing is not None


# --- sanity


def test_two_classes_and_eight_pixels():
    """Chance for two classes is even odds: a judge that was sure of noise would tell nothing."""
    for side, kind in ((8, "tree"), (28, "fixed-features")):
        records, held = _people(11, 8, 2, side), _people(12, 8, 2, side)
        spec = InputSpec((1, side, side))
        judge = fit_judge(records, held_out=held, spec=spec, kind="auto", avoid="cnn", seed=0, members=held)
        assert judge.family == kind
        said = judge.predict(held.x)
        assert said.shape == (16, 2)
        np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-6)
        assert judge.facts["accuracy_held_out"] == 1
        assert 0.3 < judge.facts["false_positives_noise"] < 0.7
        assert 0.5 <= judge.facts["top_confidence_noise"] < said.max(axis=1).mean()
        assert judge.features(held.x).shape[0] == 16


def test_digits_are_told_apart():
    digits = load_builtin("digits")
    rows = np.random.default_rng(0).permutation(len(digits))
    spec = InputSpec(digits.x.shape[1:], Bounds.of(float(digits.x.min()), float(digits.x.max())))
    judge = fit_judge(digits[rows[:600]], held_out=digits[rows[600:1000]], spec=spec, kind="auto", avoid="cnn", seed=0)
    assert judge.facts["accuracy_held_out"] > 0.93
    assert judge.facts["top_confidence_noise"] < 0.5


# --- features


def _table(rng, each):
    y = np.repeat(np.arange(4), each)
    centres = np.random.default_rng(21).uniform(-5, 25, size=(4, 6))
    x = np.clip(centres[y] + rng.normal(size=(len(y), 6)), -10, 30).astype(np.float32)
    return Records(x, y, NAMES[:4], modality=Modality.TABLE)


@cache
def _judge(kind):
    rng = np.random.default_rng(20)
    if kind == "fixed-features":
        spec, records, held = InputSpec((1, 24, 24)), _people(1, 5, side=24), _people(2, 5, side=24)
    else:
        spec, records, held = InputSpec((6,), Bounds.of(-10.0, 30.0), Modality.TABLE), _table(rng, 8), _table(rng, 8)
    return fit_judge(records, held_out=held, spec=spec, kind=kind, avoid="cnn", seed=0), held


@pytest.mark.parametrize("kind", ["fixed-features", "trees", "discriminant"])
def test_records_of_one_class_lie_together_in_the_features_of_every_judge(kind):
    judge, held = _judge(kind)
    assert isinstance(judge, GivesFeatures)
    found = judge.features(held.x)
    assert found.shape[0] == len(held)
    assert np.isfinite(found).all()
    # One record at a time gives what all give together.
    np.testing.assert_allclose(judge.features(held.x[:1]), found[:1], atol=1e-5)
    y = held.labels()
    apart = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (y[apart.argmin(axis=1)] == y).mean() > 0.9
    # Moving towards somebody else's record is moving away from one's own class.
    i, j = 0, len(held) - 1
    steps = [held.x[i : i + 1] * (1 - t) + held.x[j : j + 1] * t for t in (0, 0.5, 1)]
    away = [np.linalg.norm(judge.features(one) - found[1:3], axis=1).min() for one in steps]
    assert away[0] < away[1] < away[2]


def test_pictures_have_as_many_features_as_tell_people_apart():
    judge, held = _judge("fixed-features")
    assert judge.features(held.x).shape == (len(held), 2 * (6 - 1))
    # A mirror image is the same person.
    np.testing.assert_allclose(judge.features(held.x[:2, :, :, ::-1].copy()), judge.features(held.x[:2]), atol=1e-3)


def test_the_templates_judge_gives_the_values():
    judge = TemplateJudge(_people(1, 1).x)
    assert judge.features(_people(2, 1).x).shape == (6, 144)
