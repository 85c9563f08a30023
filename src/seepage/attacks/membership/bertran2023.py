"""Membership by quantile regression: how sure a victim would be of a record like this if it had not seen it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from seepage.attacks.membership import outsiders
from seepage.attacks.membership.signals import scaled_confidence
from seepage.core.attack import MembershipAttack
from seepage.core.guess import Scores
from seepage.core.knowledge import Knowledge, MembershipKnowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access

Array = np.ndarray
Regressor = Literal["auto", "none", "class", "linear", "trees"]

FOLDS = 5
# Quantiles at which regressors are compared: those that few non-members lie above.
LEVELS = (0.5, 0.9, 0.95, 0.99)
# A spread is not taken for less than this share of that of all: a regressor that is sure of itself by accident.
LEAST_SPREAD = 0.1


class QuantileRegression(MembershipAttack):
    """Learn on public non-members how confident the victim is of a record it has not seen, given the record.

    With s(x, y) = log p_y - log sum_{i != y} p_i, a regressor gives the mean m and the spread v of s given the record
    and its class, as in the paper's Gaussian variant; the value is z = (s - m) / v, so that the candidates above a
    threshold on z are those above the same conditional quantile. Accused are those above the 1 - `false_alarms`
    quantile of z that non-members have where the regressor did not learn from them.

    Which regressor is taken ("auto") is settled by the pinball loss on public records left out in turn. Pictures
    are seen by their principal components: the paper trains a network on 10,000 of them and more.
    """

    name: ClassVar[str] = "quantile-regression"
    title: ClassVar[str] = "Quantile regression on non-members"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES})
    cites: ClassVar[tuple[str, ...]] = (
        "Bertran, Tang, Kearns, Morgenstern, Roth, Wu 2023, Scalable Membership Inference Attacks via Quantile "
        "Regression, NeurIPS",
    )
    needs_public: ClassVar[bool] = True

    regressor: Regressor = Field(default="auto", description="what predicts; auto: by the pinball loss")
    false_alarms: float = Field(default=0.05, gt=0, lt=1, description="share of non-members that may be accused")
    components: int = Field(default=32, ge=1, description="principal components of records with more values than these")
    outsiders: int = Field(default=2000, ge=1, description="public non-members asked at the most")
    batch: int = Field(default=256, ge=1, description="records asked at a time")

    def cost(self, knowledge: MembershipKnowledge, budget: int | None) -> int:
        return outsiders.cost(knowledge, budget, self.outsiders)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return outsiders.obstacle(knowledge, budget, self.outsiders) or super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: MembershipKnowledge, rng: np.random.Generator) -> Scores:
        """One z a candidate, any real value.

        Raises:
            DataError: without labelled public records, or with classes that the victim lacks.
        """
        others = outsiders.drawn(knowledge, self.outsiders, target.remaining, rng)
        candidates = knowledge.candidates
        s = scaled_confidence(outsiders.answers(target, candidates, self.batch), candidates)
        learned = scaled_confidence(outsiders.answers(target, others, self.batch), others)
        seed = int(rng.integers(2**31))
        folds = rng.permutation(len(others)) % min(FOLDS, len(others))
        see = sight(others.x, self.components, seed)
        known = Known(see(others.x), others.labels(), learned)
        names = ("none", "class", "linear", "trees") if self.regressor == "auto" else (self.regressor,)
        left_out = {name: _left_out(name, known, folds, seed) for name in names}
        losses = {name: pinball(known.s, *found) for name, found in left_out.items()}
        best = min(losses, key=lambda name: losses[name])
        mean, spread = fitted(best, known, seed)(see(candidates.x), candidates.labels())
        z = (known.s - left_out[best][0]) / left_out[best][1]
        return Scores(
            (s - mean) / spread,
            trace={"threshold": np.array([level(z, self.false_alarms)])},
            facts={
                "regressor": best,
                "outsiders": float(len(others)),
                "false_alarms_left_out": _attained(z, folds, self.false_alarms),
                **{f"pinball_{name}": loss for name, loss in losses.items()},
            },
        )


@dataclass(frozen=True)
class Known:
    """Non-members: what is seen of them (m, d), their classes (m,) and the victim's confidence (m,)."""

    seen: Float[Array, " m d"]
    y: Int[Array, " m"]
    s: Float[Array, " m"]

    def of(self, rows: Array) -> "Known":
        return Known(self.seen[rows], self.y[rows], self.s[rows])


# Mean and spread of the confidence, given what is seen of records and their classes.
Predictor = Callable[[Array, Array], tuple[Array, Array]]


