"""A value against its controls: the leakage with its interval, the p-value, the strongest control.

The claim "this leaks" is the claim that the value is above **every** control. It is made when the
value is significantly above each of them alone, so no correction for their number is needed (an
intersection-union test: R. L. Berger 1982, Multiparameter hypothesis testing and acceptance
sampling, Technometrics 24). Where blind guessing follows a known law, the exact test of that
law must agree.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import root_scalar
from scipy.stats import hypergeom

from seepage.core.errors import DataError
from seepage.core.record import Estimate, Score
from seepage.scoring import ranks
from seepage.scoring.stats import above_share, difference, paired_correlation, unit_mean, wilson

Array = np.ndarray

CHANCE = "chance"
NO_MODEL = "no_model"
NULL_MODEL = "null_model"

# What the user could supply, where the case does not say it better.
_SUPPLY = {
    NO_MODEL: "public records, or a guess made from the same knowledge without the model",
    NULL_MODEL: "a recipe that trains a twin without the secret",
}

# The search for a p-value ends here: one minus twice less is one in double precision.
_LEAST_P = 1e-15


class Measure(ABC):
    """One measured value that can be set against others of its kind."""

    @abstractmethod
    def estimate(self, confidence: float = 0.95) -> Estimate:
        """The value with its interval."""

    @abstractmethod
    def above_chance(self, chance: float) -> float:
        """One-sided p-value of so large a value from a blind guess, by the law of blind guessing."""

    def correlation(self, other: "Measure") -> float:
        """The correlation of this estimate with `other`; 0 where it is not known."""
        del other
        return 0.0


@dataclass(frozen=True)
class UnitMean(Measure):
    """A mean over units of numbers in [0, 1] (`stats.unit_mean`).

    Attributes:
        values: (k,) one number a unit.
        names: (k,) which unit each one is, all different: two measures find the units they share.
    """

    values: Float[Array, " k"]
    names: Int[Array, " k"]

    def estimate(self, confidence: float = 0.95) -> Estimate:
        return unit_mean(self.values, confidence)

    def above_chance(self, chance: float) -> float:
        return above_share(self.values, chance)

    def correlation(self, other: Measure) -> float:
        """That of the shared units, lowered for those not shared: their covariance is s cov / (n k)."""
        if not isinstance(other, UnitMean):
            return 0.0
        shared, mine, theirs = np.intersect1d(self.names, other.names, return_indices=True)
        if not len(shared):
            return 0.0
        share = len(shared) / math.sqrt(len(self.names) * len(other.names))
        return paired_correlation(self.values[mine], other.values[theirs]) * share


@dataclass(frozen=True)
class Auc(Measure):
    """The AUC of members against non-members (`ranks.auc`); records in the same order as its controls'."""

    pos: Float[Array, " m"]
    neg: Float[Array, " n"]

    @cached_property
    def placements(self) -> ranks.Placements:
        return ranks.Placements.of(self.pos, self.neg)

    def estimate(self, confidence: float = 0.95) -> Estimate:
        return ranks.auc_interval(self.placements, confidence)

    def above_chance(self, chance: float) -> float:
        if chance != 0.5:
            raise DataError(f"a blind guess has an AUC of 0.5, not {chance}")
        return ranks.above_half(self.pos, self.neg)

    def correlation(self, other: Measure) -> float:
        if not isinstance(other, Auc) or (len(other.pos), len(other.neg)) != (len(self.pos), len(self.neg)):
            return 0.0
        return ranks.auc_correlation(self.placements, other.placements)


@dataclass(frozen=True)
class TprAtFpr(Measure):
    """The TPR at one FPR that can be estimated (`ranks.tpr_at_fpr`)."""

    pos: Float[Array, " m"]
    neg: Float[Array, " n"]
    fpr: float

    def estimate(self, confidence: float = 0.95) -> Estimate:
        found, reason = ranks.tpr_at_fpr(self.pos, self.neg, self.fpr, confidence)
        if found is None:
            raise DataError(str(reason))
        return found

    def above_chance(self, chance: float) -> float:
        if chance != self.fpr:
            raise DataError(f"a blind guess has a TPR of {self.fpr}, the FPR, not {chance}")
        return ranks.above_fpr(self.pos, self.neg, self.fpr)


@dataclass(frozen=True)
class Advantage(Measure):
    """TPR - FPR at a threshold fixed before the scores were seen: the advantage of Yeom et al. 2018.

    Attributes:
        hits, members: members accused, of how many.
        alarms, nonmembers: non-members accused, of how many.
    """

    hits: int
    members: int
    alarms: int
    nonmembers: int

    def estimate(self, confidence: float = 0.95) -> Estimate:
        return difference(wilson(self.hits, self.members, confidence), wilson(self.alarms, self.nonmembers, confidence))

    def above_chance(self, chance: float) -> float:
        """Fisher's exact test."""
        if chance != 0:
            raise DataError(f"a blind guess has an advantage of 0, not {chance}")
        everyone, accused = self.members + self.nonmembers, self.hits + self.alarms
        return 1.0 if self.hits == 0 else float(hypergeom.sf(self.hits - 1, everyone, self.members, accused))


def _apart(value: Measure, control: Measure | float, confidence: float) -> Estimate:
    """`value - control` with its interval; a number is known without error."""
    if isinstance(control, Measure):
        other, correlation = control.estimate(confidence), value.correlation(control)
    else:
        other, correlation = Estimate(value=control, low=control, high=control), 0.0
    return difference(value.estimate(confidence), other, correlation)


