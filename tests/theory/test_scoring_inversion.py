"""Class inversion scored by a judge whose answers are known in closed form."""

import math
from dataclasses import replace

import numpy as np
import pytest

from seepage.core.errors import DataError
from seepage.core.guess import Reconstruction, Scores
from seepage.core.record import Estimate, Score
from seepage.core.records import Records
from seepage.core.scorer import Controls
from seepage.core.secrets import InversionSecret, Judge, MembershipSecret
from seepage.scoring.inversion import disagreement, score

CLASSES = 10
SHAPE = (1, 4, 4)
MEANS = np.random.default_rng(41).random((CLASSES, *SHAPE)).astype(np.float32)


class Nearest:
    """Softmax of minus the squared distance to each class mean, sharpened."""

    family = "nearest mean"

    def __init__(self, sharpness: float = 40.0):
        self.sharpness = sharpness

    @property
    def facts(self) -> dict[str, float | str | None]:
        return {"accuracy": 1.0, "judge_noise": None}

    def predict(self, x):
        gap = ((x[:, None] - MEANS[None]) ** 2).reshape(len(x), CLASSES, -1).sum(axis=2)
        logits = -self.sharpness * gap
        weight = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weight / weight.sum(axis=1, keepdims=True)


def _secret(judge=None, noise=0.01) -> InversionSecret:
    rng = np.random.default_rng(42)
    x = np.concatenate([MEANS + noise * k * rng.normal(size=MEANS.shape) for k in range(3)]).astype(np.float32)
    y = np.tile(np.arange(CLASSES), 3)
    names = tuple(f"s{c}" for c in range(CLASSES))
    return InversionSecret(records=Records(x, y, names), judge=judge or Nearest())


def _guess(x, labels=None, confidence=None) -> Reconstruction:
    return Reconstruction(np.asarray(x, dtype=np.float32), np.arange(len(x)) if labels is None else labels, confidence)


def _mismatched() -> Reconstruction:
    """A guess whose parts do not fit, as an attack that is not type-checked could make it."""
    guess = _guess(MEANS)
    object.__setattr__(guess, "confidence", np.ones(3))
    return guess


def _blind(rng, draws=1) -> Reconstruction:
    return _guess(rng.random((CLASSES * draws, *SHAPE)), np.tile(np.arange(CLASSES), draws))


def test_a_perfect_guess_scores_at_the_maximum():
    scored = score(_guess(MEANS), _secret(), Controls())
    for name in ("judge_accuracy_1", "judge_accuracy_5"):
        assert scored.scores[name].value == 1.0
    assert scored.scores["judge_confidence"].value > 0.99
    headline = scored.scores[scored.headline]
    assert scored.headline == "judge_accuracy_1"
    assert (headline.chance, headline.n, headline.unit) == (0.1, CLASSES, "class")
    assert headline.leakage is not None
    assert headline.leakage.value == pytest.approx(0.9)
    assert headline.leakage.low > 0
    assert scored.facts["judge_accuracy"] == 1.0
    assert scored.facts["judge_family"] == "nearest mean"


def test_a_guess_of_the_wrong_people_scores_zero():
    scored = score(_guess(np.roll(MEANS, 1, axis=0)), _secret(), Controls())
    assert scored.scores["judge_accuracy_1"].value == 0.0


def test_a_blind_guess_scores_at_chance():
    """The judge names someone for every picture, whom a blind guess meets once in as many as there are."""
    rng = np.random.default_rng(43)
    found = {name: [] for name in ("judge_accuracy_1", "judge_accuracy_5", "judge_confidence")}
    for _ in range(150):
        scored = score(_blind(rng), _secret(), Controls())
        for name, values in found.items():
            values.append(scored.scores[name].value)
    for name, chance in (("judge_accuracy_1", 0.1), ("judge_accuracy_5", 0.5), ("judge_confidence", 0.1)):
        error = np.std(found[name]) / math.sqrt(len(found[name]))
        assert np.mean(found[name]) == pytest.approx(chance, abs=4 * error)


def test_a_judge_that_cannot_tell_gives_chance_exactly():
    scored = score(_guess(MEANS), _secret(Nearest(sharpness=0.0)), Controls())
    for name, chance in (("judge_accuracy_1", 0.1), ("judge_accuracy_5", 0.5), ("judge_confidence", 0.1)):
        assert scored.scores[name].value == pytest.approx(chance)
        assert scored.scores[name].chance == pytest.approx(chance)


def test_blind_audits_call_a_leak_in_at_most_one_of_forty():
    rng = np.random.default_rng(44)
    called = 0
    for _ in range(70):
        controls = Controls({"prior_draw": _blind(rng, 3)}, _blind(rng))
        headline = score(_blind(rng), _secret(), controls).scores["judge_accuracy_1"]
        assert headline.p_value is not None
        assert headline.leakage is not None
        assert (headline.p_value < 0.025) == (headline.leakage.low > 0)
        called += headline.p_value < 0.025
    assert called <= 5


