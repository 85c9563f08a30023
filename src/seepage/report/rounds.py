"""What a recorded run gave away round by round, as Markdown and as a page: from `rounds.json` alone."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seepage import __version__
from seepage.report.html import render
from seepage.store.files import read_json, write_bytes

_HEADS = ("round", "client", "what it gave away", "strongest attack", "what stands in attacks' way", "can it work?")


def gave(row: Mapping[str, Any]) -> str:
    """What one update gave away, in a few words."""
    if row["status"] != "done":
        return f"{row['status']}: {row['reason']}"
    if row["leakage"] is not None:
        low, value, high = row["leakage"]
        return f"{row['verdict']}: leakage {value:.2f} [{low:.2f}, {high:.2f}]"
    if row["consistency"] is None:
        return "nothing that could be scored or held against the update"
    alone = "" if row["alone"] is None else f" (without the update: {row['alone']:.2g})"
    return f"makes an update {row['consistency']:.2g} off the one sent{alone}; not scored"


def write_rounds(folder: Path) -> dict[str, Path]:
    """Write the table of a folder with `rounds.json` as `rounds.md` and `rounds.html`; returns where.

    Raises:
        StoreError: when the table is missing or cannot be written beside.
    """
    found = read_json(folder / "rounds.json")
    rows = [{**row, "gave": gave(row), "report": _report(row, folder), **_split(row)} for row in found["rows"]]
    title = found["title"] or "Updates of a recorded run"
    html = render(
        "rounds.html.j2",
        found=found,
        rows=rows,
        heads=_HEADS,
        counts=counts(found["rows"]),
        title=title,
        version=__version__,
    )
    write_bytes(folder / "rounds.html", html.encode())
    write_bytes(folder / "rounds.md", _markdown(found, rows).encode())
    return {"table": folder / "rounds.md", "page": folder / "rounds.html", "record": folder / "rounds.json"}


def counts(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many updates of how many rounds there are, and how many of them were not audited."""
    rounds = len({row["round"] for row in rows})
    told = [f"{len(rows)} update{'s' * (len(rows) != 1)} of {rounds} round{'s' * (rounds != 1)}"]
    states = [row["status"] for row in rows]
    told += [f"{states.count(state)} {state}" for state in ("left out", "failed") if state in states]
    return ", ".join(told)


def _split(row: Mapping[str, Any]) -> dict[str, str]:
    """The first sentence of the pre-flight's answer, and the others."""
    first, dot, rest = str(row["answer"]).partition(". ")
    return {"short": first + dot.strip(), "rest": rest}


def _report(row: Mapping[str, Any], folder: Path) -> str | None:
    """The report of a row's run, from the folder of the table."""
    return None if row["run"] is None else os.path.relpath(Path(row["run"]) / "report.html", folder)


def _markdown(found: Mapping[str, Any], rows: list[dict[str, Any]]) -> str:
    title = found["title"] or "Updates of a recorded run"
    lines = [f"# {_cell(title)}", "", f"Recording: {_cell(found['recording'])} ({counts(found['rows'])})", ""]
    lines += [f"| {' | '.join(_HEADS)} |", "|" + " --- |" * len(_HEADS)]
    for row in rows:
        client = row["client"] if row["report"] is None else f"[{row['client']}]({row['report']})"
        cells = (row["round"], client, row["gave"], row["strongest"] or "", ", ".join(row["fails"]), row["short"])
        lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    lines += [
        "",
        "An update that gave nothing to these attacks is not thereby private: its report says what was tried.",
    ]
    return "\n".join([*lines, ""])


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
