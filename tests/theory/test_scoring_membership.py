"""Membership scores against closed forms, and the mistakes other tools make, as regressions."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from seepage.core.errors import DataError
from seepage.core.guess import Reconstruction, Scores
from seepage.core.records import Records
from seepage.core.scorer import Controls
from seepage.core.secrets import MembershipSecret
from seepage.core.vocabulary import Modality
from seepage.scoring.membership import score
from seepage.scoring.membership_records import MOST_EXPOSED

RATES = ("tpr_at_fpr_10", "tpr_at_fpr_1", "tpr_at_fpr_0_1")


def _secret(members: int, nonmembers: int, seed: int = 51) -> MembershipSecret:
    is_member = np.random.default_rng(seed).permutation(np.arange(members + nonmembers) < members)
    x = np.zeros((members + nonmembers, 2), dtype=np.float32)
    ids = tuple(f"r{i}" for i in range(len(x)))
    return MembershipSecret(is_member=is_member, candidates=Records(x, ids=ids, modality=Modality.TABLE))


def _guess(secret: MembershipSecret, rng, mu: float, **trace) -> Scores:
    return Scores(rng.normal(mu * secret.is_member, 1.0), trace={k: np.asarray(v) for k, v in trace.items()})


def test_the_auc_of_normal_scores_is_the_closed_form():
    secret, rng = _secret(2000, 2000), np.random.default_rng(52)
    for mu in (0.0, 0.5, 1.0, 2.0):
        found = score(_guess(secret, rng, mu), secret, Controls()).scores["auc"]
        truth = norm.cdf(mu / math.sqrt(2))
        assert found.value == pytest.approx(truth, abs=0.03)
        assert found.low <= truth <= found.high
        assert found.chance == 0.5


def test_a_perfect_guess_scores_at_the_maximum():
    secret = _secret(1000, 1000)
    scored = score(Scores(secret.is_member.astype(float), trace={"threshold": np.array([0.5])}), secret, Controls())
    assert list(scored.scores) == ["auc", *RATES, "tpr_at_fpr_0_01", "advantage", "balanced_accuracy"]
    rarest = scored.scores["tpr_at_fpr_0_01"]
    assert rarest.value is None
    assert rarest.reason is not None
    assert "10,000" in rarest.reason or "10000" in rarest.reason
    assert all(found.value == 1.0 for name, found in scored.scores.items() if name != "tpr_at_fpr_0_01")
    leaks = {name for name, found in scored.scores.items() if found.leakage is not None and found.leakage.low > 0}
    # One in a thousand of all non-members may lie above all members with none of them among the thousand drawn.
    assert leaks == {"auc", "tpr_at_fpr_10", "tpr_at_fpr_1", "advantage", "balanced_accuracy"}
    many = _secret(1000, 5000)
    found = score(Scores(many.is_member.astype(float)), many, Controls()).scores["tpr_at_fpr_0_1"]
    assert found.leakage is not None
    assert found.leakage.low > 0.9


def test_larger_scores_mean_member():
    """Privacy Meter 2.0 has its loss attack the wrong way round: AUC 0.0005 on scores that leak all."""
    secret = _secret(100, 100)
    right = score(Scores(secret.is_member.astype(float)), secret, Controls())
    wrong = score(Scores(-secret.is_member.astype(float)), secret, Controls())
    assert (right.scores["auc"].value, wrong.scores["auc"].value) == (1.0, 0.0)
    assert wrong.scores["auc"].leakage is not None
    assert wrong.scores["auc"].leakage.high < 0


def test_a_blind_guess_scores_at_chance():
    secret, rng = _secret(100, 200), np.random.default_rng(53)
    found = [score(_guess(secret, rng, 0.0), secret, Controls()).scores for _ in range(60)]
    auc = [scores["auc"].value for scores in found]
    assert np.mean(auc) == pytest.approx(0.5, abs=4 * np.std(auc) / math.sqrt(60))
    # With k of n non-members allowed above the threshold, a member lies above it with odds (k + 1) / (n + 1).
    tpr = [scores["tpr_at_fpr_10"].value for scores in found]
    assert np.mean(tpr) == pytest.approx(21 / 201, abs=4 * np.std(tpr) / math.sqrt(60))
    constant = score(Scores(np.zeros(300)), secret, Controls()).scores
    assert constant["auc"].value == 0.5
    assert constant["tpr_at_fpr_10"].value == 0.0
    assert all(s.p_value is None or s.p_value >= 0.5 for s in constant.values())


def test_noise_is_not_called_a_leak():
    """TF-Privacy's lower bound is above zero on noise in 35 of 40 runs, PrivacyGuard's epsilon is 1.2."""
    secret, rng = _secret(60, 60), np.random.default_rng(54)
    called = dict.fromkeys(("auc", "tpr_at_fpr_10", "advantage"), 0)
    for _ in range(80):
        controls = Controls({"blind": _guess(secret, rng, 0.0)}, _guess(secret, rng, 0.0, threshold=0.0))
        scored = score(_guess(secret, rng, 0.0, threshold=0.0), secret, controls)
        for name in called:
            found = scored.scores[name]
            assert found.leakage is not None
            assert found.p_value is not None
            assert (found.leakage.low > 0) == (found.p_value < 0.025)
            called[name] += found.p_value < 0.025
    assert max(called.values()) <= 6


def test_a_low_rate_is_not_estimated_from_too_few_nonmembers():
    secret = _secret(500, 99)
    scores = score(_guess(secret, np.random.default_rng(55), 1.0), secret, Controls()).scores
    assert scores["tpr_at_fpr_10"].value is not None
    for name in ("tpr_at_fpr_1", "tpr_at_fpr_0_1"):
        found = scores[name]
        assert found.value is found.low is found.leakage is found.p_value is None
        assert found.reason is not None
        assert "there are 99" in found.reason


def test_the_advantage_is_at_the_attacks_own_threshold():
    secret, rng = _secret(400, 400), np.random.default_rng(56)
    guess = _guess(secret, rng, 1.0)
    assert "advantage" not in score(guess, secret, Controls()).scores
    fixed = Scores(guess.values, trace={"threshold": np.array([2.0])})
    found = score(fixed, secret, Controls(null_model=_guess(secret, rng, 0.0))).scores["advantage"]
    wanted = (guess.values[secret.is_member] > 2).mean() - (guess.values[~secret.is_member] > 2).mean()
    assert found.value == pytest.approx(wanted)
    assert found.low <= norm.sf(1) - norm.sf(2) <= found.high
    assert found.controls["null_model"] is None  # the attack on the twin fixed no threshold


def test_what_tells_candidates_apart_without_the_model_is_subtracted():
    """A member set from another source: the attack is no better than the blind baseline."""
    secret, rng = _secret(150, 150), np.random.default_rng(57)
    shifted = _guess(secret, rng, 2.0)
    found = score(shifted, secret, Controls({"blind": _guess(secret, rng, 2.0)}, _guess(secret, rng, 0.0))).scores[
        "auc"
    ]
    assert found.value > 0.85
    assert found.strongest_control == "no_model"
    assert found.leakage is not None
    assert found.leakage.low < 0
    alone = score(shifted, secret, Controls(null_model=_guess(secret, rng, 0.0))).scores["auc"]
    assert alone.leakage is not None
    assert alone.leakage.low > 0.2
    assert set(alone.missing) == {"no_model"}


def test_members_are_ranked_by_the_nonmembers_below_them():
    secret, rng = _secret(150, 50), np.random.default_rng(58)
    guess, twin = _guess(secret, rng, 1.0), _guess(secret, rng, 0.0)
    exposed = score(guess, secret, Controls(null_model=twin)).exposed
    assert len(exposed) == MOST_EXPOSED
    assert [e.rank for e in exposed] == list(range(1, MOST_EXPOSED + 1))
    values = [e.value for e in exposed]
    assert values == sorted(values, reverse=True)
    for exposure in exposed:
        row = int(exposure.id[1:])
        assert secret.is_member[row]
        below = (guess.values[~secret.is_member] < guess.values[row]).mean()
        assert exposure.value == pytest.approx(below)
        assert exposure.control == pytest.approx((twin.values[~secret.is_member] < twin.values[row]).mean())
        assert f"{below:.1%}" in exposure.evidence


def test_the_curves_are_those_of_the_scores():
    secret, rng = _secret(80, 120), np.random.default_rng(59)
    guess = _guess(secret, rng, 1.0)
    bare, twin = (score(guess, secret, Controls(null_model=null)).curves for null in (None, _guess(secret, rng, 0.0)))
    assert set(twin) - set(bare) == {"null_fpr", "null_tpr"}
    assert set(bare) == {"fpr", "tpr", "tpr_low", "tpr_high", "scores_members", "scores_nonmembers", "exposure"}
    assert bare["exposure"].max() == pytest.approx(score(guess, secret, Controls()).exposed[0].value)
    np.testing.assert_array_equal(bare["scores_members"], guess.values[secret.is_member])
    assert len(bare["scores_nonmembers"]) == 120
    assert ((bare["tpr_low"] <= bare["tpr"]) & (bare["tpr"] <= bare["tpr_high"])).all()


@pytest.mark.parametrize(
    ("guess", "message"),
    [
        (Scores(np.zeros(7)), "20 candidates got 7"),
        (Scores(np.where(np.arange(20) == 3, np.nan, 0.0)), "1 are NaN or infinite"),
        (Scores(np.zeros(20), trace={"threshold": np.array([np.nan])}), "one finite number"),
        (Reconstruction(np.zeros((20, 1))), "Scores were wanted"),
    ],
)
def test_a_guess_that_cannot_be_scored_is_refused(guess, message):
    secret = _secret(10, 10)
    for controls in (Controls(), Controls(null_model=guess), Controls({"blind": guess})):
        attack = guess if controls == Controls() else Scores(np.zeros(20))
        with pytest.raises(DataError, match=message):
            score(attack, secret, controls)


@pytest.mark.parametrize(("members", "nonmembers"), [(0, 10), (10, 0)])
def test_candidates_of_one_kind_are_refused(members, nonmembers):
    with pytest.raises(DataError, match="members and non-members"):
        score(Scores(np.zeros(10)), _secret(members, nonmembers), Controls())
