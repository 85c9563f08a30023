"""How well scores of members and of non-members can be told apart: AUC, ROC, TPR at a low FPR.

Larger scores mean "member" throughout.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy.special import bdtr, bdtrik, betainccinv, betaincinv
from scipy.stats import hypergeom, mannwhitneyu, rankdata

from seepage.core.errors import ConfigError, DataError
from seepage.core.record import Estimate
from seepage.scoring.stats import critical

Array = np.ndarray

# A curve of a picture: more points than pixels only make the file larger.
_CURVE_POINTS = 400


def check_scores(values: Float[Array, " n"], what: str) -> Float[Array, " n"]:
    """`values` as float64, after checking that there are some and that all are finite.

    Raises:
        DataError: naming what was wanted and what came.
    """
    checked = np.asarray(values, dtype=np.float64)
    if checked.ndim != 1 or not len(checked):
        raise DataError(f"scores of {what}: a row of at least one number was wanted, got shape {checked.shape}")
    if not np.isfinite(checked).all():
        raise DataError(f"scores of {what}: {int((~np.isfinite(checked)).sum())} are NaN or infinite")
    return checked


@dataclass(frozen=True)
class Placements:
    """Where each score stands in the other group: the parts of AUC and of its variance.

    Attributes:
        of_pos: (m,) share of negatives below each positive, ties counted half.
        of_neg: (n,) share of positives above each negative, ties counted half.

    Source: E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson 1988, Comparing the areas under two or
    more correlated receiver operating characteristic curves, Biometrics 44.
    """

    of_pos: Float[Array, " m"]
    of_neg: Float[Array, " n"]

    @classmethod
    def of(cls, pos: Float[Array, " m"], neg: Float[Array, " n"]) -> "Placements":
        pos, neg = check_scores(pos, "members"), check_scores(neg, "non-members")
        m, n = len(pos), len(neg)
        ranks = np.asarray(rankdata(np.concatenate([pos, neg])), dtype=np.float64)
        above = (ranks[:m] - rankdata(pos)) / n
        return cls(above, 1.0 - (ranks[m:] - rankdata(neg)) / m)

    @cached_property
    def auc(self) -> float:
        """The share of (positive, negative) pairs in the right order, ties counted half."""
        return min(max(float(self.of_pos.mean()), 0.0), 1.0)

    @cached_property
    def variance(self) -> float:
        """DeLong's variance of the AUC; 0 when the groups do not overlap."""
        return self.covariance(self)

    def covariance(self, other: "Placements") -> float:
        """DeLong's covariance of two AUCs over the same records in the same order."""
        total = 0.0
        for mine, theirs in ((self.of_pos, other.of_pos), (self.of_neg, other.of_neg)):
            if len(mine) > 1:
                total += float(((mine - mine.mean()) * (theirs - theirs.mean())).sum()) / (len(mine) - 1) / len(mine)
        return total


def rank_variance(auc: float, m: int, n: int) -> float:
    """The variance of an estimate of this AUC from m and n scores, by Hanley and McNeil's model.

    Both sizes are replaced by their mean in the numerator, as Newcombe proposes; at 0.5 this is
    the variance of the rank-sum test, (m + n + 1) / (12 m n).

    Source: R. G. Newcombe 2006, Confidence intervals for an effect size measure based on the
    Mann-Whitney statistic, part 2, Statistics in Medicine 25, method 5.
    """
    star = (m + n) / 2
    return auc * (1 - auc) / (m * n) * (1 + (star - 1) * ((1 - auc) / (2 - auc) + auc / (1 + auc)))


def _score_ends(auc: float, m: int, n: int, spread: float) -> tuple[float, float]:
    """The AUCs t below and above the estimate with `(auc - t)^2 = spread * rank_variance(t)`.

    With the denominators (2 - t)(1 + t) cleared this is a quartic with one root on either side; when the
    estimate is 0 it loses the root there and is a cubic, and 1 is the mirror of 0.
    """
    if auc == 1:
        low, high = _score_ends(0.0, m, n, spread)
        return 1 - high, 1 - low
    star = (m + n) / 2
    cleared = np.array([-1.0, 1.0, 2.0])
    inner = (cleared + (star - 1) * np.array([-2.0, 2.0, 1.0])) * spread / (m * n)
    if auc == 0:
        curve = np.convolve([1.0, 0.0], cleared) - np.convolve([-1.0, 1.0], inner)
    else:
        curve = np.convolve([1.0, -2 * auc, auc * auc], cleared)
        curve[:-1] -= np.convolve([-1.0, 1.0], inner)
    roots = np.roots(curve)
    real = roots.real[np.abs(roots.imag) < 1e-6]
    below, above = real[(real >= -1e-9) & (real < auc)], real[(real <= 1 + 1e-9) & (real > auc)]
    # With next to no spread the two roots meet, and rounding may leave none on a side.
    low = float(below.max()) if len(below) else auc
    high = float(above.min()) if len(above) else auc
    return max(low, 0.0), min(high, 1.0)


