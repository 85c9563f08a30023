"""What the report shows of inversion: attacks side by side, a search on its way, leakage against queries."""

import numpy as np
import pytest

from report_samples import PEOPLE, accuracy, faces, inversion_finding
from seepage.core.errors import StoreError
from seepage.core.record import AuditRecord, Finding
from seepage.core.vocabulary import Access, Leak
from seepage.report.arms import groups, pairs, strongest
from seepage.report.beside import side_by_side
from seepage.report.budgets import budget_curves
from seepage.report.gallery import gallery
from seepage.report.html import render_html
from seepage.report.steps import GAP, PER_ROW, sheet, steps
from seepage.report.story import compared, stories
from seepage.report.views import metric_tables


@pytest.fixture(scope="module")
def sample() -> tuple[AuditRecord, dict[str, dict[str, np.ndarray]]]:
    return faces()


def _at_budgets(record: AuditRecord, arrays, hits: dict[int, float]) -> AuditRecord:
    made: list[Finding] = []
    for budget, k in hits.items():
        made.append(
            inversion_finding(
                f"inv-nes-{budget}",
                "nes",
                "Score search",
                k,
                Access.SCORES,
                arrays["inv-nes"],
                budget=budget,
                params={"radius": 0.3},
                artifacts=[],
                facts={"classes_attacked": 20.0},
            )
        )
    # Written out of order on purpose.
    return record.model_copy(update={"findings": [*record.findings, *reversed(made)]})


def test_an_attack_at_several_budgets_gives_a_curve(sample) -> None:
    record, arrays = sample
    assert budget_curves(record) == []
    (curve,) = budget_curves(_at_budgets(record, arrays, {2000: 5, 20_000: 12, 200_000: 19}))
    assert [point.queries for point in curve.spent] == [2000, 20_000, 200_000]
    assert [point.value.value for point in curve.spent] == [5 / 20, 12 / 20, 19 / 20]
    leaks = [score.leakage is not None and score.leakage.low > 0 for score in map(accuracy, (5, 12, 19))]
    assert [point.leaks for point in curve.spent] == leaks == [False, True, True]
    assert (curve.least, curve.safe, curve.classes) == (20_000, 2000, 20)


def test_a_curve_that_never_leaks_says_so(sample) -> None:
    record, arrays = sample
    (curve,) = budget_curves(_at_budgets(record, arrays, {100: 3, 1000: 4}))
    assert curve.least is None
    page = render_html(_at_budgets(record, arrays, {100: 3, 1000: 4}), {}, show_records=False)
    assert "At no budget that was tried did the leakage exclude zero; the greatest was 1,000 queries" in page


def test_the_page_says_from_which_budget_on_it_leaks(sample) -> None:
    record, arrays = sample
    page = render_html(_at_budgets(record, arrays, {2000: 5, 20_000: 12, 200_000: 19}), {}, show_records=False)
    assert "From 20,000 queries (1,000 a class) on it leaks" in " ".join(page.split())
    assert 'id="budgets"' in page


def test_a_defended_finding_is_paired_with_the_bare_one_of_its_budget(sample) -> None:
    record, arrays = sample
    found = _at_budgets(record, arrays, {2000: 5, 20_000: 12})
    bare = [f for f in found.findings if f.id.startswith("inv-nes-2")]
    behind = [
        f.model_copy(update={"id": f.id + "-round", "defenses": record.findings[4].defenses, "adversary": "adaptive"})
        for f in bare
    ]
    both = record.model_copy(update={"findings": [*bare, *behind]})
    assert {(p.bare.budget, p.defended.budget) for p in pairs(both)} == {(2000, 2000), (20_000, 20_000)}


def test_attacks_stand_side_by_side_with_the_recognised_classes_first(sample) -> None:
    record, arrays = sample
    table = side_by_side(record.findings, arrays)
    assert table is not None
    # Defended arms and findings without pictures are not in it.
    assert [f.id for f in table.findings] == ["inv-latent", "inv-pixels-tv", "inv-pixels", "inv-nes"]
    counts = [sum(bool(cell and cell.hit) for cell in row.cells) for row in table.rows]
    assert counts == sorted(counts, reverse=True)
    for k, finding in enumerate(table.findings):
        own = arrays[finding.id]
        hits = int((own["judge_class"] == own["labels"]).sum())
        assert sum(bool(row.cells[k] and row.cells[k].hit) for row in table.rows) == hits
    assert side_by_side(record.findings[:1], arrays) is None