def test_a_class_with_several_draws_counts_their_mean():
    wrong = np.roll(MEANS, 1, axis=0)
    x = np.concatenate([MEANS, wrong, wrong, MEANS])
    scored = score(_guess(x, np.tile(np.arange(CLASSES), 4)), _secret(), Controls())
    assert scored.scores["judge_accuracy_1"].value == 0.5
    assert scored.scores["judge_accuracy_1"].n == CLASSES
    # Draws of one class do not weigh more than one of another.
    uneven = np.concatenate([MEANS, np.repeat(wrong[:1], 9, axis=0)])
    labels = np.concatenate([np.arange(CLASSES), np.zeros(9, dtype=int)])
    scored = score(_guess(uneven, labels), _secret(), Controls())
    assert scored.scores["judge_accuracy_1"].value == pytest.approx(0.91)


def test_the_best_guess_without_the_model_is_the_control():
    half = np.where(np.arange(CLASSES)[:, None, None, None] < 5, MEANS, np.roll(MEANS, 1, axis=0))
    controls = Controls(
        {"nearest_public": _guess(half), "prior_draw": _guess(np.roll(MEANS, 2, axis=0))},
        _guess(np.roll(MEANS, 3, axis=0)),
    )
    headline = score(_guess(MEANS), _secret(), controls).scores["judge_accuracy_1"]
    assert headline.no_model_parts["nearest_public"].value == 0.5
    assert headline.no_model_parts["prior_draw"].value == 0.0
    assert headline.controls["no_model"] == headline.no_model_parts["nearest_public"]
    assert headline.strongest_control == "no_model"
    assert headline.leakage is not None
    assert headline.leakage.value == pytest.approx(0.5)
    assert headline.missing == {}


def test_a_twin_of_fewer_classes_is_paired_by_number():
    controls = Controls(null_model=_guess(MEANS[:4]), missing={"no_model": "public faces"})
    scored = score(_guess(MEANS), _secret(), controls)
    headline = scored.scores["judge_accuracy_1"]
    assert headline.controls["null_model"] is not None
    assert headline.controls["null_model"].value == 1.0
    assert headline.strongest_control == "null_model"
    assert headline.leakage is not None
    assert headline.leakage.low < 0
    assert headline.missing == {"no_model": "public faces"}
    assert np.isnan(scored.gallery["null_judge_confidence"]).tolist() == [False] * 4 + [True] * 6
    assert (scored.gallery["null_reconstruction"][4:] == 0).all()
    apart = score(_guess(MEANS[5:], np.arange(5, 10)), _secret(), controls)
    assert apart.scores["judge_accuracy_1"].controls["null_model"] is None
    assert "null_model" in apart.scores["judge_accuracy_1"].missing
    assert apart.scores["judge_accuracy_1"].n == 5


def test_the_gallery_shows_each_class_beside_its_controls():
    wrong = np.roll(MEANS, 1, axis=0)
    order = np.random.default_rng(45).permutation(2 * CLASSES)
    x, labels = np.concatenate([wrong, MEANS])[order], np.tile(np.arange(CLASSES), 2)[order]
    sure = np.repeat([0.1, 0.9], CLASSES)[order]
    controls = Controls({"nearest_public": _guess(wrong), "prior_draw": _guess(wrong)}, _guess(wrong))
    gallery = score(_guess(x, labels, sure), _secret(), controls).gallery
    assert set(gallery) == {
        "labels", "real", "reconstruction", "nearest_public", "null_reconstruction", "prior_draw", "judge_class",
        "judge_confidence", "judge_rank", "null_judge_confidence", "nearest_judge_confidence", "class_names",
    }  # fmt: skip
    assert gallery["labels"].tolist() == gallery["judge_class"].tolist() == list(range(CLASSES))
    np.testing.assert_array_equal(gallery["reconstruction"], MEANS)
    np.testing.assert_array_equal(gallery["nearest_public"], wrong)
    assert (gallery["judge_rank"] == 1).all()
    assert gallery["class_names"].tolist() == [f"s{c}" for c in range(CLASSES)]
    real = _secret().records
    for label, picture in zip(gallery["labels"], gallery["real"], strict=True):
        own = real.of_class(int(label)).x
        gap = ((own - own.mean(axis=0)) ** 2).reshape(len(own), -1).sum(axis=1)
        np.testing.assert_array_equal(picture, own[gap.argmin()])
    bare = score(_guess(MEANS), _secret(), Controls()).gallery
    assert not {"nearest_public", "prior_draw", "null_reconstruction"} & set(bare)


