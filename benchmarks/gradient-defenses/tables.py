"""Rows of the table: of each kind of attack the strongest, as JSON and in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from arms import KINDS, LABELS, MALICIOUS
from scipy.stats import ttest_1samp

from seepage.core.record import Finding

Row = dict[str, Any]
_COST = ("encrypted_bytes_a_client", "plain_bytes_a_client", "encrypt_seconds_a_client", "clients_a_sum")


def row(findings: Sequence[Finding], accuracy: float | None, **more: Any) -> Row:
    """One arm: what it costs, and of every kind of attack the strongest by the leakage of its headline score."""
    facts: dict[str, Any] = {}
    for finding in findings:
        facts |= finding.facts
    kinds = {kind: strongest([f for f in findings if f.attack in names]) for kind, names in KINDS.items()}
    told = {name: _rounded(facts[name]) for name in facts if name in _COST or name.endswith("_a_client")}
    return {
        "accuracy": None if accuracy is None else round(accuracy, 3),
        "epsilon": _rounded(facts.get("dp_epsilon")),
        **({"epsilon_of": facts["dp_unit"], "epsilon_rounds": facts.get("dp_rounds")} if "dp_unit" in facts else {}),
        **more,
        **({"facts": told} if told else {}),
        "kinds": {kind: found for kind, found in kinds.items() if found is not None},
    }


def strongest(findings: Sequence[Finding]) -> Row | None:
    """The finding with the greatest leakage beyond its strongest control, and the leakage of the others of its kind."""
    scored = [
        (finding, finding.score, finding.score.leakage)
        for finding in findings
        if finding.score is not None and finding.score.leakage is not None
    ]
    failed = {f.attack: f.error.message for f in findings if f.status == "failed" and f.error is not None}
    if not scored:
        return {"attack": None, "failed": failed} if failed else None
    best, score, leakage = max(scored, key=lambda part: part[2].value)
    exact = best.scores["exact"].value if "exact" in best.scores else None
    found: Row = {
        "attack": best.attack,
        "recalled" if best.headline == "label_recall" else "identified": _rounded(score.value),
        **({"exact": _rounded(exact)} if exact is not None else {}),
        "leakage": _rounded(leakage.value),
        "low": _rounded(leakage.low),
        "high": _rounded(leakage.high),
        "units": f"{score.n} {score.unit}s",
    }
    if (psnr := best.facts.get("psnr_db_median")) is not None:
        found["psnr_db"] = round(float(psnr), 1)
    exacts = [f.scores["exact"].value or 0.0 for f in findings if "exact" in f.scores]
    if exacts:
        found["exact_most"] = _rounded(max(exacts))
    # Of all of the kind: what any of them shows, not the strongest alone.
    found["low_most"] = _rounded(max(part[2].low for part in scored))
    found["high_most"] = _rounded(max(part[2].high for part in scored))
    found["apart"] = sorted(
        {finding.attack for finding, s, part in scored if apart(finding, (s.value or 0.0) - part.value)}
    )
    found["tried"] = {finding.attack: _rounded(part.value) for finding, _, part in scored}
    return found | ({"failed": failed} if failed else {})


def apart(finding: Finding, control: float) -> bool:
    """Whether the shares of records identified, one a client or sum, lie above a control, by Student's t at 95 %.

    The intervals of findings hold for any distribution over units; with few of them they are wide. This one takes the
    shares for normal, and sees what all of ten sums have in common.
    """
    shares = _shares(finding)
    if len(shares) < 3:
        return False
    if np.ptp(shares) == 0:
        return bool(shares[0] > control)
    return bool(ttest_1samp(shares, control).confidence_interval(0.95).low > 0)


def _shares(finding: Finding) -> np.ndarray:
    """(k,) of each client or sum the share of its records that are identified, as the exposures say it."""
    by_unit: dict[str, list[bool]] = {}
    for one in finding.exposed:
        unit, comma, _ = one.id.partition(", ")
        by_unit.setdefault(unit if comma else "", []).append("; identified among" in one.evidence)
    return np.array([np.mean(hits) for hits in by_unit.values()])


def most(rows: Sequence[Row], kinds: Sequence[str], end: str) -> float | None:
    """The greatest `end` ("low_most" or "high_most") of any attack of these kinds; None where none was played."""
    met = [found for told in rows for kind, found in told["kinds"].items() if kind in kinds]
    return max((found[end] for found in met if end in found), default=None)


def indistinguishable(rows: Sequence[Row], kinds: Sequence[str]) -> bool | None:
    """Whether no attack of these kinds has a leakage above 0, by interval or `apart`; None where none was played."""
    low = most(rows, kinds, "low_most")
    seen = [
        found["apart"] for told in rows for kind, found in told["kinds"].items() if kind in kinds and "apart" in found
    ]
    return None if low is None else low <= 0 and not any(seen)


def reading_only() -> list[str]:
    """The kinds of attack of a server that sends no model of its own."""
    return [kind for kind in KINDS if kind != MALICIOUS]


def markdown(rows: Mapping[str, Row]) -> str:
    """The table."""
    lines = ["| defense | accuracy | epsilon | " + " | ".join(KINDS) + " |", "|" + " --- |" * (3 + len(KINDS))]
    for name, told in rows.items():
        epsilon = "" if "epsilon_of" not in told else "none" if told["epsilon"] is None else f"{told['epsilon']:.3g}"
        accuracy = "" if told["accuracy"] is None else f"{told['accuracy']:.3f}"
        title = f"`{name}`" + (" (chosen)" if told.get("chosen") else "")
        cells = [title, accuracy, epsilon, *(cell(told["kinds"].get(kind), kind) for kind in KINDS)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(found: Row | None, kind: str) -> str:
    """One kind of attack in a row."""
    if found is None or found["attack"] is None:
        return ""
    share = f"{found['recalled']:.2f}" if kind == LABELS else f"{found['identified']:.2f}, {found['exact']:.2f} exact"
    return f"`{found['attack']}` {share}; {found['leakage']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