def auc_interval(placements: Placements, confidence: float = 0.95) -> Estimate:
    """The AUC with an interval that holds near 0.5, near 1, for unequal groups and for odd shapes.

    The wider, end by end, of two: Newcombe's method 5 with its variance raised to DeLong's where
    the scores spread more than its model allows, and DeLong's on the logit scale. Alone, the first is
    wrong in up to 18 % of cases for unequal groups, the second in up to 25 % near 1. When the groups
    do not overlap, the end is that of a share (Clopper-Pearson) over the smaller group: the records that
    would have shown an overlap are as many as that.
    """
    m, n, auc = len(placements.of_pos), len(placements.of_neg), placements.auc
    z = critical(confidence)
    model, spread = rank_variance(auc, m, n), placements.variance
    inflation = max(1.0, spread / model) if model > 0 else 1.0
    low, high = _score_ends(auc, m, n, z * z * inflation)
    if 0 < auc < 1 and spread > 0:
        step = z * math.sqrt(spread) / (auc * (1 - auc))
        logit = math.log(auc / (1 - auc))
        low, high = min(low, _logistic(logit - step)), max(high, _logistic(logit + step))
    worst = ((1 - confidence) / 2) ** (1 / min(m, n))
    if auc == 1:
        low = min(low, worst)
    elif auc == 0:
        high = max(high, 1 - worst)
    return Estimate(value=auc, low=min(low, auc), high=max(high, auc))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def auc(pos: Float[Array, " m"], neg: Float[Array, " n"], confidence: float = 0.95) -> Estimate:
    """The probability that a member scores above a non-member, ties counted half (`auc_interval`).

    Raises:
        DataError: without scores on either side, or with a score that is not finite.
    """
    return auc_interval(Placements.of(pos, neg), confidence)


def auc_correlation(a: Placements, b: Placements) -> float:
    """The correlation of two AUCs over the same records, as `stats.difference` wants it.

    A positive one is lowered by the factor 1 - 2/n, n the smaller group, as the correction of paired
    shares does: two attacks that agree on every record seen still leave an interval of some width.
    """
    spread = math.sqrt(a.variance * b.variance)
    if spread <= 0:
        return 0.0
    correlation = float(np.clip(a.covariance(b) / spread, -1.0, 1.0))
    return correlation * max(1 - 2 / min(len(a.of_pos), len(a.of_neg)), 0.0) if correlation > 0 else correlation


def above_half(pos: Float[Array, " m"], neg: Float[Array, " n"]) -> float:
    """One-sided p-value that members score no higher than non-members (Mann-Whitney, Wilcoxon rank sum).

    Exact for small groups without ties, otherwise normal with corrections for continuity and ties.
    """
    pos, neg = check_scores(pos, "members"), check_scores(neg, "non-members")
    if np.ptp(np.concatenate([pos, neg])) == 0:
        return 1.0
    return min(float(mannwhitneyu(pos, neg, alternative="greater").pvalue), 1.0)


def not_estimable(negatives: int, fpr: float) -> str | None:
    """Why the TPR at this FPR cannot be had from so few non-members, or None when it can."""
    if not 0 < fpr < 1:
        raise ConfigError(f"a false-positive rate lies strictly between 0 and 1, got {fpr}")
    if fpr * negatives >= 1 - 1e-9:
        return None
    needed = math.ceil(1 / fpr - 1e-9)
    return f"a false-positive rate of {fpr:g} needs at least {needed} non-members, there are {negatives}"


def allowed(negatives: int, fpr: float) -> int:
    """How many of the non-members may score above the threshold."""
    return math.floor(fpr * negatives + 1e-9)


