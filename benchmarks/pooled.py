"""Findings of several audits pooled: one row an attack, its value with an interval over the classes of all audits."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from seepage.core.record import AuditRecord, Finding
from seepage.scoring.stats import wilson

Row = dict[str, float]


@dataclass
class Pool:
    """Collects headline scores by name; a finding that failed is kept as a reason."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, finding: Finding) -> None:
        """One finding under a name; several of one name are pooled."""
        score = finding.score
        if score is None or score.value is None:
            self.failed[name] = finding.error.message if finding.error is not None else "no value"
            return
        controls = {name: found.value for name, found in score.controls.items() if found is not None}
        row: Row = {
            "hits": score.value * score.n,
            "n": score.n,
            "no_model": controls.get("no_model", float("nan")),
            "null_model": controls.get("null_model", float("nan")),
            "seconds": finding.seconds,
            "queries": finding.queries,
        }
        for other, found in finding.scores.items():
            if found.value is not None and other != finding.headline:
                row[f"score:{other}"] = found.value
        self.rows.setdefault(name, []).append(row)

    def add_all(self, record: AuditRecord, prefix: str = "") -> None:
        """Every finding of a record, under its title and the name of what it stands behind."""
        for finding in record.findings:
            behind = "".join(f"+{defense.name}" for defense in finding.defenses)
            self.add(f"{prefix}{finding.title}{behind}", finding)

    def results(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name and pooled figures of every row, JSON-ready; what could not be had is null."""
        for name, found in self.rows.items():
            classes = sum(row["n"] for row in found)
            value = wilson(round(sum(row["hits"] for row in found)), int(classes))

            def mean(key: str, found: list[Row] = found) -> float | None:
                values = [row[key] for row in found if key in row and row[key] == row[key]]
                return sum(values) / len(values) if values else None

            result: dict[str, Any] = {
                "value": round(value.value, 3),
                "low": round(value.low, 3),
                "high": round(value.high, 3),
                "no_model": _rounded(mean("no_model"), 3),
                "null_model": _rounded(mean("null_model"), 3),
                "seconds": _rounded(mean("seconds"), 1),
                "queries": round(mean("queries") or 0),
                "people": int(classes),
            }
            others = sorted({key for row in found for key in row if key.startswith("score:")})
            result |= {key.removeprefix("score:"): _rounded(mean(key), 3) for key in others}
            yield name, result
        for name, why in self.failed.items():
            if name not in self.rows:
                yield name, {"value": None, "reason": why}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def table(results: dict[str, dict[str, Any]]) -> str:
    """The rows as text, to read while it runs."""
    lines = [f"{'':<44} {'value':>5}  interval       no model  null twin  seconds  queries  classes"]
    for name, row in results.items():
        if row["value"] is None:
            lines.append(f"{name:<44} failed: {row['reason']}")
            continue
        shown = ["  –  " if row[key] is None else f"{row[key]:5.2f}" for key in ("no_model", "null_model")]
        lines.append(
            f"{name:<44} {row['value']:5.2f}  [{row['low']:.2f}, {row['high']:.2f}]   {shown[0]}     {shown[1]}   "
            f"{row['seconds']:8.1f} {row['queries']:8d}  {row['people']:6d}"
        )
    return "\n".join(lines)
