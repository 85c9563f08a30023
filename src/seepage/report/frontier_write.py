"""Both faces of a frontier, `frontier.html` and `frontier.md`: read from `frontier.json` alone."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from pydantic import ValidationError

from seepage.core.errors import StoreError
from seepage.core.frontier import FRONTIER_VERSION, Frontier, Row
from seepage.report import numbers
from seepage.report.frontier_figures import shape_mark
from seepage.report.frontier_views import (
    condition_axes,
    frontier_chart,
    heats,
    main_leak,
    recommended,
    shapes,
    shown,
    state_of,
    state_words,
)
from seepage.report.html import render
from seepage.report.marks import bullets, safe, table
from seepage.report.toml import toml_text
from seepage.store.files import read_json, write_bytes


def load_frontier(path: Path | str) -> Frontier:
    """The frontier of a sweep's folder, or of a `frontier.json`.

    Raises:
        StoreError: when there is none, it is damaged, or a newer Seepage wrote it.
    """
    file = Path(path) / "frontier.json" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise StoreError(f"no frontier at {file}: run `seepage sweep FILE` (again, if it was interrupted)")
    content: Any = read_json(file)
    version = str(content.get("schema_version", "")) if isinstance(content, dict) else ""
    if version.split(".")[0] != FRONTIER_VERSION.split(".")[0]:
        raise StoreError(f"{file} has schema version '{version}', not {FRONTIER_VERSION}: run the sweep again")
    try:
        return Frontier.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{file} is damaged at {place}: {first['msg']}") from error


def write_frontier(folder: Path | str) -> dict[str, Path]:
    """Write `frontier.html` and `frontier.md` beside `frontier.json`; they hold no record and name nobody.

    Returns:
        What was written, by name, the frontier included.

    Raises:
        StoreError: when the frontier cannot be read or its folder cannot be written to.
    """
    place = Path(folder) if Path(folder).is_dir() else Path(folder).parent
    found = load_frontier(folder)
    page, words = place / "frontier.html", place / "frontier.md"
    write_bytes(page, frontier_html(found).encode(errors="replace"))
    write_bytes(words, frontier_markdown(found).encode(errors="replace"))
    return {"frontier": page, "text": words, "data": place / "frontier.json"}


def hero(frontier: Frontier) -> tuple[str, str]:
    """The state and the line above everything."""
    kinds = [advice.kind for advice in frontier.advice]
    within = f"within {frontier.tolerance:g} of what can be had without the updates"
    if "recommended" in kinds:
        again = [main_leak(row, frontier) for row in frontier.confirmation]
        if any(leak is None or leak.upper > frontier.tolerance for leak in again):
            return "unclear", f"One setting seemed to stay {within}; a second audit does not confirm it."
        return "clear", f"There is a setting that stays {within}, against what was tried."
    if frontier.measure is None:
        return "untried", "Nothing was measured."
    states = {state_of(main_leak(row, frontier), frontier.tolerance) for row in frontier.rows}
    if states <= {"leak"}:
        return "leak", "Every setting gives records away."
    return "unclear", f"No setting was shown to stay {within}."


def frontier_html(frontier: Frontier) -> str:
    """The frontier as one HTML file that needs nothing else."""
    state, line = hero(frontier)
    measured = next((leak for row in frontier.rows if (leak := main_leak(row, frontier))), None)
    others = list(dict.fromkeys(name for row in frontier.rows for name in row.leaks if name != frontier.measure))
    titles = {name: next(r.leaks[name].title for r in frontier.rows if name in r.leaks) for name in others}
    chart = frontier_chart(frontier)
    maps = heats(frontier)
    sections = [
        ("advice", "Recommendation", True),
        ("picture", "Frontier", chart is not None),
        ("where", "Where", bool(maps)),
        ("points", "Every point", True),
        ("rules", "Rules and limits", True),
        ("again", "Run it again", True),
    ]
    return render(
        "frontier.html.j2",
        frontier=frontier,
        hero_state=state,
        hero_line=line,
        measure_title="leakage" if measured is None else measured.title,
        others=others,
        other_titles=titles,
        chart_of_points=chart,
        heats=maps,
        shapes={name: Markup(shape_mark(shape)) for name, shape in shapes(frontier).items()},
        has_conditions=bool(condition_axes(frontier)),
        marks={state: Markup(shape_mark("circle", state)) for state in ("leak", "unclear", "clear")},
        rows=[(row, main_leak(row, frontier)) for row in frontier.rows],
        again=[(row, main_leak(row, frontier)) for row in frontier.confirmation],
        ringed=recommended(frontier),
        state_of=lambda leak: state_of(leak, frontier.tolerance),
        state_words=lambda leak: state_words(leak, frontier.tolerance),
        shown=shown,
        kilo=_kilo,
        milli=_milli,
        epsilon=_epsilon,
        toml=toml_text(frontier.config),
        sections=[(name, words) for name, words, there in sections if there],
        version=frontier.tool.version,
    )


def _kilo(value: float | None) -> str:
    return numbers.MISSING if value is None else f"{value / 1000:,.1f}"


def _milli(value: float | None) -> str:
    return numbers.MISSING if value is None else f"{1000 * value:,.1f}"


def _epsilon(row: Row) -> str:
    """Epsilon over all rounds; "none" where noise gives none worth the name, a dash where there is no noise."""
    if row.cost is None or row.cost.dp_delta is None:
        return numbers.MISSING
    if row.cost.dp_epsilon is None:
        return "none"
    return f"{row.cost.dp_epsilon:,.0f}" if row.cost.dp_epsilon >= 100 else f"{row.cost.dp_epsilon:.3g}"


def frontier_markdown(frontier: Frontier) -> str:
    """The frontier as Markdown: advice and tables."""
    _, line = hero(frontier)
    facts = f"{safe(frontier.run.started)} · {len(frontier.rows)} points in {numbers.duration(frontier.run.seconds)}"
    made = f"{safe(frontier.tool.name)} {safe(frontier.tool.version)} · sweep {safe(frontier.run.id)}"
    parts = [
        f"# {safe(frontier.title)}\n\n{facts} · {made}",
        f"## Recommendation\n\n**{safe(line)}**",
        bullets(safe(advice.text) for advice in frontier.advice),
        "## Where records can be recovered",
        "Leakage (value minus the strongest control), upper end of the 95 % interval behind it. "
        f"`!` leaks, `?` inconclusive, `<` within {frontier.tolerance:g}.",
        *_maps(frontier),
        "## Every point\n\n" + _points(frontier, frontier.rows),
        ("## The recommended setting, audited again\n\n" + _points(frontier, frontier.confirmation))
        if frontier.confirmation
        else "",
        "## How the recommendation was made\n\n" + bullets(map(safe, frontier.rules)),
        _again(frontier),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _maps(frontier: Frontier) -> list[str]:
    marks: Mapping[str, str] = {"leak": "!", "unclear": "?", "clear": "<", "untried": "–"}
    found: list[str] = []
    for label, maps in heats(frontier):
        found.append(f"### Defense: {safe(label)}")
        for one in maps:
            head = [f"{one.down} \\ {one.across}" if one.across else one.down, *(h or "leakage" for h in one.heads)]
            lines = [
                [
                    safe(value),
                    *(
                        f"{marks[c.state]} {numbers.short(c.leak.leakage.value)} (to {numbers.short(c.leak.upper)})"
                        if c.leak
                        else "–"
                        for c in cells
                    ),
                ]
                for value, cells in one.lines
            ]
            found.append((f"*{safe(one.title)}*\n\n" if one.title else "") + table(map(safe, head), lines))
    return found


def _points(frontier: Frontier, rows: Sequence[Row]) -> str:
    head = [axis.title for axis in frontier.axes]
    head += [
        "Defense",
        "Verdict",
        "Strongest",
        "Value",
        "Leakage",
        "At most",
        "Accuracy",
        "Less than without",
        "kB a round",
    ]
    head += ["ms a round", "Epsilon", "Audit"]
    return table(map(safe, head), [[safe(cell) for cell in _cells(row, frontier)] for row in rows])


def _cells(row: Row, frontier: Frontier) -> list[str]:
    leak, cost = main_leak(row, frontier), row.cost
    where = [shown(row.setting.get(axis.key)) for axis in frontier.axes]
    if leak is None:
        why = row.error.message if row.error is not None else "this measure was not taken"
        told = ["not measured", why, numbers.MISSING, numbers.MISSING, numbers.MISSING]
    else:
        value = f"{numbers.number(leak.value, leak.low, leak.high)} {numbers.interval(leak.low, leak.high)}".strip()
        told = [
            state_words(leak, frontier.tolerance),
            leak.attack,
            value,
            numbers.signed(leak.leakage),
            numbers.short(leak.upper),
        ]
    accuracy = numbers.MISSING if cost is None else numbers.estimate(cost.accuracy)
    loss = numbers.MISSING if cost is None else numbers.signed(cost.loss)
    sent = _kilo(None if cost is None else cost.bytes_a_round)
    spent = _milli(None if cost is None else cost.seconds_a_round)
    return [*where, row.defense_label, *told, accuracy, loss, sent, spent, _epsilon(row), row.run or numbers.MISSING]


def _again(frontier: Frontier) -> str:
    text = toml_text(frontier.config)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    how = "## How to run it again\n\nSave this as `sweep.toml` and run `seepage sweep sweep.toml`."
    return f"{how}\n\n{fence}toml\n{text}{fence}"
