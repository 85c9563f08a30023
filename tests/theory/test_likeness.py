"""Likeness in a feature space: against brute force, closed forms and chance."""

import math
import re

import numpy as np
import pytest
from scipy.linalg import sqrtm

from seepage.core.errors import DataError
from seepage.core.guess import Reconstruction
from seepage.core.records import Records
from seepage.core.scorer import Controls
from seepage.core.secrets import InversionSecret
from seepage.scoring.inversion import score
from seepage.scoring.likeness import NEIGHBOURS, frechet, frechet_of_normals, overlap, radii

MEASURES = ("precision", "recall", "density", "coverage")
ALIKE = ("nearer_private", *MEASURES)


def _overlap(fakes, *reals, k=NEIGHBOURS):
    return overlap(fakes, reals, [radii(one, k) for one in reals], k)


# --- the measures themselves


@pytest.mark.parametrize(("m", "n"), [(7, 12), (25, 12), (4, 40)])
def test_they_agree_with_counting_by_hand(m, n):
    rng = np.random.default_rng(m)
    fakes, reals = rng.normal(0.3, 1, size=(m, 3)), rng.normal(size=(n, 3))

    def ball(points, i, k=3):
        apart = sorted(math.dist(points[i], points[j]) for j in range(len(points)) if j != i)
        return apart[k - 1]

    def holds(points, i, other):
        return math.dist(points[i], other) < ball(points, i)

    found = _overlap(fakes, reals[:5], reals)
    assert found.precision[1] == pytest.approx(np.mean([any(holds(reals, i, y) for i in range(n)) for y in fakes]))
    assert found.recall[1] == pytest.approx(np.mean([any(holds(fakes, j, x) for j in range(m)) for x in reals]))
    assert found.density[1] == pytest.approx(sum(holds(reals, i, y) for i in range(n) for y in fakes) / (3 * m))
    assert found.coverage[1] == pytest.approx(np.mean([any(holds(reals, i, y) for y in fakes) for i in range(n)]))


def test_equal_sets_overlap_wholly_and_distant_ones_not_at_all():
    points = np.random.default_rng(0).normal(size=(9, 4))
    same, apart = _overlap(points, points.copy()), _overlap(points + 100, points)
    for name in MEASURES:
        assert getattr(same, name) == [1.0], name
        assert getattr(apart, name) == [0.0], name


def test_copies_of_one_record_are_no_hole_in_it():
    """Four equal records have balls of no size, which still hold a fifth."""
    copies = np.repeat([[1.0, 2.0]], 4, axis=0)
    assert _overlap(copies[:1], copies).precision == [1.0]
    assert _overlap(copies[:1] + 1e-9, copies).precision == [0.0]


@pytest.mark.parametrize(("m", "n"), [(8, 8), (40, 10), (6, 30)])
def test_of_fakes_drawn_like_the_reals_density_is_one_and_coverage_as_naeem_proves(m, n):
    """Whatever m / n: density over m n / k instead of m would be off by it, as it is in peers' code.

    A new point is as likely to be of any rank among the neighbours of a real one. So a ball holds it with
    probability k/n, and holds none of m with probability C(n - 1, k) / C(n + m - 1, k) (Naeem et al. 2020, lemma 2).
    """
    rng = np.random.default_rng(1000 * m + n)
    found = [_overlap(rng.normal(size=(m, 2)), rng.normal(size=(n, 2))) for _ in range(800)]
    density, coverage = (np.array([getattr(one, name)[0] for one in found]) for name in ("density", "coverage"))
    expected = 1 - math.comb(n - 1, NEIGHBOURS) / math.comb(n + m - 1, NEIGHBOURS)
    assert density.mean() == pytest.approx(1, abs=4 * density.std() / math.sqrt(len(found)))
    assert coverage.mean() == pytest.approx(expected, abs=4 * coverage.std() / math.sqrt(len(found)))
    assert abs(m / n - 1) < 1e-9 or abs(m / n - 1) > 20 * density.std() / math.sqrt(len(found))


def test_too_few_points_give_no_value():
    points = np.random.default_rng(2).normal(size=(10, 2))
    assert np.isnan(radii(points[:3])).all()
    few_fakes = _overlap(points[:3], points)
    assert np.isnan(few_fakes.recall)
    assert np.isfinite([few_fakes.precision, few_fakes.density, few_fakes.coverage]).all()
    few_reals = _overlap(points, points[:3], points)
    for name in MEASURES:
        assert np.isnan(getattr(few_reals, name)).tolist() == [name != "recall", False]
    for fakes, reals in ((points[:0], [points]), (points, [points, points[:0]]), (points, [])):
        with pytest.raises(DataError, match="fakes and reals were wanted"):
            _overlap(fakes, *reals)