def sight(x: Float[Array, " m ..."], components: int, seed: int) -> Callable[[Array], Array]:
    """What a regressor sees of records: their values, or their principal components where there are many."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    if flat.shape[1] <= components:
        return lambda records: records.reshape(len(records), -1).astype(np.float64)
    pca = PCA(min(components, len(x) - 1), random_state=seed, svd_solver="randomized").fit(flat)
    return lambda records: pca.transform(records.reshape(len(records), -1).astype(np.float64))


def fitted(name: str, known: Known, seed: int) -> Predictor:
    """A regressor's mean and spread of the confidence: "none" looks at nothing, "class" at the class alone.

    The spread is that of residuals: by class, or by a second regression on log |s - m| where the record counts.
    """
    overall = max(float(known.s.std()), 1e-9)
    if name == "none":
        middle = float(known.s.mean())
        return lambda seen, y: (np.full(len(y), middle), np.full(len(y), overall))
    if name == "class":
        return _by_class(known, overall)
    together = _joined(known.seen, known.y, int(known.y.max()) + 1)
    first = _regressor(name, seed).fit(together, known.s)
    residuals = known.s - _inside(name, together, known.s, seed)
    size = np.log(np.abs(residuals) + 1e-3 * overall)
    second = _regressor(name, seed).fit(together, size)
    # E log |N(0, 1)| = -(log 2 + Euler's constant) / 2.
    shift = (np.log(2.0) + np.euler_gamma) / 2
    width = int(known.y.max()) + 1

    def predict(seen: Array, y: Array) -> tuple[Array, Array]:
        rows = _joined(seen, y, width)
        spread = np.exp(np.clip(second.predict(rows) + shift, -50.0, 50.0))
        return first.predict(rows), np.clip(spread, LEAST_SPREAD * overall, overall / LEAST_SPREAD)

    return predict


def _by_class(known: Known, overall: float) -> Predictor:
    """Mean and spread of each class, shrunk to those of all by as much as ten records of all weigh."""
    middle, weight = float(known.s.mean()), 10.0
    classes = int(known.y.max()) + 1
    counts = np.bincount(known.y, minlength=classes)
    means = (np.bincount(known.y, known.s, classes) + weight * middle) / (counts + weight)
    squares = np.bincount(known.y, (known.s - means[known.y]) ** 2, classes)
    spreads = np.sqrt((squares + weight * overall**2) / (counts + weight))

    def predict(seen: Array, y: Array) -> tuple[Array, Array]:
        there = y < classes
        at = np.where(there, y, 0)
        return np.where(there, means[at], middle), np.where(there, spreads[at], overall)

    return predict


def _regressor(name: str, seed: int) -> Any:
    if name == "linear":
        return make_pipeline(StandardScaler(), Ridge(alpha=10.0))
    never: Any = False
    return HistGradientBoostingRegressor(
        max_iter=60, learning_rate=0.08, max_leaf_nodes=8, min_samples_leaf=20, early_stopping=never, random_state=seed
    )


def _inside(name: str, x: Array, s: Array, seed: int) -> Float[Array, " m"]:
    """Predictions for the records a regressor learns from, each by one that has not seen it: residuals are honest."""
    halves = np.arange(len(x)) % 2
    found = np.empty(len(x))
    for half in (0, 1):
        out = halves == half
        found[out] = _regressor(name, seed).fit(x[~out], s[~out]).predict(x[out])
    return found


def _joined(seen: Array, y: Array, classes: int) -> Float[Array, " m k"]:
    """Records beside their classes, one column each; a class that was not learned has none."""
    return np.concatenate([seen, y[:, None] == np.arange(classes)[None]], axis=1)


def _left_out(name: str, known: Known, folds: Int[Array, " m"], seed: int) -> tuple[Array, Array]:
    """Mean and spread for each record from a regressor that did not learn from its fold."""
    mean, spread = np.empty(len(folds)), np.empty(len(folds))
    for fold in np.unique(folds):
        out = folds == fold
        mean[out], spread[out] = fitted(name, known.of(~out), seed)(known.seen[out], known.y[out])
    return mean, spread


def pinball(s: Float[Array, " m"], mean: Float[Array, " m"], spread: Float[Array, " m"]) -> float:
    """The mean pinball loss of Gaussian quantiles at `LEVELS`."""
    losses: list[float] = []
    for q in LEVELS:
        over = s - (mean + norm.ppf(q) * spread)
        losses.append(float(np.maximum(q * over, (q - 1) * over).mean()))
    return float(np.mean(losses))


def level(z: Float[Array, " m"], false_alarms: float) -> float:
    """The threshold that another exchangeable z is above with a chance of `false_alarms` at the most.

    The ceil((1 - a) (m + 1))-th smallest of m; with too few for that, above all of them.
    """
    rank = int(np.ceil((1 - false_alarms) * (len(z) + 1)))
    ordered = np.sort(z)
    return float(ordered[rank - 1]) if rank <= len(z) else float(ordered[-1] + max(np.ptp(ordered), 1.0))


def _attained(z: Float[Array, " m"], folds: Int[Array, " m"], false_alarms: float) -> float:
    """The share of non-members accused at thresholds that were read off the other folds."""
    accused = [z[folds == f] > level(z[folds != f], false_alarms) for f in np.unique(folds)]
    return float(np.concatenate(accused).mean())