def test_a_sheet_holds_every_picture_in_its_place() -> None:
    pictures = [np.full((4, 6), i, dtype=np.uint8) for i in range(PER_ROW + 3)]
    page = sheet(pictures)
    assert page.shape == (2 * 4 + GAP, PER_ROW * 6 + (PER_ROW - 1) * GAP)
    assert (page[:4, :6] == 0).all()
    assert (page[4 + GAP :, 2 * (6 + GAP) : 2 * (6 + GAP) + 6] == PER_ROW + 2).all()
    colour = sheet([np.zeros((4, 6, 3), dtype=np.uint8)] * 2)
    assert colour.shape == (4, 13, 3)


def test_a_search_is_shown_on_its_way(sample) -> None:
    record, arrays = sample
    own = arrays["inv-nes"]
    frames = np.stack([own["reconstruction"] * share for share in (0.2, 0.6, 1.0)])
    more = {"frames": frames, "frame_at": np.array([0, 500, 3000]), "frame_accuracy": np.array([0.05, 0.5, 0.55])}
    finding = next(f for f in record.findings if f.id == "inv-nes")
    way = steps(finding, {**own, **more}, most_classes=60)
    assert way is not None
    assert [frame.at for frame in way.frames] == [0, 500, 3000]
    assert (way.unit, way.classes) == ("queries", PEOPLE)
    assert (way.width, way.height) == (PER_ROW * 32 + PER_ROW - 1, 65)
    page = " ".join(render_html(record, {**arrays, "inv-nes": {**own, **more}}, show_records=True).split())
    assert "after 3,000 queries: 55 % recognised" in page
    assert steps(finding, own, most_classes=60) is None
    closed = render_html(record, {**arrays, "inv-nes": {**own, **more}}, show_records=False)
    assert "data-steps>" not in closed


def test_frames_that_do_not_fit_are_said(sample) -> None:
    record, arrays = sample
    own = {**arrays["inv-nes"], "frames": np.zeros((3, PEOPLE, 1, 32, 32)), "frame_at": np.arange(2)}
    finding = next(f for f in record.findings if f.id == "inv-nes")
    with pytest.raises(StoreError, match="do not fit together"):
        steps(finding, own, most_classes=60)
    assert "do not fit together" in render_html(record, {**arrays, "inv-nes": own}, show_records=True)


def test_all_metrics_of_all_attacks_stand_in_one_table(sample) -> None:
    record, _ = sample
    assert 'id="metrics"' in render_html(record, {}, show_records=False)


def _of_records(record: AuditRecord, arrays, hits: float) -> AuditRecord:
    own = inversion_finding(
        "inv-embedding",
        "embedding-inversion",
        "Embedding inversion",
        hits,
        Access.EMBEDDINGS,
        arrays["inv-nes"],
        case="record inversion",
    )
    return record.model_copy(update={"findings": [*record.findings, own]})


def test_what_lies_behind_captured_answers_is_told_apart_from_classes(sample) -> None:
    record, arrays = sample
    both = _of_records(record, arrays, 20)
    # Of classes first, however much more the answers give away; and a table and a chart of their own.
    best = strongest(both.findings)
    assert best is not None
    assert best.id == "inv-latent"
    assert {"Inversion", "Inversion: records behind captured answers"} >= {t.title for t in metric_tables(both)} - {
        "Membership"
    }
    assert [g.findings[-1].id for g in groups(both)].count("inv-embedding") == 1
    table = side_by_side(both.findings, {**arrays, "inv-embedding": arrays["inv-nes"]})
    assert table is not None
    assert "inv-embedding" not in {f.id for f in table.findings}
    shown = gallery(both.findings[-1], arrays["inv-nes"])
    assert shown is not None
    assert "other answer" in {shot.caption for page in shown.pages for card in page for shot in card.shots}


def test_the_story_of_records_speaks_of_answers(sample) -> None:
    record, arrays = sample
    both = _of_records(record, arrays, 20)
    alone = both.model_copy(update={"findings": both.findings[-1:]})
    (story,) = [s for s in stories(alone) if s.leak is Leak.INVERSION]
    words = " ".join("".join(part.text for part in sentence) for sentence in story.sentences)
    assert "answers" in words
    found = compared(story.finding)
    assert found is not None
    assert "another record's answer" in [label for label, _, _ in found.rows]