def test_classes_are_ranked_by_what_the_model_adds():
    half = np.where(np.arange(CLASSES)[:, None, None, None] < 5, MEANS, np.roll(MEANS, 1, axis=0))
    scored = score(_guess(MEANS), _secret(), Controls({"nearest_public": _guess(half)}))
    assert [exposure.rank for exposure in scored.exposed] == list(range(1, CLASSES + 1))
    assert {exposure.id for exposure in scored.exposed[:5]} == {f"s{c}" for c in range(5, 10)}
    first = scored.exposed[0]
    assert first.control is not None
    assert first.value - first.control > 0.9
    assert first.index is not None
    assert scored.gallery["class_names"][first.index] == first.id
    assert first.id in first.evidence
    assert "nearest public" in first.evidence


def test_scoring_leaves_its_input_alone_and_repeats_itself():
    guess, secret = _blind(np.random.default_rng(46), 2), _secret()
    before = guess.x.copy(), secret.records.digest()
    first, second = (score(guess, secret, Controls(null_model=guess)) for _ in range(2))
    assert dict(first.scores) == dict(second.scores)
    assert first.exposed == second.exposed
    np.testing.assert_array_equal(guess.x, before[0])
    assert secret.records.digest() == before[1]


def test_few_classes_have_no_rank_five():
    records = Records(MEANS[:4], np.arange(4), ("a", "b", "c", "d"))

    class Four(Nearest):
        def predict(self, x):
            return super().predict(x)[:, :4]

    judge: Judge = Four()
    scored = score(_guess(MEANS[:4]), InversionSecret(records=records, judge=judge), Controls())
    assert {name for name in scored.scores if name.startswith("judge")} == {"judge_accuracy_1", "judge_confidence"}


def _score(name, low, value, high=0.9):
    gap = Estimate(value=value, low=low, high=high)
    return Score(name=name, title=name, value=0.5, leakage=gap, n=10, unit="class", method="given")


def test_measures_that_point_different_ways_are_said_to_disagree():
    leak, none, open_ = (0.2, 0.5), (-0.4, -0.1), (-0.1, 0.3)

    def notes(**gaps):
        return disagreement({name: _score(name, *gap) for name, gap in gaps.items()})

    fooled = notes(judge_accuracy_1=leak, judge_confidence=leak, nearer_private=none, precision=none)
    assert len(fooled) == 1
    assert "disagree" in fooled[0]
    assert "are judge_accuracy_1 and judge_confidence" in fooled[0]
    assert "are nearer_private and precision" in fooled[0]
    assert "fooled" in fooled[0]
    near = notes(judge_accuracy_1=leak, nearer_private=leak, precision=none)
    assert "fooled" not in near[0]
    assert "without lying among them" in near[0]
    shows = notes(judge_accuracy_1=none, nearer_private=leak)
    assert "not so much that the judge tells the classes" in shows[0]
    # What is above its controls by value, if not beyond doubt, contradicts nothing.
    assert notes(judge_accuracy_1=leak, nearer_private=open_) == ()
    assert "fooled" not in notes(judge_accuracy_1=leak, nearer_private=open_, precision=none)[0]
    assert notes(judge_accuracy_1=none, nearer_private=none) == ()
    assert notes(judge_accuracy_1=leak, nearer_private=leak) == ()


def test_a_guess_that_only_pleases_the_judge_is_noted():
    """The judge sees half of the values; the other half are somebody else's."""

    class Half(Nearest):
        def predict(self, x):
            whole = x.copy()
            whole[:, :, 2:] = 0
            gap = ((whole[:, None, :, :2] - MEANS[None, :, :, :2]) ** 2).reshape(len(x), CLASSES, -1).sum(axis=2)
            weight = np.exp(-40 * (gap - gap.min(axis=1, keepdims=True)))
            return weight / weight.sum(axis=1, keepdims=True)

        def features(self, x):
            return x.reshape(len(x), -1).astype(np.float64)

    rng = np.random.default_rng(70)
    public = Records(rng.random((60, *SHAPE)).astype(np.float32))
    secret = replace(_secret(Half()), public=public)
    fooling = np.full_like(MEANS, 3.0)
    fooling[:, :, :2] = MEANS[:, :, :2]
    wrong = _guess(np.roll(MEANS, 1, axis=0))
    controls = Controls({"prior_draw": wrong}, wrong)
    notes = score(_guess(fooling), secret, controls).notes
    assert len(notes) == 1
    assert "fooled" in notes[0]
    assert score(_guess(MEANS), secret, controls).notes == ()


def test_how_sure_the_judge_is_of_its_controls_stands_beside_how_sure_it_is_of_the_guess():
    grey = _guess(np.full_like(MEANS, 0.5))
    facts = score(_guess(MEANS), _secret(), Controls({"prior_draw": grey}, grey)).facts
    assert facts["judge_top_confidence_reconstruction"] > 0.99
    assert facts["judge_top_confidence_null_model"] == facts["judge_top_confidence_prior_draw"]
    assert facts["judge_top_confidence_prior_draw"] == pytest.approx(Nearest().predict(grey.x).max(axis=1).mean())
    assert score(_guess(MEANS), _secret(), Controls()).facts["judge_top_confidence_null_model"] is None


