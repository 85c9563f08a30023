"""From what shadow models show to the share that a model was trained on, with an interval: what property attacks share.

A regressor learns shares from the features of most shadow models, and a straight line is laid through what it says of
the others: how far a share moves its answer, and how far answers scatter. Read backwards the line gives the share of a
model that was never seen, with the interval of inverse regression. A regressor alone would do neither: it draws what it
cannot tell towards the middle of the shares it learned from, and knows nothing of its own errors on others.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import t as student
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from seepage.core.errors import DataError
from seepage.core.guess import Scores
from seepage.core.knowledge import Knowledge, PropertyKnowledge
from seepage.core.shadows import Shadows

Array = np.ndarray
# Features of some models, their shares and a stream, to what tells the share of others.
Learner = Callable[[Any, Float[Array, " k"], np.random.Generator], Callable[[Any], Float[Array, " n"]]]

# The least number of shadow models: parts with a level, a slope and a scatter to be found in each.
FEWEST = 8
# What is less is rounding: answers are shares themselves, so that a slope of 1 is that of the truth.
_LEAST_SLOPE = 1e-6
# So many parts, and no part of fewer models than this.
_PARTS, _FEWEST_IN_PART = 8, 4
_CONFIDENCE = 0.95
# What a share must differ by to be noticed by one model four times in five.
_POWER = 0.8


@dataclass(frozen=True)
class Line:
    """Answers of a regressor against true shares: answer = level + slope (share - centre) + scatter.

    Attributes:
        level, slope: of the straight line.
        centre: the mean share.
        width: the sum of squares of the shares about it.
        scatter: standard deviation about the line.
        models, freedom: how many models it was laid through, and the degrees of freedom of the scatter.
    """

    level: float
    slope: float
    centre: float
    width: float
    scatter: float
    models: int
    freedom: int

    @classmethod
    def through(cls, answers: Float[Array, " k"], shares: Float[Array, " k"], part: Int[Array, " k"]) -> "Line":
        """By least squares, with a level of its own for each part, whose answers are of different regressors."""
        answer, share, every = answers.copy(), shares.copy(), np.unique(part)
        for p in every:
            answer[part == p] -= answers[part == p].mean()
            share[part == p] -= shares[part == p].mean()
        width = float((share**2).sum())
        slope = float((share * answer).sum()) / width
        freedom = len(shares) - len(every) - 1
        scatter = math.sqrt(float(((answer - slope * share) ** 2).sum()) / freedom)
        # The parts count alike, as a model that is asked about is answered by all regressors.
        level = float(np.mean([answers[part == p].mean() for p in every]))
        centre = float(np.mean([shares[part == p].mean() for p in every]))
        return cls(level, slope, centre, width, scatter, len(shares), freedom)

    def share(self, answer: float, spread: float) -> tuple[float, float, float] | None:
        """The share behind an answer with its interval, or None where the slope may be none.

        All shares s with (answer - level - slope (s - centre))^2 <= q^2 scatter^2 (spread + 1/k + (s - centre)^2 /
        width), q the quantile of Student's t (Fieller 1954; Brown 1993, Measurement, regression and calibration,
        section 2.3). `spread` is how much more a model that is asked about varies than one of the k.
        """
        y = answer - self.level
        c = float(student.ppf((1 + _CONFIDENCE) / 2, self.freedom) * self.scatter) ** 2
        bend = self.slope**2 - c / self.width
        if self.slope < _LEAST_SLOPE or bend <= 0:
            return None
        reach = math.sqrt(max(c * ((spread + 1 / self.models) * bend + y * y / self.width), 0.0))
        ends = [self.centre + (self.slope * y + side * reach) / bend for side in (-1, 1)]
        return self.centre + y / self.slope, ends[0], ends[1]

    def smallest(self, spread: float) -> float | None:
        """The least difference of shares that one model shows with a power of 80 %; None where it shows none."""
        c = float(student.ppf((1 + _CONFIDENCE) / 2, self.freedom) * self.scatter) ** 2
        if self.slope < _LEAST_SLOPE or self.slope**2 <= c / self.width:
            return None
        z = float(student.ppf((1 + _CONFIDENCE) / 2, self.freedom) + student.ppf(_POWER, self.freedom))
        least = z * self.scatter * math.sqrt(spread + 1 / self.models) / self.slope
        return least if least < 1 else None


def ridge(features: Any, shares: Float[Array, " k"], rng: np.random.Generator) -> Callable[[Any], Float[Array, " n"]]:
    """A `Learner`: ridge regression on standardised features, its penalty chosen by leaving one model out."""
    del rng
    model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-1, 6, 15)))
    model.fit(np.asarray(features, dtype=np.float64), shares)
    return lambda seen: np.asarray(model.predict(np.asarray(seen, dtype=np.float64)), dtype=np.float64)


def parts(shares: Float[Array, " k"], rng: np.random.Generator) -> Int[Array, " k"]:
    """(k,) which of up to 8 parts each model is in: of models with neighbouring shares one goes to each, at random.

    So all parts have like shares. Were they not alike, a regressor that knows nothing would say the mean of what it
    learned from, which moves against the part left out: a slope where there is none.
    """
    count = max(min(_PARTS, len(shares) // _FEWEST_IN_PART), 2)
    order = np.lexsort((rng.random(len(shares)), shares))
    part = np.zeros(len(shares), dtype=np.int64)
    for start in range(0, len(shares), count):
        near = order[start : start + count]
        part[near] = rng.permutation(count)[: len(near)]
    return part


def spread_of(drawn: float) -> float:
    """How much more a stranger varies than a shadow model about the line, at the most, as a ratio of variances.

    Of shadow models that draw a part f of the same records, the means vary by 1 - f of what independent draws would,
    the correction for a finite population; a model trained on other records varies by 1, and about what these
    records have in common by f more. The ratio is that of a scatter that is all due to which records were drawn;
    what is due to the seed needs no correction, so that intervals are rather too wide.
    """
    return (1 + drawn) / (1 - drawn)


def told(shadows: Shadows, of_shadows: Any, of_models: Any, learn: Learner, rng: np.random.Generator) -> Scores:
    """The guess: for each model asked about the mean answer of the regressors, and its share with an interval.

    There are as many regressors as parts, each learned from all parts but one, on which it is tried.

    Args:
        shadows: the shadow models' shares.
        of_shadows: (k, ...) what they show, an array or a list.
        of_models: (n, ...) the same of the models asked about.
        learn: how shares are learned.
        rng: draws the parts, and what learning draws.

    Raises:
        DataError: with too few shadow models, or features that are not finite.
    """
    if len(shadows) < FEWEST:
        raise DataError(f"property inference needs {FEWEST} shadow models or more, got {len(shadows)}")
    shares = np.asarray(shadows.shares, dtype=np.float64)
    if np.ptp(shares) <= 0:
        raise DataError(f"shadow models at different shares were wanted, all of them are at {shares[0]:g}")
    part = parts(shares, rng)
    count = int(part.max()) + 1
    tried = np.zeros(len(shares))
    answers = np.zeros((count, len(of_models)))
    for p, own in enumerate(rng.spawn(count)):
        learned, left = np.nonzero(part != p)[0], np.nonzero(part == p)[0]
        tell = learn(_rows(of_shadows, learned), shares[learned], own)
        tried[left] = tell(_rows(of_shadows, left))
        answers[p] = tell(of_models)
    line, spread = Line.through(tried, shares, part), spread_of(shadows.drawn)
    # What sums of equal numbers in another order differ by is no difference.
    values = np.round(answers.mean(axis=0), 9)
    found = [line.share(float(value), spread) for value in values]
    rows = np.array([(value, 0.0, 1.0) if one is None else one for value, one in zip(values, found, strict=True)])
    least = line.smallest(spread)
    facts: dict[str, float | str | None] = {
        "shadow_models": float(len(shadows)),
        "shadow_share_low": float(shares.min()),
        "shadow_share_high": float(shares.max()),
        "smallest_difference": least,
    }
    notes = ()
    if line.share(line.level, spread) is None:
        notes = (
            "Shadow models at different shares cannot be told apart by what this attack sees: its intervals are the "
            "whole range, and its estimates say nothing.",
        )
    return Scores(values, trace={"shares": np.clip(rows, 0.0, 1.0)}, facts=facts, notes=notes)


def _rows(features: Any, rows: Int[Array, " m"]) -> Any:
    return features[rows] if isinstance(features, np.ndarray) else [features[i] for i in rows]


def obstacle(knowledge: Knowledge) -> str | None:
    """Why such a case cannot be played, or None: what every property attack needs."""
    if not isinstance(knowledge, PropertyKnowledge):
        return "it needs a group whose share is asked about ([property]; in Python property=)"
    if knowledge.shadows.models < FEWEST:
        return f"it needs {FEWEST} shadow models or more ([property] shadows), got {knowledge.shadows.models}"
    return None
