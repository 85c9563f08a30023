"""The report as a reader meets it: opened from disk in a headless browser."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from frontier_samples import frontier
from report_samples import faces, table, write_run
from seepage.report import write_compare_html, write_html
from seepage.report.frontier_write import write_frontier
from seepage.store.files import write_json

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM} (Debian's package chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_html(write_run(tmp_path_factory.mktemp("faces"), *faces()), show_records=True)


class Visit:
    """One page with everything it said and asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any):
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def column(self, table: str, column: int) -> list[str]:
        """The first line of every cell in a column, counted from 1, of the rows that show."""
        script = "(rows, k) => rows.map(r => r.cells[k - 1].innerText.split('\\n')[0])"
        return self.page.locator(f"#{table} tbody tr:not([hidden])").evaluate_all(script, column)


def test_it_opens_without_a_complaint_and_asks_for_nothing(browser: Any, report: Path):
    with Visit(browser, report) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        visit.page.mouse.wheel(0, 20_000)
        visit.page.wait_for_timeout(200)
        assert visit.said == []
        assert visit.asked[0] == report.as_uri()
        assert all(url.startswith("data:") for url in visit.asked[1:])


def test_every_picture_shows(browser: Any, report: Path):
    with Visit(browser, report) as visit:
        sizes = visit.page.evaluate(
            "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth))).then(w => w)"
        )
        assert len(sizes) == 5 * 20 * 4 + 20 * (2 + 4)
        assert min(sizes) > 0
        # All charts have a size, too, in the layout that is shown.
        boxes = visit.page.evaluate(
            "[...document.querySelectorAll('svg.chart')].filter(s => s.checkVisibility())"
            ".map(s => [s.getBoundingClientRect().width, s.getBoundingClientRect().height])"
        )
        assert len(boxes) >= 7
        assert all(width > 100 and height > 40 for width, height in boxes)


def test_sorting_by_a_heading(browser: Any, report: Path):
    with Visit(browser, report) as visit:
        heading = visit.page.get_by_role("columnheader", name="Value").first
        before = visit.column("all", 5)
        heading.get_by_role("button").click()
        falling = visit.column("all", 5)
        assert heading.get_attribute("aria-sort") == "descending"
        assert falling != before
        assert falling[-1] == "failed"
        assert falling[:-1] == sorted(falling[:-1], key=float, reverse=True)
        heading.get_by_role("button").focus()
        visit.page.keyboard.press("Enter")
        rising = visit.column("all", 5)
        assert heading.get_attribute("aria-sort") == "ascending"
        assert rising[:-1] == falling[-2::-1]
        assert rising[-1] == "failed"
        visit.page.locator("#all").get_by_role("columnheader", name="Attack").get_by_role("button").click()
        names = visit.column("all", 1)
        assert names == sorted(names)
        assert heading.get_attribute("aria-sort") == "none"


def test_filters_hide_rows_and_say_how_many_are_left(browser: Any, report: Path):
    with Visit(browser, report) as visit:
        count = visit.page.locator(".count")
        bar = visit.page.get_by_role("search")
        assert count.inner_text() == "8 of 8 shown"
        bar.get_by_label("Leak").select_option("Membership")
        assert set(visit.column("all", 2)) == {"Membership"}
        assert count.inner_text() == "2 of 8 shown"
        bar.get_by_label("Defense").select_option("none")
        assert count.inner_text() == "1 of 8 shown"
        bar.get_by_label("Leak").select_option("")
        bar.get_by_label("Text").fill("TOTAL variation")
        assert visit.column("all", 1) == ["Pixel gradient descent, total variation"]
        bar.get_by_label("Text").fill("")
        bar.get_by_label("Status").select_option("failed")
        assert visit.column("all", 1) == ["Boundary walk on labels"]


def test_another_attack_shows_another_gallery(browser: Any, report: Path):
    with Visit(browser, report) as visit:
        shown = visit.page.locator("[data-panel]:not([hidden]) h3")
        assert shown.all_inner_texts()[0].startswith("Latent gradient descent")
        first = visit.page.locator("[data-panel]:not([hidden]) img").nth(1).get_attribute("src")
        visit.page.get_by_role("radio").first.focus()
        visit.page.keyboard.press("ArrowRight")
        assert len(shown.all_inner_texts()) == 1
        assert shown.all_inner_texts()[0].startswith("Evolution strategies")
        assert visit.page.locator("[data-panel]:not([hidden]) img").nth(1).get_attribute("src") != first
        visit.page.get_by_label("show single pixels").check()
        rendering = visit.page.locator("[data-panel]:not([hidden]) img").first
        assert rendering.evaluate("i => getComputedStyle(i).imageRendering") == "pixelated"


