"""How large a share of a training set a group is, as an attack tells it: beside what the public says and the truth."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from seepage.core.record import AuditRecord, Finding
from seepage.report.plots import histogram
from seepage.report.shares import estimated, interval_text, is_property, share_text
from seepage.report.views import arm_text
from seepage.report.words import Sentence, said

Array = np.ndarray


@dataclass(frozen=True)
class PropertyView:
    """One finding about a group's share.

    Attributes:
        finding: the finding.
        sentences: what was told of the victim, how well others are told, what could not have been seen.
        rows: measure and value, in words.
        chart: estimates of the trials, those at the victim's share and those at the public's.
    """

    finding: Finding
    sentences: tuple[Sentence, ...]
    rows: tuple[tuple[str, str], ...]
    chart: Markup | None


def property_views(record: AuditRecord, arrays: Mapping[str, Mapping[str, Array]]) -> list[PropertyView]:
    """A view of every finding about a group's share that gave a value."""
    made: list[PropertyView] = []
    for k, finding in enumerate(record.findings):
        if is_property(finding) and finding.status == "done" and finding.score is not None:
            made.append(_view(f"property-{k}", finding, arrays.get(finding.id, {})))
    return made


def _view(name: str, finding: Finding, arrays: Mapping[str, Array]) -> PropertyView:
    facts = finding.facts
    rows = [
        ("The public says", share_text(facts.get("public_share"))),
        ("The attack says", interval_text(finding)),
        ("The truth is", share_text(facts.get("true_share"))),
        ("Smallest difference that one model shows four times in five", share_text(facts.get("smallest_difference"))),
        ("Mean error over the trial models", share_text(facts.get("mean_error"))),
        ("Intervals of trial models that hold the truth (95 % is meant)", share_text(facts.get("coverage"))),
        ("Records each model was trained on, and the victim", _both(finding, "records_each", "records_victim")),
        ("Shadow models, trial models", _both(finding, "shadow_models", "trial_models")),
    ]
    return PropertyView(
        finding,
        (estimated(finding), *_unsure(finding)),
        tuple(row for row in rows if row[1]),
        _chart(name, finding, arrays),
    )


def _chart(name: str, finding: Finding, arrays: Mapping[str, Array]) -> Markup | None:
    told = arrays.get("property_shares")
    public = finding.facts.get("public_share")
    if told is None or told.ndim != 2 or told.shape[1] != 4 or not isinstance(public, float):
        return None
    # Whole records: shares are those that were drawn, the nearest to the public's and to the victim's.
    levels = np.unique(told[:, 0])
    if len(levels) != 2:
        return None
    plain = levels[np.abs(levels - public).argmin()]
    is_plain = told[:, 0] == plain
    labels = ("trained at the victim's share", "trained at the public's")
    title = f"Shares that {finding.title} tells, {arm_text(finding)}"
    return Markup(histogram(f"{name}-bars", title, told[~is_plain, 1], told[is_plain, 1], labels))


def _unsure(finding: Finding) -> list[Sentence]:
    each, own = finding.facts.get("records_each"), finding.facts.get("records_victim")
    if isinstance(each, float) and isinstance(own, float) and each != own:
        return [
            said(
                f"The victim was trained on {own:,.0f} records and these models on {each:,.0f}: what it says of the "
                "victim may be off for that reason, and its interval does not know of it."
            )
        ]
    return []


def _both(finding: Finding, one: str, other: str) -> str:
    told = [finding.facts.get(name) for name in (one, other)]
    return ", ".join(f"{value:,.0f}" for value in told if isinstance(value, float))
