import base64
import hashlib
import json
import os
import re
import stat
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from report_samples import NAMES, accuracy, empty, faces, inversion_finding, table, wrap, write_run
from seepage.core.errors import StoreError
from seepage.core.record import AuditRecord, Failure, Verdict
from seepage.core.vocabulary import Access, Leak
from seepage.report import render_html, write_html
from seepage.report.identity import shareable
from seepage.report.pictures import data_uri, pixels

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}\x00\x1b"
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Page(HTMLParser):
    """What a page is made of: every tag with its attributes, the text of its scripts, and whether tags nest."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.raw: dict[str, str] = {"script": "", "style": ""}
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " " * (tag in ("td", "th"))
        if tag not in VOID:
            self.inside.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.inside, f"</{tag}> closes nothing"
        assert self.inside[-1] == tag, f"</{tag}> closes <{self.inside[-1]}>"
        self.inside.pop()

    def handle_data(self, data: str) -> None:
        if self.inside and self.inside[-1] in self.raw:
            self.raw[self.inside[-1]] += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def words(self) -> str:
        return " ".join(self.text.split())


@pytest.fixture(scope="module")
def sample():
    return faces()


@pytest.fixture(scope="module")
def opened(sample) -> str:
    return render_html(*sample, show_records=True)


@pytest.fixture(scope="module")
def closed(sample) -> str:
    return render_html(*sample, show_records=False)


def changed(record: AuditRecord, change: Any) -> AuditRecord:
    whole = record.model_dump(mode="json")
    change(whole)
    return AuditRecord.model_validate(whole)


def test_the_verdict_is_in_plain_words(opened: str):
    words = Page(opened).words()
    assert (
        "An adversary holding the model's weights made pictures in which an independent judge recognises "
        "17 of 20 people. Without the model, the best guess is recognised for 5 of 20." in words
    )
    assert "This model gives away training data." in words
    assert "69 times in 100" in words
    assert "Gate crossed. Inversion: the leakage may be as high as 0.76" in words
    assert "Keep the weights to yourself" in words


def test_the_sections_come_in_their_order(opened: str):
    page = Page(opened)
    ids = [a["id"] for a in page.all("section")]
    assert ids == [
        *("verdict", "guide", "findings", "metrics", "defenses", "gallery", "risk", "membership"),
        *("ranking", "checks", "limits", "details", "again"),
    ]
    links = {a["href"] for a in page.all("a") if a["href"].startswith("#")}
    known = {a["id"] for _, a in page.tags if a.get("id")}
    assert {link[1:] for link in links} <= known


@pytest.mark.parametrize("shown", [True, False])
def test_ids_are_unique_and_references_lead_somewhere(opened: str, closed: str, shown: bool):
    page = Page(opened if shown else closed)
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in ("aria-labelledby", "for", "data-for"):
            assert set((attributes.get(name) or "").split()) <= set(ids)


def test_the_page_can_be_used_without_eyes_or_mouse(opened: str):
    page = Page(opened)
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("main")) == len(page.all("header")) == len(page.all("h1")) == 1
    assert all(image.get("alt") for image in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    assert all(a.get("role") == "img" or a.get("aria-hidden") == "true" for a in page.all("svg") if "x" not in a)
    assert all(a.get("tabindex") == "0" for _, a in page.tags if a.get("role") == "region")


def test_nothing_is_loaded_and_only_the_own_script_may_run(opened: str):
    page = Page(opened)
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.raw[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
        assert len(page.all(kind)) == 1
    for _, attributes in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/"))
    assert "@import" not in page.raw["style"]
    assert "url(" not in page.raw["style"]
    assert len(page.raw["script"].strip().split("\n")) <= 150


@pytest.mark.parametrize("shown", [True, False])
def test_hostile_names_stay_text(sample, shown: bool):
    record, arrays = sample

    def poison(whole: dict[str, Any]) -> None:
        whole["title"] = whole["run"]["id"] = whole["tool"]["version"] = HOSTILE
        whole["environment"] = {HOSTILE: HOSTILE}
        whole["config"]["as_written"][HOSTILE] = HOSTILE
        whole["limits"] = [HOSTILE]
        for table_ in ("victim", "data", "judge"):
            whole[table_][HOSTILE] = HOSTILE
        whole["data"]["credit"] = whole["victim"]["name"] = whole["data"]["class_noun"] = HOSTILE
        for check in whole["checks"]:
            check["name"] = check["message"] = HOSTILE
        for verdict in whole["verdicts"].values():
            verdict["reasons"] = verdict["uncontrolled"] = [HOSTILE]
        for left in whole["left_out"]:
            left["attack"] = left["reason"] = HOSTILE
        for gate in whole["gates"]:
            gate["message"] = HOSTILE
        for f in whole["findings"]:
            f |= {"id": f["id"] + HOSTILE, "title": HOSTILE, "attack": HOSTILE, "victim": HOSTILE, "case": HOSTILE}
            f |= {"cites": [HOSTILE], "notes": [HOSTILE], "params": {HOSTILE: HOSTILE}, "facts": {HOSTILE: HOSTILE}}
            f |= {"confounded": HOSTILE, "queries_by_access": {HOSTILE: 1, "b": 2}}
            f["defenses"] = [{"name": HOSTILE, "params": {HOSTILE: HOSTILE}}] if f["defenses"] else []
            if f["error"]:
                f["error"] = {"type": HOSTILE, "message": HOSTILE}
            for s in f["scores"].values():
                s |= {"title": HOSTILE, "method": HOSTILE, "unit": HOSTILE, "reason": HOSTILE}
                s["no_model_parts"] = {HOSTILE: {"value": 0.1, "low": 0.0, "high": 0.2}}
                s["missing"] = {HOSTILE: HOSTILE}
            for e in f["exposed"]:
                e |= {"id": e["id"] + HOSTILE, "evidence": HOSTILE}

    hostile = changed(record, poison)
    named = {f"{name}{HOSTILE}": {**found} for name, found in arrays.items()}
    for found in named.values():
        if "class_names" in found:
            found["class_names"] = np.array([name + "<b>" for name in found["class_names"]])
    page = Page(render_html(hostile, named, shown, problems=[HOSTILE]))
    assert not page.inside
    assert len(page.all("script")) == 1
    assert "alert" not in page.raw["script"]
    assert not page.all("b")
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "{{ 7*7 }}" in page.text
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", page.text)


def test_pictures_are_in_the_page_when_asked_for(sample, opened: str):
    record, arrays = sample
    page = Page(opened)
    sources = {image["src"] for image in page.all("img")}
    for finding in record.findings:
        for kind in ("real", "reconstruction", "nearest_public", "null_reconstruction"):
            for picture in arrays.get(finding.id, {}).get(kind, ()):
                assert data_uri(picture, np.zeros(()), np.ones(())) in sources
    assert "This file shows real and recovered private records" in page.words()


def test_no_private_pixel_and_no_name_is_in_the_page_otherwise(sample, closed: str):
    _, arrays = sample
    assert "data:image/png" not in closed
    for found in arrays.values():
        for kind in ("real", "reconstruction", "nearest_public", "null_reconstruction"):
            for picture in found.get(kind, ()):
                payload = data_uri(picture, np.zeros(()), np.ones(())).partition(",")[2]
                assert payload not in closed
                assert payload[60:160] not in closed
    for name in NAMES:
        assert not re.search(rf"\b{name}\b", closed)
    assert "record-0" not in closed
    assert "the judge gives" not in closed
    words = Page(closed).words()
    assert "--show-records" in words
    assert "person #1" in words
    assert "0.97" in words
    assert "names nobody" in words


def test_names_are_hidden_wherever_they_stand(sample):
    record, arrays = sample

    def plant(whole: dict[str, Any]) -> None:
        whole["findings"][0]["notes"] = ["class s21 has two pictures", "Latent on Zoë-77 only"]
        whole["findings"][0]["error"] = {"type": "E", "message": "record-0345 is odd"}
        whole["checks"][0]["message"] = "s22 and s23 overlap"
        whole["victim"]["worst class"] = "s24"
        whole["victim"]["accuracy of s25"] = 0.5
        whole["config"]["as_written"]["data"]["skip"] = ["s26"]
        whole["limits"] = ["s27 was left out, s2700 was not"]
        whole["findings"][0]["exposed"][0]["id"] = "Zoë-77"

    page = render_html(changed(record, plant), arrays, show_records=False)
    for name in ("s21", "s22", "s23", "s24", "s25", "s26", "s27", "Zoë-77", "record-0345"):
        assert not re.search(rf"\b{name}\b", page), name
    assert "[hidden] was left out, s2700 was not" in page


def test_a_record_for_others_holds_no_evidence_and_no_name(sample):
    record, arrays = sample
    clean = shareable(record, arrays, show_records=False)
    assert all(e.evidence == "" for f in clean.findings for e in f.exposed)
    assert {e.id.partition(" #")[0] for f in clean.findings for e in f.exposed} == {"person", "record"}
    assert not any(re.search(rf"\b{name}\b", clean.model_dump_json()) for name in NAMES)
    assert shareable(record, arrays, show_records=True) == record


def test_one_member_has_one_number_everywhere(sample):
    record, arrays = sample
    page = Page(render_html(record, arrays, show_records=False))
    order = {e.id: e.value for e in record.findings[0].exposed}
    top = max(order, key=lambda name: order[name])
    again = next(e.value for e in record.findings[2].exposed if e.id == top)
    # The row of the most exposed member of the first attack shows its values under the others as well.
    row = re.search(r"person #1(?!\d)(.*?)person #", page.words())[1].split()
    assert row[0] == f"{order[top]:.2f}"
    assert row[2] == f"{again:.2f}"


def test_credentials_never_show(sample):
    record, arrays = sample

    def plant(whole: dict[str, Any]) -> None:
        for kind in ("as_written", "as_resolved"):
            whole["config"][kind]["victim"] |= {
                "url": "https://me:hunter2@model.example/predict",
                "headers": {"Authorization": "Bearer hunter2", "X-Api-Key": "hunter2"},
                "token": "hunter2",
                "tokenizer": "words",
            }
        whole["findings"][0]["params"]["api_key"] = "hunter2"

    for shown in (True, False):
        page = render_html(changed(record, plant), arrays, shown)
        assert "hunter2" not in page
        assert "model.example/predict" in page
        assert "tokenizer" in page
        assert "words" in page


@pytest.mark.parametrize(("shown", "mode"), [(True, 0o600), (False, 0o644)])
def test_the_file_is_written_whole_and_closed_when_private(tmp_path: Path, sample, shown: bool, mode: int):
    run = write_run(tmp_path, *sample)
    before = os.umask(0o022)
    try:
        path = write_html(run, show_records=not shown)
        path = write_html(run, show_records=shown)
    finally:
        os.umask(before)
    assert path == run / "report.html"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert [p.name for p in run.iterdir() if p.name.startswith(".")] == []


def test_a_private_file_is_not_even_read_when_records_are_not_shown(tmp_path: Path, sample, monkeypatch):
    run = write_run(tmp_path, *sample)
    read: list[str] = []
    whole = np.lib.npyio.NpzFile.__getitem__

    def spy(self: Any, key: str) -> Any:
        read.append(key)
        return whole(self, key)

    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", spy)
    write_html(run, show_records=False)
    assert "fpr" in read
    assert "class_names" in read
    assert not {"real", "reconstruction", "null_reconstruction", "nearest_public"} & set(read)


def test_a_record_without_its_arrays_still_makes_a_report(tmp_path: Path, sample, caplog):
    run = write_run(tmp_path, *sample)
    for path in (run / "arrays").iterdir():
        path.unlink()
    words = Page(write_html(run, show_records=True).read_text(encoding="utf-8")).words()
    assert "are not beside the record" in words
    assert "17 of 20 people" in words
    assert "are not beside the record" in caplog.text


def test_arrays_that_do_not_fit_are_said_and_the_rest_is_shown(sample, caplog):
    record, arrays = sample
    broken = {**arrays, "inv-latent": {**arrays["inv-latent"], "real": arrays["inv-latent"]["real"][:3]}}
    page = Page(render_html(record, broken, show_records=True))
    assert "does not fit together" in page.words()
    # Cards, and the table of all attacks: real, nearest, and the three that are left.
    assert len(page.all("img")) == 4 * 20 * 4 + 20 * (2 + 3)


def test_no_file_is_left_when_the_folder_cannot_be_written(tmp_path: Path, sample):
    run = write_run(tmp_path, *sample)
    (run / "report.html").mkdir()
    with pytest.raises(StoreError):
        write_html(run)
    assert [p.name for p in run.iterdir() if p.name.endswith(".tmp")] == []


def test_an_audit_without_findings(sample):
    page = Page(render_html(empty(), {}, show_records=False))
    words = page.words()
    assert "Nothing has been tried on this model yet." in words
    assert "No attack was run." in words
    assert "it needs public records" in words
    assert not page.all("figure")


def test_a_table_victim_without_controls():
    page = Page(render_html(*table(), show_records=True))
    words = page.words()
    assert "2 of 3 classes" in words
    assert "This is uncontrolled (missing: a guess without the model, a null model)" in words
    assert "You could supply a recipe" in words
    assert "years in school" in words
    assert "and 6 more" in words
    assert "عالي الخطورة" in words
    assert not page.all("img")


def many(classes: int, side: int = 8) -> tuple[AuditRecord, dict[str, dict[str, np.ndarray]]]:
    rng = np.random.default_rng(5)
    pictures = rng.random((classes, 3, side, side)).astype(np.float32)
    arrays = {
        "labels": np.arange(classes),
        "real": pictures,
        "reconstruction": pictures[::-1].copy(),
        "judge_class": np.arange(classes),
        "judge_confidence": rng.random(classes).astype(np.float32),
        "judge_rank": np.ones(classes, dtype=int),
        "nearest_judge_confidence": rng.random(classes).astype(np.float32),
        "class_names": np.array([f"person-{k:04d}" for k in range(classes)]),
    }
    score = accuracy(classes, n=classes, no_model=0, null=0)
    finding = inversion_finding("m", "latent", "Latent", classes, Access.WEIGHTS, arrays, scores={score.name: score})
    return wrap([finding], {Leak.INVERSION: Verdict(verdict="leaks", reasons=[])}), {"m": arrays}


@pytest.mark.parametrize("classes", [1, 12, 13, 500])
def test_any_number_of_classes(classes: int):
    page = Page(render_html(*many(classes), show_records=True))
    shown = min(classes, 60)
    assert len(page.all("img")) == 2 * shown
    pages = [a for a in page.all("details") if a.get("class") == "more"]
    assert len(pages) == (shown - 1) // 12
    assert ("The 60 most exposed of 500 are in this file" in page.words()) == (classes == 500)


def test_large_pictures_are_made_small_and_the_file_stays_bounded(monkeypatch):
    record, arrays = many(30, side=200)
    page = render_html(record, arrays, show_records=True)
    assert len(page) < 6_000_000
    monkeypatch.setattr("seepage.report.html.MOST_BYTES", 500_000)
    small = render_html(record, arrays, show_records=True)
    assert len(small) < 800_000
    assert "most exposed of 30 are in this file" in small


def test_the_most_exposed_come_first(sample, opened: str):
    record, _ = sample
    latent = next(f for f in record.findings if f.id == "inv-latent")
    first_panel = re.search(r'id="gallery-1".*?id="gallery-2"', opened, re.DOTALL)[0]
    shown = re.findall(r'<li class="card person">\s*<div class="person-head">\s*<strong><bdi>(.*?)</bdi>', first_panel)
    assert shown == [e.id for e in latent.exposed]


def test_class_names_of_some_classes_are_by_row():
    record, arrays = many(4)
    found = arrays["m"]
    found["labels"] = np.array([3, 5, 8, 9])
    found["judge_class"] = np.array([3, 9, 7, 9])
    bare = changed(record, lambda whole: whole["findings"][0].update(exposed=[]))
    words = Page(render_html(bare, arrays, show_records=True)).words()
    assert "taken for person-0003" in words
    assert "taken for class 7" in words


def test_a_control_that_has_nothing_for_a_class_shows_nothing():
    record, arrays = many(3)
    arrays["m"]["nearest_public"] = np.zeros((3, 3, 8, 8), dtype=np.float32)
    arrays["m"]["nearest_judge_confidence"] = np.array([0.2, np.nan, 0.3])
    assert len(Page(render_html(record, arrays, show_records=True)).all("img")) == 3 * 2 + 2


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_span_the_bounds(channels: int):
    low, high = np.full(channels, -1.0), np.linspace(1.0, 3.0, channels)
    picture = np.stack([np.array([[lo, hi], [(lo + hi) / 2, np.nan]]) for lo, hi in zip(low, high, strict=True)])
    shades = pixels(picture.astype(np.float32), low, high)
    assert shades.shape == ((2, 2) if channels == 1 else (2, 2, 3))
    assert shades.reshape(4, -1)[0].tolist() == [0] * channels
    assert shades.reshape(4, -1)[1].tolist() == [255] * channels
    assert (abs(shades.reshape(4, -1)[2:].astype(int) - 128) <= 1).all()


def test_rates_that_cannot_be_estimated_are_said(opened: str):
    page = Page(opened)
    assert "400 non-members cannot show a rate of 0.001" in page.words()
    assert sum(a.get("class") == "greyed" for a in page.all("tr")) == 2


def test_failed_attacks_are_rows_and_say_why(sample):
    record, _ = sample

    def fail(whole: dict[str, Any]) -> None:
        for f in whole["findings"]:
            f |= {"status": "failed", "scores": {}, "headline": None, "exposed": [], "artifacts": []}
            f["error"] = Failure(type="ModelError", message="the victim answered NaN").model_dump()
        for verdict in whole["verdicts"].values():
            verdict["verdict"] = "inconclusive"

    words = Page(render_html(changed(record, fail), {}, show_records=False)).words()
    assert words.count("ModelError : the victim answered NaN") + words.count("ModelError: the victim answered NaN") == 8
    assert "attacks were tried and all failed" in words
    assert "It is not clear yet" in words


def test_what_an_unfinished_number_looks_like(opened: str, closed: str):
    for page in (opened, closed):
        text = Page(page).words()
        assert not re.search(r"\b(nan|None|inf|Undefined)\b", text)
        # No figure has more than three significant digits, but for versions, counts, ids and dates.
        for number in re.findall(r"(?<![\w.−-])0\.\d+", text):
            assert len(number.lstrip("0.").rstrip("0")) <= 3, number


def test_the_audit_file_is_there_to_be_run_again(opened: str):
    import tomllib

    code = re.search(r'aria-label="The audit file"><code>(.*?)</code>', opened, re.DOTALL)[1]
    again = tomllib.loads(code.replace("&#34;", '"').replace("&#39;", "'").replace("&amp;", "&"))
    assert again == json.loads(json.dumps(faces()[0].config.as_written))


def luminance(colour: str) -> float:
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """WCAG 2.2, relative luminance and contrast ratio."""
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_have_enough_contrast_in_every_theme(opened: str):
    style = Page(opened).raw["style"]
    blocks = re.findall(r"\{[^{}]*--page:[^{}]*\}", style)
    themes = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks]
    assert len(themes) == 4  # light, dark by the system, dark by choice, print
    assert themes[1] == themes[2]
    for theme in themes:
        for back in ("page", "card"):
            for ink in ("ink", "muted", "value", "control", "leak"):
                assert contrast(theme[ink], theme[back]) >= 4.5, (theme, ink, back)
        for state in ("leak", "unclear", "clear", "untried"):
            assert contrast(theme[state], theme[f"{state}-back"]) >= 4.5, (theme, state)
        assert contrast(theme["card"], theme["value"]) >= 4.5


def test_the_same_record_gives_the_same_page(sample, opened: str):
    assert render_html(*sample, show_records=True) == opened