def test_more_classes_are_shown_on_demand(browser: Any, report: Path):
    with Visit(browser, report) as visit:
        cards = visit.page.locator("[data-panel]:not([hidden]) .person:visible")
        assert cards.count() == 12
        visit.page.get_by_text("Show 8 more").first.click()
        assert cards.count() == 20


def test_light_and_dark(browser: Any, report: Path):
    with Visit(browser, report) as light, Visit(browser, report, color_scheme="dark") as dark:
        day, night = light.page.screenshot(), dark.page.screenshot()
        assert day != night
        assert _background(dark) != _background(light)
        # The button overrides the system, both ways.
        light.page.get_by_role("button", name="Dark colours").click()
        assert _background(light) == _background(dark)
        dark.page.get_by_role("button", name="Light colours").click()
        assert dark.page.screenshot() != night


def _background(visit: Visit) -> str:
    return visit.page.evaluate("getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_needs_no_sideways_scrolling(browser: Any, report: Path, width: int):
    with Visit(browser, report, viewport={"width": width, "height": 844}) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        assert visit.page.locator(".forest.narrow").first.is_visible()
        assert not visit.page.locator(".forest.wide").first.is_visible()


def test_it_prints(browser: Any, report: Path, tmp_path: Path):
    with Visit(browser, report) as visit:
        visit.page.pdf(path=str(tmp_path / "report.pdf"), format="A4")
        pdf = (tmp_path / "report.pdf").read_bytes()
        assert pdf.startswith(b"%PDF")
        assert 5 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 40
        # What was unfolded for printing is folded again.
        assert visit.page.locator("#details details[open]").count() == 0


def test_it_can_be_read_without_javascript(browser: Any, report: Path):
    with Visit(browser, report, java_script_enabled=False) as visit:
        assert visit.page.get_by_text("17 of 20 people").is_visible()
        assert visit.page.locator("[data-panel]:visible").count() == 5
        assert visit.page.locator(".filters").is_visible() is False


def test_a_link_to_a_finding_unfolds_it(browser: Any, report: Path):
    with Visit(browser, report) as visit:
        visit.page.locator("#all").get_by_role("link", name="Latent gradient descent").click()
        assert visit.page.locator("#finding-3").get_attribute("open") is not None


def test_a_planted_script_does_not_run(browser: Any, tmp_path: Path):
    record, arrays = faces()
    whole = record.model_dump(mode="json")
    whole["title"] = "<script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"
    path = write_html(write_run(tmp_path, type(record).model_validate(whole), arrays))
    # Even markup that got past the escaping is stopped by the policy of the page.
    text = path.read_text(encoding="utf-8").replace("<main", "<script>document.title='ran'</script><main", 1)
    path.write_text(text, encoding="utf-8")
    with Visit(browser, path) as visit:
        assert visit.page.title() != "ran"
        assert any("Content Security Policy" in line for line in visit.said)


def test_tables_and_comparisons_open_as_well(browser: Any, report: Path, tmp_path: Path):
    run = write_run(tmp_path / "table", *table())
    for path in (write_html(run, show_records=True), write_compare_html(report.parent, run, tmp_path / "c.html")):
        with Visit(browser, path, viewport={"width": 390, "height": 844}) as visit:
            assert visit.said == []
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert os.path.getsize(tmp_path / "c.html") < 200_000


@pytest.mark.parametrize("width", [390, 1280])
def test_a_frontier_opens_in_both_colours_and_widths(browser: Any, tmp_path: Path, width: int):
    write_json(tmp_path / "frontier.json", frontier().model_dump(mode="json"))
    path = write_frontier(tmp_path)["frontier"]
    backgrounds: set[str] = set()
    for scheme in ("light", "dark"):
        with Visit(browser, path, viewport={"width": width, "height": 844}, color_scheme=scheme) as visit:
            assert visit.said == []
            assert visit.asked == [path.as_uri()]
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
            chart = visit.page.locator(f".frontier.{'narrow' if width == 390 else 'wide'}")
            assert chart.is_visible()
            # Every point with a mark of its own, two of them ringed, all inside the picture.
            marks = chart.locator(".row path")
            assert marks.count() == 24
            box = chart.bounding_box()
            places = [marks.nth(k).bounding_box() for k in range(marks.count())]
            assert box is not None
            assert all(place is not None for place in places)
            assert all(box["x"] <= p["x"] and p["x"] + p["width"] <= box["x"] + box["width"] for p in places if p)
            assert chart.locator("circle").count() == 2
            backgrounds.add(_background(visit))
            heading = visit.page.locator("#points-table").get_by_role("columnheader", name="Accuracy")
            heading.get_by_role("button").click()
            assert heading.get_attribute("aria-sort") == "descending"
    assert len(backgrounds) == 2
