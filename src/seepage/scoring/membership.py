"""Scores of membership inference: are records that were trained on scored above others?

The unit is a record. Members and non-members should come from one random split; what tells them
apart without the model belongs among the controls (`no_model`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from seepage.core.errors import DataError
from seepage.core.guess import Guess, Scores
from seepage.core.record import Estimate, Score
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import MembershipSecret, Secret
from seepage.scoring import controls as against
from seepage.scoring import membership_groups, membership_records, ranks

Array = np.ndarray

HEADLINE = "auc"
_RATES = {
    "tpr_at_fpr_10": (0.1, "10 %"),
    "tpr_at_fpr_1": (0.01, "1 %"),
    "tpr_at_fpr_0_1": (0.001, "0.1 %"),
    "tpr_at_fpr_0_01": (0.0001, "0.01 %"),
}
_AUC_METHOD = (
    "Newcombe 2006 method 5 with DeLong's variance, and DeLong on the logit scale, the wider; "
    "differences by squaring and adding with DeLong's correlation; against chance also Mann-Whitney's test"
)
_TPR_METHOD = (
    "Clopper-Pearson over members, squared and added to the order-statistic interval of the threshold over "
    "non-members; against chance also the exact hypergeometric test"
)
_ADVANTAGE_METHOD = "Newcombe 1998 over members and non-members; against chance also Fisher's exact test"


@dataclass(frozen=True)
class _Split:
    """One guess told apart by the truth, with the threshold its attack fixed beforehand."""

    pos: Float[Array, " m"]
    neg: Float[Array, " n"]
    threshold: float | None

    def advantage(self) -> against.Advantage | None:
        """The accusations at the attack's own threshold; None when it has none."""
        if self.threshold is None:
            return None
        return against.Advantage(
            hits=int((self.pos > self.threshold).sum()),
            members=len(self.pos),
            alarms=int((self.neg > self.threshold).sum()),
            nonmembers=len(self.neg),
        )


def _split(guess: Guess, is_member: Bool[Array, " n"], what: str) -> _Split:
    if not isinstance(guess, Scores):
        raise DataError(f"{what}: Scores were wanted, got a {type(guess).__name__}")
    values = ranks.check_scores(guess.values, what)
    if len(values) != len(is_member):
        raise DataError(f"{what}: one score a candidate was wanted, {len(is_member)} candidates got {len(values)}")
    threshold = None
    if "threshold" in guess.trace:
        found = np.asarray(guess.trace["threshold"], dtype=np.float64).reshape(-1)
        if len(found) != 1 or not math.isfinite(found[0]):
            raise DataError(f"{what}: trace['threshold'] should hold one finite number, got {found}")
        threshold = float(found[0])
    return _Split(values[is_member], values[~is_member], threshold)


def score(guess: Guess, secret: Secret, controls: Controls) -> Scored:
    """Scores of `Scores` against a `MembershipSecret`.

    - `auc` (headline): the probability that a member scores above a non-member, ties counted half; chance 0.5.
    - `tpr_at_fpr_10`, `tpr_at_fpr_1`, `tpr_at_fpr_0_1`, `tpr_at_fpr_0_01`: the share of members found when at most
      10 %, 1 %, 0.1 %, 0.01 % of the non-members are accused; chance is that rate; null with a reason when there are
      too few non-members.
    - `advantage`: TPR - FPR where the candidates scoring above `guess.trace["threshold"]` are accused; only
      when the attack fixed a threshold before it saw the scores. The best of all thresholds is not
      reported: it is above zero for a blind guess.
    - `balanced_accuracy`, last: half of 1 + advantage, under the same condition.

    `exposed` are the members by the share of non-members scoring below them, 100 at the most; `groups` and `spread` as
    `membership_groups` makes them. The curves are `fpr`, `tpr`, `tpr_low`, `tpr_high`, `null_fpr`, `null_tpr` (when
    there is a twin), `scores_members` and `scores_nonmembers`, `exposure` (of every member) and, with reference models,
    `memorised` (value, low and high of every member).

    Raises:
        DataError: for a guess that cannot be scored, or candidates that are all members or all not.
    """
    if not isinstance(secret, MembershipSecret):
        raise DataError(f"membership is scored against a MembershipSecret, got a {type(secret).__name__}")
    is_member = np.asarray(secret.is_member, dtype=bool)
    members, nonmembers = int(is_member.sum()), int((~is_member).sum())
    if not members or not nonmembers:
        raise DataError(
            f"membership needs members and non-members to tell apart, got {members} and {nonmembers}; "
            "give records that the model was not trained on"
        )
    value = _split(guess, is_member, "the attack")
    no_model = {name: _split(other, is_member, f"the control '{name}'") for name, other in controls.no_model.items()}
    null = None
    if controls.null_model is not None:
        null = _split(controls.null_model, is_member, "the attack on the twin")

    def auc_of(part: _Split) -> against.Auc:
        return against.Auc(part.pos, part.neg)

    scores = {
        HEADLINE: against.score(
            HEADLINE,
            "AUC of members against non-members",
            auc_of(value),
            against.Against(
                chance=0.5,
                no_model={name: auc_of(part) for name, part in no_model.items()},
                null_model=None if null is None else auc_of(null),
                missing=controls.missing,
            ),
            n=members + nonmembers,
            unit="record",
            method=_AUC_METHOD,
        )
    }
    for name, (fpr, shown) in _RATES.items():
        title = f"Members found at a false-positive rate of {shown}"
        scores[name] = _at_fpr(name, title, fpr, value, no_model, null, controls.missing)
    advantage = _advantage(value, no_model, null, controls.missing)
    if advantage is not None:
        scores[advantage.name] = advantage
        scores["balanced_accuracy"] = _balanced(advantage)
    known = membership_records.memorised(guess, len(is_member))
    twin = None if null is None else (null.pos, null.neg)
    found = membership_records.exposed((value.pos, value.neg), twin, known, secret)
    curves = _curves(value, null) | {"exposure": membership_records.shares_below(value.pos, value.neg)}
    if known is not None:
        curves["memorised"] = known[is_member]
    values = _whole(value, is_member)
    common = None if secret.profile is None else membership_records.commonest(found, secret.profile)
    return Scored(
        scores=scores,
        headline=HEADLINE,
        exposed=found,
        groups=()
        if secret.profile is None
        else membership_groups.groups(values, is_member, secret.profile, _beside(no_model, null, is_member)),
        spread=membership_groups.spread(guess, len(is_member)),
        curves=curves,
        facts={
            "members": float(members),
            "nonmembers": float(nonmembers),
            **({} if common is None else {"most_exposed": common}),
        },
    )


