"""A mean over records of any numbers, as a measure that can be set against its controls."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student

from seepage.core.record import Estimate
from seepage.scoring.controls import Measure

Array = np.ndarray


@dataclass(frozen=True)
class RecordMean(Measure):
    """A mean over records of any numbers, with Student's t: likenesses lie close together, unlike yes and no.

    Attributes:
        values: (n,) one number a record, in the order of the records.
    """

    values: Float[Array, " n"]

    def estimate(self, confidence: float = 0.95) -> Estimate:
        mean, n = float(self.values.mean()), len(self.values)
        if n < 2:
            return Estimate(value=mean, low=0.0, high=1.0)
        half = float(student.ppf((1 + confidence) / 2, n - 1) * self.values.std(ddof=1) / np.sqrt(n))
        return Estimate(value=mean, low=mean - half, high=mean + half)

    def above_chance(self, chance: float) -> float:
        n, gap = len(self.values), float(self.values.mean()) - chance
        if n < 2:
            return 0.5
        spread = float(self.values.std(ddof=1))
        return float(student.sf(gap * np.sqrt(n) / spread, n - 1)) if spread > 0 else 0.5 - 0.5 * float(np.sign(gap))

    def correlation(self, other: Measure) -> float:
        if not isinstance(other, RecordMean) or min(self.values.std(), other.values.std()) <= 0:
            return 0.0
        return float(np.corrcoef(self.values, other.values)[0, 1])
