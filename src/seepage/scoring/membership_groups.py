"""In which groups of records membership shows more than in the rest, and how it varies from training to training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from seepage.core.errors import DataError
from seepage.core.guess import Guess
from seepage.core.record import Estimate, Group, Spread
from seepage.core.secrets import Profile
from seepage.scoring import ranks
from seepage.scoring.controls import Auc, Measure, p_value
from seepage.scoring.stats import clopper_pearson, holm

Array = np.ndarray

# The fewest members, and non-members, of a group of which something is said, and outside it.
LEAST = 15
ALPHA = 0.05


def _place(name: str) -> tuple[int, str]:
    """Parts by rarity from the most ordinary to the rarest; other names as they are sorted."""
    numbers = [int(word) for word in name.split() if word.isdigit()]
    if name.startswith("most ordinary"):
        return 0, name
    return (1000, name) if name.startswith("rarest") else (numbers[0] if numbers else 0, name)


def groups(
    values: Float[Array, " n"],
    is_member: Bool[Array, " n"],
    profile: Profile,
    controls: Mapping[str, Float[Array, " n"]] | None = None,
    alpha: float = ALPHA,
) -> tuple[Group, ...]:
    """Every group with its AUC, against that of the other groups of its axis.

    "The rest" is the mean of the AUCs within the other groups, weighted by m n / (m + n) of their m members and n
    non-members: a mixture of easy and hard records would have a lower AUC than any of them, and every group would stand
    out. The test is one-sided, of a group that leaks no more than the rest: the difference over the root of the sum of
    the variances, each the larger of DeLong's and of Hanley and McNeil's at the AUC of the rest, against a normal law.
    A group has to leak at all, too: above chance, and above each control within the group (`controls.p_value`). The
    greater of the p-values counts, corrected over all groups of all axes together (Holm).

    Args:
        values: scores of the candidates, higher for a member.
        is_member: which were trained on.
        profile: the groups.
        controls: what guesses without the victim, and the attack on the twin, score the candidates.
        alpha: share of findings without any difference in which a group may be flagged.
    """
    outside = np.sort(values[~is_member])
    threshold = None if len(outside) < 100 else float(outside[-1 - len(outside) // 100])
    found: list[Group] = []
    for axis, names in profile.groups.items():
        labels, order = np.array(names), list(dict.fromkeys(sorted(names, key=_place)))
        parts = {name: _Part.of(values, is_member, labels == name) for name in order}
        for name in order:
            beside = [_Part.of(other, is_member, labels == name) for other in (controls or {}).values()]
            found.append(_group(axis, name, parts, beside, threshold))
    raw = [group.p_value for group in found if group.p_value is not None]
    corrected = iter(holm(raw))
    return tuple(
        group
        if group.p_value is None
        else group.model_copy(update={"p_value": (p := next(corrected)), "flagged": p <= alpha})
        for group in found
    )


@dataclass(frozen=True)
class _Part:
    """The scores of one group."""

    pos: Float[Array, " m"]
    neg: Float[Array, " k"]

    @classmethod
    def of(cls, values: Float[Array, " n"], is_member: Bool[Array, " n"], mine: Bool[Array, " n"]) -> "_Part":
        return cls(values[mine & is_member], values[mine & ~is_member])

    @property
    def enough(self) -> bool:
        return min(len(self.pos), len(self.neg)) >= LEAST

    @property
    def weight(self) -> float:
        return len(self.pos) * len(self.neg) / (len(self.pos) + len(self.neg))

    @cached_property
    def placed(self) -> ranks.Placements:
        return ranks.Placements.of(self.pos, self.neg)

    def variance(self, auc: float) -> float:
        return max(self.placed.variance, ranks.rank_variance(auc, len(self.pos), len(self.neg)))


def _group(axis: str, name: str, parts: Mapping[str, _Part], beside: Sequence[_Part], threshold: float | None) -> Group:
    mine = parts[name]
    told: dict[str, Any] = {"axis": axis, "name": name, "members": len(mine.pos), "nonmembers": len(mine.neg)}
    if not mine.enough:
        return Group(**told, reason=f"at least {LEAST} members and {LEAST} non-members of the group are needed")
    told["auc"] = ranks.auc_interval(mine.placed)
    if threshold is not None:
        told["found"] = clopper_pearson(int((mine.pos > threshold).sum()), len(mine.pos))
    others = [part for other, part in parts.items() if other != name and part.enough]
    if not others:
        return Group(**told, reason="there is no other group large enough to compare it with")
    weights = np.array([part.weight for part in others]) / sum(part.weight for part in others)
    rest = float(weights @ [part.placed.auc for part in others])
    variance = mine.variance(rest) + float(weights**2 @ [part.variance(rest) for part in others])
    z = (mine.placed.auc - rest) / np.sqrt(variance) if variance > 0 else 0.0
    controls: dict[str, Measure | float] = {"chance": 0.5}
    controls |= {str(k): Auc(part.pos, part.neg) for k, part in enumerate(beside)}
    leaks = p_value(Auc(mine.pos, mine.neg), controls)
    return Group(**told, rest=rest, p_value=max(float(stats.norm.sf(z)), leaks))


def spread(guess: Guess, n: int) -> tuple[Spread, ...]:
    """AUC and members found at low false-positive rates, over the reference models that played the victim.

    Student's t interval is over targets, whose trainings differ in seed and in half of the records. They share records
    and references, which it does not know of: it is somewhat too narrow.

    Raises:
        DataError: when the trace of the rehearsals has another form.
    """
    if "target_scores" not in guess.trace or "target_inside" not in guess.trace:
        return ()
    scores, inside = np.asarray(guess.trace["target_scores"]), np.asarray(guess.trace["target_inside"], dtype=bool)
    if scores.shape != inside.shape or scores.ndim != 2 or scores.shape[1] != n:
        raise DataError(
            f"rehearsals: target_scores and target_inside of (targets, {n}) were wanted, got {scores.shape} and "
            f"{inside.shape}"
        )
    if len(scores) < 2:
        return ()
    found: list[Spread] = []
    for name, rate in (("auc", None), ("tpr_at_fpr_1", 0.01), ("tpr_at_fpr_0_1", 0.001)):
        if rate is not None and rate * (~inside).sum(axis=1).min() < 1:
            continue
        each = [_one(row[mine], np.sort(row[~mine]), rate) for row, mine in zip(scores, inside, strict=True)]
        found.append(_over(name, np.array(each)))
    return tuple(found)


def _one(pos: Float[Array, " m"], neg: Float[Array, " k"], rate: float | None) -> float:
    if rate is None:
        return ranks.Placements.of(pos, neg).auc
    return float((pos > neg[-1 - int(rate * len(neg))]).mean())


def _over(name: str, each: Float[Array, " t"]) -> Spread:
    t, deviation = len(each), float(each.std(ddof=1))
    half = float(stats.t.ppf(0.975, t - 1)) * deviation / np.sqrt(t)
    mean = float(each.mean())
    whole = Estimate(value=mean, low=max(mean - half, 0.0), high=min(mean + half, 1.0))
    return Spread(
        score=name, targets=t, mean=whole, deviation=deviation, least=float(each.min()), most=float(each.max())
    )
