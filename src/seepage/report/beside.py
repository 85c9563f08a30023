"""All attacks side by side: one row a class, one column an attack, the real record first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seepage.core.record import Finding
from seepage.core.vocabulary import closure
from seepage.report.arms import access_text, defended, of_records, unscored
from seepage.report.pictures import data_uri, drawable

Array = np.ndarray

MOST_ROWS = 20
MOST_COLUMNS = 24


@dataclass(frozen=True)
class Cell:
    """What one attack made of one class; `hit` whether the judge recognised it."""

    src: str
    alt: str
    hit: bool | None


@dataclass(frozen=True)
class Row:
    """One class: the real record and, where there is one, the nearest public one; then a cell an attack."""

    name: str
    real: str
    nearest: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Beside:
    """The table: its columns are findings on the bare victim, by access from the most to the least."""

    findings: tuple[Finding, ...]
    access: tuple[str, ...]
    rows: tuple[Row, ...]
    total: int


def side_by_side(findings: Sequence[Finding], arrays: Mapping[str, Mapping[str, Array]]) -> Beside | None:
    """The pictures of all undefended attacks on classes beside one another; None with fewer than two attacks."""
    kept: dict[str, Finding] = {}
    for f in findings:
        found = arrays.get(f.id, {})
        if defended(f) or "reconstruction" not in found or "labels" not in found:
            continue
        if not drawable(np.asarray(found["reconstruction"])) or of_records(f) or unscored(f):
            continue
        # One attack at several budgets: the one that was allowed most.
        name = f"{f.attack} {sorted(f.params.items(), key=str)}"
        if name not in kept or _allowed(f) > _allowed(kept[name]):
            kept[name] = f
    columns = sorted(kept.values(), key=lambda f: (-len(closure(f.access)), -_value(f)))[:MOST_COLUMNS]
    if len(columns) < 2:
        return None
    tables = [{int(c): i for i, c in enumerate(arrays[f.id]["labels"])} for f in columns]
    labels = sorted({c for table in tables for c in table})

    def recognised(c: int) -> int:
        return sum(bool(_hit(arrays[f.id], table[c])) for f, table in zip(columns, tables, strict=True) if c in table)

    order = sorted(labels, key=lambda c: (-recognised(c), c))[:MOST_ROWS]
    rows = tuple(_row(c, columns, tables, arrays) for c in order)
    return Beside(tuple(columns), tuple(access_text(f.access) for f in columns), rows, len(labels))


def _allowed(f: Finding) -> float:
    """Queries it might ask; no limit is the most."""
    return float("inf") if f.budget is None else f.budget


def _value(f: Finding) -> float:
    return 0.0 if f.score is None or f.score.value is None else f.score.value


def _hit(found: Mapping[str, Array], row: int) -> bool | None:
    if "hit" in found:
        return bool(found["hit"][row])
    return None if "judge_class" not in found else bool(found["judge_class"][row] == found["labels"][row])


def _row(
    c: int, columns: Sequence[Finding], tables: Sequence[dict[int, int]], arrays: Mapping[str, Mapping[str, Array]]
) -> Row:
    cells: list[Cell | None] = []
    real, nearest, name = "", "", f"class {c}"
    for f, table in zip(columns, tables, strict=True):
        found = arrays[f.id]
        if c not in table:
            cells.append(None)
            continue
        at = table[c]
        low, high = (np.asarray(found.get(key, v), dtype=np.float64) for key, v in (("low", 0.0), ("high", 1.0)))
        names = found.get("class_names")
        name = str(names[c]) if names is not None and 0 <= c < len(names) else name
        real = real or (data_uri(found["real"][at], low, high) if "real" in found else "")
        if not nearest and "nearest_public" in found:
            nearest = data_uri(found["nearest_public"][at], low, high)
        hit = _hit(found, at)
        said = "" if hit is None else ", recognised" if hit else ", not recognised"
        src = data_uri(found["reconstruction"][at], low, high)
        cells.append(Cell(src, f"{name} as recovered by {f.title}{said}", hit))
    return Row(name, real, nearest, tuple(cells))
