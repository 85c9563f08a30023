"""Who is at risk: the members most exposed and why, the groups that leak more, and how leakage varies by training."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from seepage.core.record import AuditRecord, Exposure, Finding, Group, Score, Spread
from seepage.core.vocabulary import Leak
from seepage.report import numbers
from seepage.report.figures import ForestRow, forest
from seepage.report.views import Chart

# Members listed; groups drawn on one axis.
LISTED, DRAWN = 20, 24
_WORDS = {
    "auc": "AUC",
    "tpr_at_fpr_1": "members found at 1 % false accusations",
    "tpr_at_fpr_0_1": "members found at 0.1 % false accusations",
}


@dataclass(frozen=True)
class Axis:
    """The groups of one axis: a chart of those that can be estimated, and what is said of the others."""

    name: str
    chart: Chart | None
    groups: tuple[Group, ...]

    @property
    def untold(self) -> tuple[Group, ...]:
        """Groups of which nothing can be said."""
        return tuple(group for group in self.groups if group.auc is None)


@dataclass(frozen=True)
class RiskView:
    """What one attack says of who is at risk: the one whose leakage is greatest.

    Attributes:
        finding: of that attack.
        sentences: the answer, in words.
        axes: groups by axis.
        spread: how scores vary from training to training.
        listed: the most exposed members.
        missing: what it would take to say more, or None.
    """

    finding: Finding
    sentences: tuple[str, ...]
    axes: tuple[Axis, ...]
    spread: tuple[tuple[str, Spread], ...]
    listed: tuple[Exposure, ...]
    missing: str | None


def risk_view(record: AuditRecord) -> RiskView | None:
    """The view of a record, or None where membership was not measured on the undefended victim."""
    able = [
        finding
        for finding in record.findings
        if finding.leak is Leak.MEMBERSHIP and finding.status == "done" and not finding.defenses and finding.exposed
    ]
    if not able:
        return None
    best = max(able, key=_leakage)
    return RiskView(
        finding=best,
        sentences=tuple(_sentences(best)),
        axes=tuple(_axes(best)),
        spread=tuple((_WORDS.get(one.score, one.score), one) for one in best.spread),
        listed=tuple(best.exposed[:LISTED]),
        missing=None
        if best.spread
        else "How leakage varies from training to training, and what of a record was memorised, is known with "
        "reference models alone: give a recipe and [references] models = 16 (in Python recipe=, references=16).",
    )


def _leakage(finding: Finding) -> float:
    score = finding.score
    return -1.0 if score is None or score.leakage is None else score.leakage.value


def _sentences(finding: Finding) -> list[str]:
    told: list[str] = []
    if finding.confounded is not None:
        told.append(
            "Members and non-members can be told apart without the model, so that nothing below may be due to it."
        )
    rare = next((s for n in ("tpr_at_fpr_0_1", "tpr_at_fpr_1") if (s := finding.scores.get(n)) and s.value), None)
    members = finding.facts.get("members")
    if rare is not None and rare.value is not None and isinstance(members, float):
        rate = "one in a thousand" if rare.name == "tpr_at_fpr_0_1" else "one in a hundred"
        low, high = (0.0 if end is None else end for end in (rare.low, rare.high))
        told.append(
            f"{round(rare.value * members):,} of {round(members):,} members ({rare.value:.1%}; 95 % interval "
            f"{low:.1%} to {high:.1%}) can be named while at most {rate} of those who are not members is accused."
        )
    common = finding.facts.get("most_exposed")
    if isinstance(common, str):
        told.append(common + ".")
    flagged = [group for group in finding.groups if group.flagged]
    tested = [group for group in finding.groups if group.p_value is not None]
    if flagged:
        names = ", ".join(f"{group.axis} “{group.name}”" for group in flagged)
        told.append(f"More at risk than the rest, after correction for {len(tested)} groups: {names}.")
    elif tested:
        told.append(f"None of {len(tested)} groups leaks more than the rest, at 5 % after correction for all of them.")
    return told


def _axes(finding: Finding) -> list[Axis]:
    names = list(dict.fromkeys(group.axis for group in finding.groups))
    return [_axis(k, name, [g for g in finding.groups if g.axis == name]) for k, name in enumerate(names)]


def _axis(k: int, name: str, groups: Sequence[Group]) -> Axis:
    shown = [group for group in groups if group.auc is not None][:DRAWN]
    if not shown:
        return Axis(name, None, tuple(groups))
    title = f"AUC of members against non-members, by {name}"
    rows = [ForestRow(group.name, _detail(group), _score(group), without="the other groups") for group in shown]
    drawn = (Markup(forest(f"risk-{k}-{way}", title, rows, way)) for way in ("wide", "narrow"))
    return Axis(name, Chart(title, *drawn), tuple(groups))


def _detail(group: Group) -> str:
    told = f"{group.members} members"
    if group.flagged:
        return f"{told}, more at risk: {numbers.p_text(group.p_value)}"
    return told


def _score(group: Group) -> Score | None:
    if group.auc is None:
        return None
    return Score(
        name="auc",
        title="AUC",
        value=group.auc.value,
        low=group.auc.low,
        high=group.auc.high,
        chance=0.5,
        n=group.members + group.nonmembers,
        unit="record",
        method="",
    )