def test_the_frechet_distance_of_normals_is_the_closed_form():
    rng = np.random.default_rng(3)
    mean = rng.normal(size=(2, 5))
    spread = rng.uniform(0.5, 2, size=(2, 5))
    # Along common axes it is |m - m'|² + Σ (s - s')².
    commuting = ((mean[0] - mean[1]) ** 2).sum() + ((spread[0] - spread[1]) ** 2).sum()
    found = frechet_of_normals(mean[0], np.diag(spread[0] ** 2), mean[1], np.diag(spread[1] ** 2))
    assert found == pytest.approx(commuting)
    a, b = (np.cov(rng.normal(size=(5, 20)) * 2) for _ in range(2))
    general = ((mean[0] - mean[1]) ** 2).sum() + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert frechet_of_normals(mean[0], a, mean[1], b) == pytest.approx(general)
    assert frechet_of_normals(mean[1], b, mean[0], a) == pytest.approx(general)


def test_the_frechet_distance_of_sets():
    rng = np.random.default_rng(4)
    points = rng.normal(size=(20, 30))
    assert frechet(points, points.copy()) == pytest.approx(0, abs=1e-9)
    # A shift alone leaves the covariances as they are, few points or not.
    assert frechet(points, points + 0.5) == pytest.approx(30 * 0.25)
    many = rng.normal(size=(6000, 3)) * [1, 2, 3]
    assert frechet(many, 2 * many + 1) == pytest.approx(3 + 1 + 4 + 9, rel=0.05)
    assert frechet(points[:1], points) is None


# --- as scores

CLASSES = 12
EACH = 6
RNG = np.random.default_rng(50)
CENTRES = RNG.normal(size=(CLASSES, 8)).astype(np.float32)
STRANGERS = RNG.normal(size=(40, 8)).astype(np.float32)


class Seeing:
    """Nearest centre, and the values themselves as features."""

    family = "nearest mean"

    @property
    def facts(self) -> dict[str, float | str | None]:
        return {}

    def predict(self, x):
        gap = ((x[:, None] - CENTRES[None]) ** 2).sum(axis=2)
        weight = np.exp(-2 * (gap - gap.min(axis=1, keepdims=True)))
        return weight / weight.sum(axis=1, keepdims=True)

    def features(self, x):
        return x.astype(np.float64)


class Blind(Seeing):
    features = None  # type: ignore[assignment]


def _records(rng, each=EACH):
    y = np.repeat(np.arange(CLASSES), each)
    x = CENTRES[y] + 0.4 * rng.normal(size=(len(y), 8))
    return Records(x.astype(np.float32), y, tuple(f"s{c}" for c in range(CLASSES)))


def _public(rng):
    return Records((STRANGERS[np.arange(120) % 40] + 0.4 * rng.normal(size=(120, 8))).astype(np.float32))


def _secret(judge=None, public=True, each=EACH):
    rng = np.random.default_rng(51)
    return InversionSecret(
        records=_records(rng, each), judge=judge or Seeing(), public=_public(rng) if public else None
    )


def _guess(x, labels=None):
    labels = np.arange(len(x)) if labels is None else labels
    return Reconstruction(np.asarray(x, dtype=np.float32), labels)


def _draws(rng, each=1):
    """Like the strangers, and like nobody in particular."""
    y = np.tile(np.arange(CLASSES), each)
    return _guess(STRANGERS[rng.integers(40, size=len(y))] + 0.4 * rng.normal(size=(len(y), 8)), y)


def _wrong(rng, each):
    """Draws of one stranger for each class: where a search goes astray."""
    y = np.tile(np.arange(CLASSES), each)
    return _guess(STRANGERS[rng.permutation(40)[:CLASSES]][y] + 0.4 * rng.normal(size=(len(y), 8)), y)


def test_other_pictures_of_the_same_people_are_found_alike_on_every_measure():
    rng = np.random.default_rng(52)
    other = _records(rng, each=5)
    controls = Controls({"prior_draw": _wrong(rng, 5)}, _wrong(rng, 5))
    scored = score(_guess(other.x, other.labels()), _secret(), controls)
    for name in ALIKE:
        found = scored.scores[name]
        assert found.leakage is not None, found.reason
        assert found.leakage.low > 0, name
        assert found.n == CLASSES
        assert (found.unit, set(found.controls)) == ("class", {"no_model", "null_model"})
    assert scored.scores["nearer_private"].value > 0.8
    assert not scored.notes
    facts = scored.facts
    assert facts["feature_distance_private"] < facts["feature_distance_public"]
    assert facts["feature_distance_private_prior_draw"] > facts["feature_distance_public_prior_draw"]
    assert facts["frechet_reconstruction"] < facts["frechet_public"]
    assert facts["frechet_private"] < facts["frechet_null_model"]
    assert facts["nearer_private_real"] > 0.8
    assert facts["feature_distance_real"] == pytest.approx(facts["feature_distance_private"], rel=0.2)
    assert "6 private records" in facts["likeness_caution"]