def contrast(value: Measure, control: Measure | float, confidence: float = 0.95) -> Estimate:
    """`value - control` with its interval (`stats.difference`).

    A number stands for chance, known without error. The lower end is then held at zero or below as
    long as the exact test of a blind guess does not reject at this level: a score interval
    excludes a small chance too easily (3 hits of 20 against 1 in 20 happen by chance in 7.5 % of audits).
    """
    found = _apart(value, control, confidence)
    if isinstance(control, Measure) or found.low <= 0 or value.above_chance(control) < (1 - confidence) / 2:
        return found
    return Estimate(value=found.value, low=0.0, high=found.high)


def leakage(value: Measure, controls: Mapping[str, Measure | float], confidence: float = 0.95) -> tuple[Estimate, str]:
    """The value minus the strongest control, and the name of that control.

    The true leakage is value - max(controls), the least of the differences.

    - The low end is the lowest of the low ends of all differences. It lies above the true leakage only
      if the low end for the truly strongest control does: no correction is needed, and "low > 0" means
      "above every control".
    - The high end is the lowest of the high ends of all differences, each made at a confidence
      corrected for the number of controls (Bonferroni). It lies below the true leakage only if one of
      them lies below its own difference. Taking the high end for the control that happened to come
      out strongest would be too low where several controls are about as strong.

    Raises:
        DataError: without controls.
    """
    if not controls:
        raise DataError("a leakage needs at least one control; chance is always known")
    corrected = 1 - (1 - confidence) / len(controls)
    differences = {name: contrast(value, control, confidence) for name, control in controls.items()}
    strongest = min(differences, key=lambda name: differences[name].value)
    low = min(found.low for found in differences.values())
    high = min(contrast(value, control, corrected).high for control in controls.values())
    return Estimate(value=differences[strongest].value, low=low, high=high), strongest


def _p_against(value: Measure, control: Measure | float) -> float:
    """The one-sided level at which the interval of the difference begins to exclude zero."""
    gap = _apart(value, control, 0.95).value
    if gap == 0:
        return 0.5

    def clearance(log_tail: float) -> float:
        found = _apart(value, control, 1 - 2 * math.exp(log_tail))
        return found.low if gap > 0 else -found.high

    least, most = math.log(_LEAST_P), math.log(0.5 - 1e-9)
    if clearance(least) >= 0:
        tail = _LEAST_P
    elif clearance(most) <= 0:
        tail = 0.5
    else:
        tail = math.exp(float(root_scalar(clearance, bracket=(least, most), xtol=1e-7).root))
    return tail if gap > 0 else 1 - tail


def p_value(value: Measure, controls: Mapping[str, Measure | float]) -> float:
    """One-sided p-value of the claim that the value is above every control.

    The largest over controls of the level at which that control's interval begins to exclude zero,
    found by root finding; against chance, never below the exact test of a blind guess. So the 95 %
    interval of `leakage` has low > 0 when, and only when, this is below 0.025. It is no smaller than
    1e-15.

    Raises:
        DataError: without controls.
    """
    if not controls:
        raise DataError("a p-value needs at least one control; chance is always known")
    found: list[float] = []
    for control in controls.values():
        p = _p_against(value, control)
        found.append(p if isinstance(control, Measure) else max(p, value.above_chance(control)))
    return max(found)


@dataclass(frozen=True)
class Against:
    """The controls of one score, as measures.

    Attributes:
        chance: what a blind guess gets.
        no_model: by name, guesses made without the model.
        null_model: the same attack on a twin without the secret.
        missing: control -> what the user could supply to have it.
    """

    chance: float
    no_model: Mapping[str, Measure] = field(default_factory=dict[str, Measure])
    null_model: Measure | None = None
    missing: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def lacking(self) -> dict[str, str]:
        """Each control that is not there, with what the user could supply."""
        there = {NO_MODEL: bool(self.no_model), NULL_MODEL: self.null_model is not None}
        return {name: self.missing.get(name, supply) for name, supply in _SUPPLY.items() if not there[name]}


def score(name: str, title: str, value: Measure, against: Against, *, n: int, unit: str, method: str) -> Score:
    """A score with its controls, leakage and p-value.

    Every model-free guess is a control of its own in the leakage; the one with the largest value is
    also shown as `no_model`.
    """
    parts = {part: measure.estimate() for part, measure in against.no_model.items()}
    best = max(parts, key=lambda part: parts[part].value) if parts else None
    controls: dict[str, Measure | float] = {CHANCE: against.chance}
    controls |= {f"{NO_MODEL}/{part}": measure for part, measure in against.no_model.items()}
    if against.null_model is not None:
        controls[NULL_MODEL] = against.null_model
    gap, strongest = leakage(value, controls)
    estimate = value.estimate()
    return Score(
        name=name,
        title=title,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        chance=against.chance,
        controls={
            NO_MODEL: None if best is None else parts[best],
            NULL_MODEL: None if against.null_model is None else against.null_model.estimate(),
        },
        no_model_parts=parts,
        missing=against.lacking,
        leakage=gap,
        strongest_control=strongest.split("/")[0],
        p_value=p_value(value, controls),
        n=n,
        unit=unit,
        method=method,
    )


def unscored(name: str, title: str, chance: float, reason: str, *, n: int, unit: str) -> Score:
    """A score that cannot be estimated, with the reason."""
    return Score(
        name=name, title=title, value=None, chance=chance, n=n, unit=unit, method="not estimable", reason=reason
    )