def _tpr_band(
    pos: Float[Array, " m"], neg: Float[Array, " n"], k: Int[Array, " p"], fpr: Float[Array, " p"], confidence: float
) -> tuple[Int[Array, " p"], Float[Array, " p"], Float[Array, " p"]]:
    """Members strictly above the (k+1)-th largest non-member, and the interval of their share.

    Two sources of error, squared and added: which members were drawn, at the threshold used
    (Clopper-Pearson); and which non-members, that is how far the threshold may lie from the
    one with this FPR (its order-statistic interval), read off as the shares at its ends.
    """
    m, n, tail = len(pos), len(neg), (1 - confidence) / 2
    rising, falling = np.sort(pos), np.sort(neg)[::-1]
    padded = np.concatenate([[np.inf], falling, [-np.inf]])  # padded[j] is the j-th largest
    strictly = m - np.searchsorted(rising, padded, side="right")
    at_least = m - np.searchsorted(rising, padded, side="left")
    hits = strictly[k + 1]
    share = hits / m
    drawn_low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), m - hits + 1, tail), 0.0)
    drawn_high = np.where(hits < m, betainccinv(hits + 1, np.maximum(m - hits, 1), tail), 1.0)
    strict, lenient = _binomial_quantile(tail, n, fpr), _binomial_quantile(1 - tail, n, fpr) + 1
    placed_low = np.minimum(strictly[strict] / m, share)
    placed_high = np.maximum(at_least[lenient] / m, share)
    low = share - np.sqrt((share - drawn_low) ** 2 + (share - placed_low) ** 2)
    high = share + np.sqrt((drawn_high - share) ** 2 + (placed_high - share) ** 2)
    return hits, np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def _binomial_quantile(q: float, n: int, p: Float[Array, " p"]) -> Int[Array, " p"]:
    """The least count whose probability of not being exceeded is at least `q`."""
    inside = np.clip(p, 1e-300, 1 - 1e-16)
    above = np.ceil(bdtrik(q, n, inside))
    below = np.maximum(above - 1, 0)
    found = np.where(bdtr(below, n, inside) >= q, below, above)
    return np.where(p <= 0, 0, np.where(p >= 1, n, np.clip(found, 0, n))).astype(np.intp)


def tpr_at_fpr(
    pos: Float[Array, " m"], neg: Float[Array, " n"], fpr: float, confidence: float = 0.95
) -> tuple[Estimate | None, str | None]:
    """The share of members found when at most the share `fpr` of non-members is accused.

    The threshold is the score of a non-member and a record must lie strictly above it, so that
    ties count against the adversary and no FPR is made up between two that can be had. The
    interval is over members (Clopper-Pearson) and over non-members (`_tpr_band`).

    Returns:
        The estimate and None, or None and the reason when there are too few non-members.
    """
    pos, neg = check_scores(pos, "members"), check_scores(neg, "non-members")
    reason = not_estimable(len(neg), fpr)
    if reason is not None:
        return None, reason
    critical(confidence)
    hits, low, high = _tpr_band(pos, neg, np.array([allowed(len(neg), fpr)]), np.array([fpr]), confidence)
    return Estimate(value=float(hits[0]) / len(pos), low=float(low[0]), high=float(high[0])), None


def above_fpr(pos: Float[Array, " m"], neg: Float[Array, " n"], fpr: float) -> float:
    """One-sided p-value of the TPR at `fpr` when members and non-members are exchangeable.

    With k false positives allowed, x members lie above the (k+1)-th largest non-member exactly when
    at least x of the x + k largest scores are members': a hypergeometric tail, which counts that the
    threshold was found on the same non-members. Ties make it larger, never smaller.
    """
    m, n, k = len(pos), len(neg), allowed(len(neg), fpr)
    hits = int((pos > np.sort(neg)[::-1][k]).sum())
    return 1.0 if hits == 0 else float(hypergeom.sf(hits - 1, m + n, m, hits + k))


@dataclass(frozen=True)
class Roc:
    """Points of a ROC that the adversary can reach, with a pointwise band of the TPR.

    Attributes:
        fpr, tpr, low, high: (p,) all in [0, 1], `fpr` rising from its least reachable value to 1.
    """

    fpr: Float[Array, " p"]
    tpr: Float[Array, " p"]
    low: Float[Array, " p"]
    high: Float[Array, " p"]


def roc(pos: Float[Array, " m"], neg: Float[Array, " n"], confidence: float = 0.95) -> Roc:
    """The ROC at every distinct threshold (thinned evenly on a log axis beyond some hundreds).

    Raises:
        DataError: without scores on either side, or with a score that is not finite.
    """
    pos, neg = check_scores(pos, "members"), check_scores(neg, "non-members")
    critical(confidence)
    n = len(neg)
    # Above each distinct non-member score lies a whole number of non-members; no other count can be had.
    reachable = np.unique(n - np.searchsorted(np.sort(neg), np.unique(neg), side="right"))
    if len(reachable) > _CURVE_POINTS:
        places = np.geomspace(1, len(reachable), _CURVE_POINTS).astype(np.intp) - 1
        reachable = reachable[np.unique(places)]
    k = np.concatenate([reachable, [n]])
    hits, low, high = _tpr_band(pos, neg, k, k / n, confidence)
    return Roc(fpr=k / n, tpr=hits / len(pos), low=low, high=high)