def test_density_counts_at_most_one_and_the_whole_stands_in_the_facts():
    scored = score(_guess(CENTRES), _secret(), Controls())
    assert scored.facts["density_uncapped"] > 1.2
    assert scored.scores["density"].value <= 1


def test_recall_is_fooled_by_scattered_draws_and_its_controls_show_it():
    """Balls around draws far from each other hold everything: the weakness that coverage was made for."""
    rng = np.random.default_rng(62)
    scattered = _guess(20 * rng.normal(size=(6 * CLASSES, 8)), np.tile(np.arange(CLASSES), 6))
    scores = score(scattered, _secret(), Controls({"prior_draw": scattered})).scores
    assert scores["recall"].value > 0.8
    assert scores["coverage"].value == 0
    assert scores["recall"].chance > 0.8
    assert scores["recall"].leakage.low <= 0


def test_blending_towards_the_people_never_lowers_a_measure():
    """From somebody else's picture to one of the class's own, all measures rise from none to all."""
    rng = np.random.default_rng(53)
    labels = np.repeat(np.arange(CLASSES), 5)
    start = STRANGERS[rng.integers(40, size=CLASSES)][labels] + 0.4 * rng.normal(size=(len(labels), 8))
    end = CENTRES[labels] + 0.35 * rng.normal(size=(len(labels), 8))
    steps = [score(_guess((1 - t) * start + t * end, labels), _secret(), Controls()) for t in (0, 0.3, 0.6, 1)]
    for name in ALIKE:
        values = [one.scores[name].value for one in steps]
        assert values == sorted(values), (name, values)
        assert values[-1] > values[0] + 0.3, (name, values)
    distance = [one.facts["feature_distance_private"] for one in steps]
    assert distance == sorted(distance, reverse=True)


def test_random_draws_show_no_leakage_on_any_measure():
    """A wrong call at one in forty; each measure alone, over 40 audits of draws against draws."""
    rng = np.random.default_rng(54)
    called, secret = dict.fromkeys(ALIKE, 0), _secret()
    for _ in range(40):
        rounds = Controls({"prior_draw": _draws(rng, 4)}, _draws(rng, 4))
        scored = score(_draws(rng, 4), secret, rounds)
        for name in ALIKE:
            found = scored.scores[name]
            assert (found.p_value < 0.025) == (found.leakage.low > 0)
            called[name] += found.leakage.low > 0
    assert max(called.values()) <= 4, called


def test_against_chance_alone_random_draws_are_called_no_oftener_than_said():
    rng = np.random.default_rng(55)
    called, secret = dict.fromkeys(ALIKE, 0), _secret()
    for _ in range(40):
        scored = score(_draws(rng, 4), secret, Controls())
        for name in ALIKE:
            called[name] += scored.scores[name].leakage.low > 0
    assert max(called.values()) <= 4, called


def test_chance_is_what_the_same_reconstructions_get_when_dealt_to_classes_at_random():
    rng = np.random.default_rng(56)
    secret = _secret()
    other = _records(rng, each=1)
    real, public = secret.records, secret.public
    by_hand = []
    for x in other.x:
        away = math.sqrt(((public.x - x) ** 2).sum(axis=1).min())
        for c in range(CLASSES):
            near = math.sqrt(((real.of_class(c).x - x) ** 2).sum(axis=1).min())
            by_hand.append(float(near < away))
    found = score(_guess(other.x), secret, Controls()).scores["nearer_private"]
    assert found.chance == pytest.approx(np.mean(by_hand))
    # The right class is one of those it may be dealt to.
    assert found.chance >= found.value / CLASSES


def test_one_class_alone_is_dealt_to_all():
    found = score(_guess(CENTRES[3:4], np.array([3])), _secret(), Controls()).scores["nearer_private"]
    assert found.value == 1
    assert found.chance < 0.5


def test_a_public_record_is_never_nearer_to_a_private_one():
    secret = _secret()
    guess = _guess(secret.public.x[:CLASSES])
    assert score(guess, secret, Controls()).scores["nearer_private"].value == 0
    # A record that is both private and public is as near to each.
    both = InversionSecret(records=secret.records, judge=secret.judge, public=Records(secret.records.x))
    mine = _guess(secret.records.x[::EACH])
    assert score(mine, both, Controls()).scores["nearer_private"].value == 0.5