def _whole(part: _Split, is_member: Bool[Array, " n"]) -> Float[Array, " n"]:
    """The scores in the order of the candidates."""
    values = np.empty(len(is_member))
    values[is_member], values[~is_member] = part.pos, part.neg
    return values


def _beside(
    no_model: Mapping[str, _Split], null: _Split | None, is_member: Bool[Array, " n"]
) -> dict[str, Float[Array, " n"]]:
    """What every control scores the candidates, by name."""
    found = dict(no_model) if null is None else {**no_model, "null_model": null}
    return {name: _whole(part, is_member) for name, part in found.items()}


def _balanced(advantage: Score) -> Score:
    """Balanced accuracy, (1 + advantage) / 2, with everything that is said of the advantage."""

    def halved(part: Estimate | None) -> Estimate | None:
        if part is None:
            return None
        value, low, high = ((1 + end) / 2 for end in (part.value, part.low, part.high))
        return Estimate(value=value, low=low, high=high)

    def half(end: float | None) -> float | None:
        return None if end is None else (1 + end) / 2

    leakage = advantage.leakage
    if leakage is not None:
        leakage = Estimate(value=leakage.value / 2, low=leakage.low / 2, high=leakage.high / 2)
    return advantage.model_copy(
        update={
            "name": "balanced_accuracy",
            "title": "Balanced accuracy at the attack's own threshold",
            "value": half(advantage.value),
            "low": half(advantage.low),
            "high": half(advantage.high),
            "chance": 0.5,
            "controls": {name: halved(part) for name, part in advantage.controls.items()},
            "no_model_parts": {
                name: part for name, one in advantage.no_model_parts.items() if (part := halved(one)) is not None
            },
            "leakage": leakage,
        }
    )


def _at_fpr(
    name: str,
    title: str,
    fpr: float,
    value: _Split,
    no_model: Mapping[str, _Split],
    null: _Split | None,
    missing: Mapping[str, str],
) -> Score:
    reason = ranks.not_estimable(len(value.neg), fpr)
    if reason is not None:
        return against.unscored(name, title, fpr, reason, n=len(value.pos), unit="record")

    def measure(part: _Split) -> against.TprAtFpr:
        return against.TprAtFpr(part.pos, part.neg, fpr)

    return against.score(
        name,
        title,
        measure(value),
        against.Against(
            chance=fpr,
            no_model={part: measure(found) for part, found in no_model.items()},
            null_model=None if null is None else measure(null),
            missing=missing,
        ),
        n=len(value.pos),
        unit="record",
        method=_TPR_METHOD,
    )


def _advantage(
    value: _Split, no_model: Mapping[str, _Split], null: _Split | None, missing: Mapping[str, str]
) -> Score | None:
    """The advantage at the threshold of the attack, against controls that have one too."""
    found = value.advantage()
    if found is None:
        return None
    parts = {name: part.advantage() for name, part in no_model.items()}
    return against.score(
        "advantage",
        "TPR - FPR at the attack's own threshold",
        found,
        against.Against(
            chance=0.0,
            no_model={name: part for name, part in parts.items() if part is not None},
            null_model=None if null is None else null.advantage(),
            missing=missing,
        ),
        n=len(value.pos) + len(value.neg),
        unit="record",
        method=_ADVANTAGE_METHOD,
    )


def _curves(value: _Split, null: _Split | None) -> dict[str, Array]:
    found = ranks.roc(value.pos, value.neg)
    curves = {
        "fpr": found.fpr,
        "tpr": found.tpr,
        "tpr_low": found.low,
        "tpr_high": found.high,
        "scores_members": value.pos,
        "scores_nonmembers": value.neg,
    }
    if null is not None:
        twin = ranks.roc(null.pos, null.neg)
        curves |= {"null_fpr": twin.fpr, "null_tpr": twin.tpr}
    return curves
