import os
import re
import stat
from pathlib import Path

import pytest

from report_samples import NAMES, empty, faces, table, write_run
from seepage.report import render_markdown, write_markdown

HOSTILE = "a|b `c` <script>alert(1)</script> [x](http://evil) www.evil.example ![i](j)\n# head\n| --- |"


def test_the_story_is_told_in_words_and_tables():
    record, arrays = faces()
    text = render_markdown(record, arrays, show_records=False)
    assert "recognises **17 of 20 people**. Without the model, the best guess is recognised for **5 of 20**." in text
    for words in (
        "INVERSION",
        "## What was tried",
        "0.85 [0.64, 0.95]",
        "+0.60 [0.30, 0.77]",
        "not estimable",
        "```toml",
    ):
        assert words.lower() in text.lower()
    assert "failed: the start of the walk" in text
    assert "data:image" not in text


def test_every_row_of_a_table_has_as_many_cells_as_its_head():
    record, arrays = faces()
    whole = record.model_dump()
    for finding in whole["findings"]:
        finding["title"] = HOSTILE
    text = render_markdown(record.model_validate(whole), arrays, show_records=True)
    tables = re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE)
    assert len(tables) >= 4
    for table_text in tables:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table_text.strip().split("\n")}
        assert len(cells) == 1


def test_markup_in_names_stays_text():
    record, arrays = faces()
    whole = record.model_dump()
    whole["title"] = HOSTILE
    whole["findings"][0]["notes"] = [HOSTILE]
    whole["limits"] = [HOSTILE]
    whole["config"]["as_written"]["title"] = "```\n<script>alert(1)</script>"
    text = render_markdown(record.model_validate(whole), arrays, show_records=True)
    outside = re.sub(r"^(`{3,})toml\n.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"(?<!\\)<script", outside)
    assert not re.search(r"(?<!\\)\[x", outside)
    assert "http://" not in outside
    assert "www.evil" not in outside
    assert "\n# head" not in text
    assert len([line for line in text.split("\n") if line.startswith("# ")]) == 1


def test_names_appear_only_when_asked_for():
    record, arrays = faces()
    closed, open_ = (render_markdown(record, arrays, show_records=shown) for shown in (False, True))
    for name in NAMES:
        assert not re.search(rf"\b{name}\b", closed)
        assert re.search(rf"\b{name}\b", open_)
    assert "record-0" not in closed


@pytest.mark.parametrize("shown", [False, True])
def test_the_file_is_closed_to_others_when_it_names_somebody(tmp_path: Path, shown: bool):
    record, arrays = faces()
    before = os.umask(0o022)
    try:
        path = write_markdown(write_run(tmp_path, record, arrays), show_records=shown)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == (0o600 if shown else 0o644)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("sample", [table(), (empty(), {})], ids=["table", "empty"])
def test_other_audits(sample):
    record, arrays = sample
    text = render_markdown(record, arrays, show_records=False)
    assert text.startswith("# ")
    assert "nan" not in text.lower().replace("finance", "")