@pytest.mark.parametrize(
    ("secret", "draws", "missing", "reason"),
    [
        (_secret(Blind()), 4, ALIKE, "no features"),
        (_secret(public=False), 4, ("nearer_private",), "no public records"),
        (_secret(), 3, ("recall",), "needs 4 reconstructions or more of a class; the attack returned 3"),
        (_secret(each=3), 4, ("precision", "density", "coverage"), "needs 4 private records .* there are 3"),
    ],
)
def test_what_cannot_be_computed_has_no_value_and_says_why(secret, draws, missing, reason):
    guess = _draws(np.random.default_rng(57), draws)
    scores = score(guess, secret, Controls({"prior_draw": guess}, guess)).scores
    for name in ALIKE:
        if name in missing:
            assert scores[name].value is None
            assert scores[name].leakage is None
            assert re.search(reason, scores[name].reason), scores[name].reason
        else:
            assert scores[name].value is not None


def test_a_control_with_too_few_draws_is_named_as_missing():
    rng = np.random.default_rng(58)
    controls = Controls({"nearest_public": _draws(rng)}, _draws(rng, 2))
    recall = score(_draws(rng, 4), _secret(), controls).scores["recall"]
    assert recall.controls == {"no_model": None, "null_model": None}
    assert "4 guesses" in recall.missing["no_model"]
    assert "4 reconstructions" in recall.missing["null_model"]
    both = Controls({"nearest_public": _draws(rng), "prior_draw": _draws(rng, 4)}, _draws(rng, 4))
    recall = score(_draws(rng, 4), _secret(), both).scores["recall"]
    assert set(recall.no_model_parts) == {"prior_draw"}
    assert not recall.missing


def test_reconstructions_are_not_compared_with_what_the_judge_learned_from():
    """Half of them; the scores are those against the other half."""
    whole = _secret()

    class Learned(Seeing):
        trained_on = whole.records[np.arange(0, len(whole.records), 2)]

    scored = score(_guess(CENTRES), InversionSecret(records=whole.records, judge=Learned()), Controls())
    assert scored.scores["precision"].value is None
    assert "there are 3" in scored.scores["precision"].reason
    rest = whole.records[np.arange(1, len(whole.records), 2)]
    alone = score(_guess(CENTRES), InversionSecret(records=rest, judge=Seeing()), Controls())
    assert scored.facts["feature_distance_private"] == alone.facts["feature_distance_private"]
    assert any("learned from 36 of the 72 members" in note for note in scored.notes)
    assert "frechet_nonmembers" not in scored.facts
    assert not alone.notes


def test_records_that_the_victim_never_saw_are_the_measure_of_the_frechet_distance():
    class Learned(Seeing):
        trained_on = _records(np.random.default_rng(59), each=4)

    facts = score(_draws(np.random.default_rng(60), 4), _secret(Learned()), Controls()).facts
    assert facts["frechet_nonmembers"] < facts["frechet_reconstruction"]
    assert facts["frechet_records"] == 36
    few = score(_guess(CENTRES[:5]), _secret(), Controls()).facts
    assert few["frechet_reconstruction"] is None
    assert "5 records" in few["frechet_unknown"]


def test_features_that_are_none_are_refused():
    class Bent(Seeing):
        def features(self, x):
            return np.full((len(x), 3), np.nan)

    class Short(Seeing):
        def features(self, x):
            return np.zeros((1, 3))

    with pytest.raises(DataError, match="NaN"):
        score(_guess(CENTRES), _secret(Bent()), Controls())
    with pytest.raises(DataError, match="one row of features a record: 72 records"):
        score(_guess(CENTRES), _secret(Short()), Controls())


def test_many_classes_are_dealt_to_fifty_others():
    """People on a ring, each recovered where they are: no class is special."""
    k = 120
    angle = 2 * np.pi * np.arange(k) / k
    centres = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    class Ring(Seeing):
        def predict(self, x):
            return np.full((len(x), k), 1 / k)

    rng = np.random.default_rng(61)
    y = np.repeat(np.arange(k), 4)
    records = Records((centres[y] + 0.1 * rng.normal(size=(len(y), 2))).astype(np.float32), y)
    public = Records(np.zeros((1, 2), dtype=np.float32))
    found = score(
        _guess(centres, np.arange(k)), InversionSecret(records=records, judge=Ring(), public=public), Controls()
    ).scores["nearer_private"]
    # The public record is in the middle, 1 away, as is a sixth of the way round: a third of all classes are nearer.
    assert found.value == 1
    assert found.chance == pytest.approx(1 / 3, abs=0.05)