# --- the search on its way


def _searched(frames, at, labels=None) -> Reconstruction:
    labels = np.arange(CLASSES) if labels is None else labels
    return Reconstruction(MEANS[labels], labels, frames=frames, frame_at=at)


def test_frames_show_how_the_judge_comes_to_recognise():
    start = np.full_like(MEANS, 0.5)
    frames = np.stack([(1 - t) * start + t * MEANS for t in (0, 0.05, 0.1, 1)]).astype(np.float32)
    scored = score(_searched(frames, np.array([0, 50, 200, 800])), _secret(), Controls())
    np.testing.assert_array_equal(scored.gallery["frames"], frames)
    assert scored.gallery["frame_at"].tolist() == scored.curves["frame_at"].tolist() == [0, 50, 200, 800]
    sure, right = scored.curves["frame_confidence"], scored.curves["frame_accuracy"]
    assert sure.shape == right.shape == (4,)
    assert (np.diff(sure) > 0).all()
    assert right[-1] == 1
    # The last frame is what was returned, and is judged alike; a blank start is nobody in particular.
    assert sure[-1] == pytest.approx(scored.scores["judge_confidence"].value)
    assert right[0] == pytest.approx(0.1)
    assert not {"frames", "frame_at"} & set(score(_guess(MEANS), _secret(), Controls()).gallery)


def test_frames_are_those_of_the_attacked_classes():
    some = np.array([2, 5, 7])
    scored = score(_searched(MEANS[some][None], np.array([9]), some), _secret(), Controls())
    assert scored.curves["frame_accuracy"].tolist() == [1.0]
    turned = score(_searched(MEANS[some[::-1]][None], np.array([9]), some), _secret(), Controls())
    assert turned.curves["frame_accuracy"][0] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("frames", "at", "message"),
    [
        (MEANS[None, :4], [0], "one record for each of the 10"),
        (MEANS[None, :, :, :2], [0], "frames of the search"),
        (MEANS[None][:0], [], "frames of the search"),
        (MEANS[None], None, "1 frames .* 0 places"),
        (MEANS[None], [0, 1], "1 frames .* 2 places"),
        (np.stack([MEANS, MEANS]), [5, 2], "in the order of the search"),
        (MEANS[None] * np.nan, [0], "NaN"),
        (MEANS[None] * 255, [0], "range of the records"),
    ],
)
def test_frames_that_cannot_be_shown_are_refused(frames, at, message):
    at = None if at is None else np.array(at, dtype=np.int64)
    guess = _searched(MEANS[None], np.array([0]))
    object.__setattr__(guess, "frames", frames)
    object.__setattr__(guess, "frame_at", at)
    with pytest.raises(DataError, match=message):
        score(guess, _secret(), Controls())


def test_single_records_are_scored_by_their_own_rule():
    secret = _secret()
    captured = secret.records[np.arange(CLASSES)]
    guess = Reconstruction(captured.x)
    scored = score(guess, replace(secret, captured=captured), Controls())
    assert scored.scores[scored.headline].unit == "record"
    assert "record_identified" in scored.scores


class Broken(Nearest):
    def predict(self, x):
        return super().predict(x)[:, :3]


@pytest.mark.parametrize(
    ("guess", "message"),
    [
        (Scores(np.zeros(3)), "Reconstruction was wanted"),
        (Reconstruction(MEANS, None), "must set labels"),
        (_guess(np.where(np.arange(CLASSES)[:, None, None, None] == 3, np.nan, MEANS)), "1 of 10 .* class 3"),
        (_guess(MEANS, np.arange(CLASSES) + 1), "0 to 9, got 1 to 10"),
        (_guess(MEANS[:, :, :2]), "shape"),
        (_guess(MEANS[:0]), "got 0"),
        (_mismatched(), "3 confidences"),
    ],
)
def test_a_guess_that_cannot_be_scored_is_refused(guess, message):
    with pytest.raises(DataError, match=message):
        score(guess, _secret(), Controls())
    with pytest.raises(DataError, match=message):
        score(_guess(MEANS), _secret(), Controls(null_model=guess))


def test_a_judge_of_other_classes_is_refused():
    with pytest.raises(DataError, match="10 probabilities"):
        score(_guess(MEANS), _secret(Broken()), Controls())
    other = MembershipSecret(is_member=np.ones(30, dtype=bool), candidates=_secret().records)
    with pytest.raises(DataError, match="InversionSecret"):
        score(_guess(MEANS), other, Controls())
