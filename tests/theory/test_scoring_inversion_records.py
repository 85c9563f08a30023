"""Scores of single records recovered: against closed forms, blind guesses, and the contract of every scorer."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from seepage.core.errors import DataError
from seepage.core.guess import Reconstruction
from seepage.core.records import Records
from seepage.core.scorer import Controls
from seepage.core.secrets import InversionSecret
from seepage.core.vocabulary import Modality
from seepage.scoring.inversion import score
from seepage.scoring.inversion_records import NOTE, RecordMean, identified, ssim
from seepage.testing.cases import record_inversion_case, smooth_pictures
from seepage.testing.contracts import check_scorer


def _secret(seed: int = 0) -> InversionSecret:
    secret = record_inversion_case(seed).secret
    assert isinstance(secret, InversionSecret)
    return secret


def _truth(secret: InversionSecret) -> Records:
    assert secret.captured is not None
    return secret.captured


@dataclass
class _FeaturelessJudge:
    """Knows nothing and describes nothing."""

    classes: int
    family: str = "none"
    facts: dict[str, float | str | None] = field(default_factory=dict)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.full((len(x), self.classes), 1 / self.classes)


def test_it_keeps_the_contract_of_scorers() -> None:
    secret = _secret()
    truth = _truth(secret)
    blind = Reconstruction(np.repeat(truth.x.mean(axis=0, keepdims=True), len(truth), axis=0))
    noisy = Reconstruction((truth.x + np.random.default_rng(0).normal(0, 0.4, truth.x.shape)).astype(np.float32))
    check_scorer(score, secret, Reconstruction(truth.x), blind, worse_to_better=[blind, noisy, Reconstruction(truth.x)])


def test_a_blind_guess_is_identified_at_chance_and_a_perfect_one_always() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(9, 20))
    assert identified(truth, truth).tolist() == [1] * 9
    # The mean record is equally near to all; any other fixed one is nearest to a single one of them.
    assert identified(np.repeat(truth.mean(0, keepdims=True), 9, axis=0), truth).tolist() == pytest.approx([1 / 9] * 9)
    assert identified(np.repeat(rng.normal(size=(1, 20)), 9, axis=0), truth).mean() == pytest.approx(1 / 9)
    assert not identified(np.roll(truth, 1, axis=0), truth).any()


def test_two_records_alike_share_the_find() -> None:
    truth = np.random.default_rng(0).normal(size=(4, 6))
    truth[3] = truth[0]
    assert identified(truth, truth).tolist() == pytest.approx([0.5, 1, 1, 0.5])


def test_a_reconstruction_drawn_towards_the_mean_is_still_identified() -> None:
    """By plain distance every faint one would be nearest to the most ordinary record."""
    truth = np.random.default_rng(1).normal(size=(12, 30)) * np.linspace(0.2, 2, 12)[:, None]
    faint = truth.mean(0) + 0.05 * (truth - truth.mean(0))
    assert identified(faint, truth).tolist() == [1] * 12
    nearest = ((faint[:, None] - truth[None]) ** 2).sum(-1).argmin(axis=1)
    assert (nearest == np.arange(12)).mean() < 0.5


def test_structural_similarity_is_that_of_its_equation() -> None:
    """The same picture gives 1, two plain ones leave the luminance term alone, a negative is opposite in structure."""
    x = smooth_pictures(3, np.random.default_rng(0), side=16)
    np.testing.assert_allclose(ssim(x, x, 1.0), 1)
    a, b = np.full((1, 1, 16, 16), 0.3), np.full((1, 1, 16, 16), 0.6)
    c1 = 0.01**2
    assert ssim(a, b, 1.0)[0] == pytest.approx((2 * 0.18 + c1) / (0.09 + 0.36 + c1))
    assert (ssim(x, 1 - x, 1.0) < 0).all()
    np.testing.assert_allclose(ssim(4 * x, 4 * (1 - x), 4.0), ssim(x, 1 - x, 1.0), atol=1e-6)
    noise = np.random.default_rng(1).random((20, 1, 16, 16))
    assert abs(ssim(noise, np.random.default_rng(2).random(noise.shape), 1.0).mean()) < 0.05


def test_the_mean_over_records_covers_what_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        found = RecordMean(rng.beta(4, 6, size=20)).estimate()
        inside += found.low <= 0.4 <= found.high
    assert 0.92 <= inside / 400 <= 0.98
    a = rng.random(20)
    assert RecordMean(a).correlation(RecordMean(2 * a + 1)) == pytest.approx(1)
    assert RecordMean(a).above_chance(float(a.mean())) == pytest.approx(0.5)


def test_answers_of_other_records_are_the_control() -> None:
    secret = _secret()
    truth = _truth(secret)
    null = Reconstruction(np.roll(truth.x, 1, axis=0))
    found = score(Reconstruction(truth.x), secret, Controls(null_model=null))
    for name in ("judge_accuracy_1", "record_identified", "ssim"):
        one = found.scores[name]
        assert one.unit == "record"
        assert one.n == len(truth)
        assert one.value == pytest.approx(1)
        assert one.controls["null_model"] is not None
        assert one.controls["null_model"].value < 0.6
        assert one.leakage is not None
        assert one.leakage.low > 0
    assert found.scores["record_identified"].chance == pytest.approx(1 / len(truth))
    assert NOTE in found.notes


def test_a_judge_without_features_leaves_the_values_to_compare() -> None:
    secret = replace(_secret(), judge=_FeaturelessJudge(6))
    truth = _truth(secret)
    found = score(Reconstruction(truth.x), secret, Controls())
    assert found.facts["identified_by"] == "values"
    assert found.scores["record_identified"].value == pytest.approx(1)
    assert found.scores["judge_accuracy_1"].value == pytest.approx(1 / 6)


def test_records_of_a_table_are_compared_by_closeness() -> None:
    secret = _secret()
    truth = _truth(secret)
    flat = replace(truth, x=truth.x.reshape(len(truth), -1), modality=Modality.TABLE)
    records = replace(secret.records, x=secret.records.x.reshape(len(secret.records), -1), modality=Modality.TABLE)
    table = replace(secret, records=records, captured=flat, judge=_FeaturelessJudge(6), public=None)
    half = Reconstruction((flat.x + 0.1 * np.ptp(records.x, axis=0)).astype(np.float32))
    assert score(half, table, Controls()).scores["closeness"].value == pytest.approx(0.9, abs=1e-5)
    # A column in other units counts no more than the others.
    scale = np.ones(records.x.shape[1], dtype=np.float32)
    scale[0] = 1e5
    wide = replace(table, records=replace(records, x=records.x * scale), captured=replace(flat, x=flat.x * scale))
    assert score(Reconstruction(half.x * scale), wide, Controls()).scores["closeness"].value == pytest.approx(
        0.9, abs=1e-4
    )


def test_what_the_class_alone_shows_is_no_leak_of_the_record() -> None:
    """An attack that gives the mean of the class recognises the class, and identifies no record beyond luck."""
    secret = _secret()
    labels = secret.records.labels()
    rows = np.concatenate([np.nonzero(labels == c)[0][:3] for c in np.unique(labels)])
    truth = secret.records[rows]
    table = replace(secret, captured=truth)
    means = np.stack([truth.x[truth.labels() == c].mean(axis=0) for c in truth.labels()])
    found = score(Reconstruction(means.astype(np.float32)), table, Controls())
    control = found.scores["record_identified"].no_model_parts["same_class_answer"]
    assert control.value == pytest.approx(found.scores["record_identified"].value)
    assert found.scores["record_identified"].leakage is not None
    assert found.scores["record_identified"].leakage.low <= 0
    assert "same_class_answer" not in found.scores["judge_accuracy_1"].no_model_parts
    exact = score(Reconstruction(truth.x), table, Controls()).scores["record_identified"]
    assert exact.value == 1
    assert exact.no_model_parts["same_class_answer"].value < 0.2


def test_the_gallery_has_a_row_a_record() -> None:
    case = record_inversion_case(0)
    secret = replace(_secret(), public=case.knowledge.public)
    truth = _truth(secret)
    rolled = np.roll(truth.x, 1, axis=0)
    found = score(Reconstruction(rolled), secret, Controls(null_model=Reconstruction(truth.x)))
    for name in ("real", "reconstruction", "nearest_public", "null_reconstruction"):
        assert found.gallery[name].shape == truth.x.shape
    np.testing.assert_array_equal(found.gallery["labels"], truth.labels())
    np.testing.assert_array_equal(found.gallery["judge_class"], np.roll(truth.labels(), 1))
    assert secret.public is not None
    far = ((truth.x[:, None] - secret.public.x[None]) ** 2).reshape(len(truth), len(secret.public), -1).sum(-1)
    np.testing.assert_allclose(found.gallery["nearest_public"], secret.public.x[far.argmin(axis=1)])
    assert sorted(e.index for e in found.exposed if e.index is not None) == list(range(len(truth)))
    assert all(truth.ids[e.index] in e.id for e in found.exposed if e.index is not None)


def test_what_cannot_be_scored_is_refused() -> None:
    secret = _secret()
    truth = _truth(secret)
    with pytest.raises(DataError, match="one reconstruction for each of 6"):
        score(Reconstruction(truth.x[:4]), secret, Controls())
    with pytest.raises(DataError, match="captured records were wanted"):
        score(Reconstruction(truth.x[:0]), replace(secret, captured=truth[np.array([], dtype=int)]), Controls())
    with pytest.raises(DataError, match="NaN or infinite"):
        score(Reconstruction(np.full_like(truth.x, np.nan)), secret, Controls())
