"""The faces of a frontier: whole, self-contained, and escaping all that stands in it."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from frontier_samples import cost, frontier, leak, row, rows
from seepage.core.errors import StoreError
from seepage.core.frontier import Frontier
from seepage.report.frontier_figures import Dot, scatter
from seepage.report.frontier_views import frontier_chart, heats
from seepage.report.frontier_write import frontier_html, frontier_markdown, hero, load_frontier, write_frontier
from seepage.report.schema import schema_text
from seepage.store.files import write_json

SCHEMA = Path(__file__).parents[1] / "schema" / "frontier.schema.json"


def _written(tmp_path: Path, found: Frontier) -> Path:
    write_json(tmp_path / "frontier.json", found.model_dump(mode="json"))
    return tmp_path


def test_the_published_schema_is_current_and_holds() -> None:
    assert SCHEMA.read_text("utf-8") == schema_text(Frontier), "frontier.py changed: make schema"
    jsonschema.validate(frontier().model_dump(mode="json"), json.loads(SCHEMA.read_text("utf-8")))


def test_both_faces_are_written_beside_the_frontier(tmp_path: Path) -> None:
    written = write_frontier(_written(tmp_path, frontier()))
    assert {path.name for path in written.values()} == {"frontier.html", "frontier.md", "frontier.json"}
    assert load_frontier(tmp_path) == frontier()
    page = (tmp_path / "frontier.html").read_text("utf-8")
    for words in ("Recommended: records a client = 8", "noise strong", "0.07 at the most", "How the recommendation"):
        assert words in page
    assert not re.search(r"(src|href)=[\"'](?!#|data:)|@import|url\((?!#)", page)


def test_the_text_has_every_point_and_the_way_to_run_it_again() -> None:
    text = frontier_markdown(frontier())
    table = text.split("## Every point")[1].split("##")[0]
    assert len([line for line in table.splitlines() if line.startswith("| ")]) == 24 + 2
    assert "within 0.1" in table
    assert "### Defense: noise weak" in text
    assert "seepage sweep sweep.toml" in text
    assert '"federated.records" = [1, 8]' in text


def test_hostile_text_stays_text() -> None:
    bad = "<script>alert(1)</script>"
    some = [*rows(), row("lost", 1, 1, 0, None, None, defense_label=bad)]
    found = frontier(some, title=bad)
    assert bad not in frontier_html(found).replace("script-src", "")
    assert bad not in frontier_markdown(found)


@pytest.mark.parametrize(
    ("found", "state", "said"),
    [
        (frontier(), "clear", "There is a setting that stays within 0.1"),
        (frontier([r for r in rows() if r.defense is None]), "leak", "Every setting gives records away"),
        (
            frontier(again=[row("again", 8, 4, 0, leak(0.1, 0.3, "inconclusive"), None)]),
            "unclear",
            "does not confirm",
        ),
        (frontier([r for r in rows() if r.id[0] == "1" and r.id[-1] in "01"]), "unclear", "No setting was shown"),
        (frontier([row("a", 1, 1, 0, None, None)]), "untried", "Nothing was measured"),
    ],
    ids=["recommended", "leaks", "not confirmed", "open", "nothing"],
)
def test_the_first_line_says_no_more_than_was_found(found: Frontier, state: str, said: str) -> None:
    assert hero(found)[0] == state
    assert said in hero(found)[1]
    assert said in frontier_html(found)


def test_what_has_no_accuracy_or_no_leakage_is_in_the_table_and_not_in_the_picture() -> None:
    some = [
        row("a", 1, 1, 0, leak(0.2, 0.3, "leaks"), None),
        row("b", 8, 1, 0, None, cost(0.9)),
    ]
    found = frontier(some)
    assert frontier_chart(found) is None
    page = frontier_html(found)
    assert 'id="picture"' not in page
    assert "too few members" in page


def test_a_heat_map_has_a_cell_for_every_setting() -> None:
    found = dict(heats(frontier()))
    assert set(found) == {"none", "noise weak", "noise strong"}
    maps = found["none"]
    assert [one.title for one in maps] == ["steps trained before = 0", "steps trained before = 300"]
    assert (maps[0].down, maps[0].across, maps[0].heads) == ("records a client", "local epochs", ("1", "4"))
    assert [[cell.row.id for cell in cells if cell.row] for _, cells in maps[1].lines] == [
        ["1-1-300-0", "1-4-300-0"],
        ["8-1-300-0", "8-4-300-0"],
    ]
    assert all(cell.shade == 4 for one in maps for _, cells in one.lines for cell in cells)


def test_less_leakage_lies_lower_and_more_accuracy_lies_further_right() -> None:
    dots = [
        Dot("first", 0.2, 0.9, 0.8, 1.0, "leak", "circle"),
        Dot("second", 0.9, 0.05, -0.1, 0.1, "clear", "diamond", ringed=True),
    ]
    drawn = scatter("f", "A frontier", dots, 0.1)
    places = [float(x) for x in re.findall(r'<svg x="([\d.]+)%"', drawn)]
    heights = [float(y) for y in re.findall(r'translate\(0 ([\d.]+)\)"', drawn)]
    assert places[0] < places[1]
    assert heights[0] < heights[1]
    assert drawn.count("<circle") == 1
    assert "first" in drawn


@pytest.mark.parametrize("harm", ["missing", "newer", "damaged"])
def test_a_frontier_that_cannot_be_read_is_said(tmp_path: Path, harm: str) -> None:
    _written(tmp_path, frontier())
    file = tmp_path / "frontier.json"
    content = json.loads(file.read_text())
    if harm == "missing":
        file.unlink()
    elif harm == "newer":
        file.write_text(json.dumps({**content, "schema_version": "2.0"}))
    else:
        file.write_text(json.dumps({**content, "rows": "none"}))
    said = {"missing": "no frontier at", "newer": "schema version '2.0'", "damaged": "damaged at rows"}[harm]
    with pytest.raises(StoreError, match=said):
        write_frontier(tmp_path)
