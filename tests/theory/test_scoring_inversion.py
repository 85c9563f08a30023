"""Class inversion scored by a judge whose answers are known in closed form."""

import math

import numpy as np
import pytest

from seepage.core.errors import DataError
from seepage.core.guess import Reconstruction, Scores
from seepage.core.records import Records
from seepage.core.scorer import Controls
from seepage.core.secrets import InversionSecret, Judge, MembershipSecret
from seepage.scoring.inversion import score

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
    assert set(scored.scores) == {"judge_accuracy_1", "judge_confidence"}


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
