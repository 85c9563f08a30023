"""Texts as records: where they come from, and what is refused."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from seepage.core.errors import ConfigError, DataError
from seepage.core.records import Records, Splits
from seepage.data import Reading
from seepage.data.texts import are_texts, as_texts, texts_apart


def test_a_text_file_has_one_record_a_line(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffFirst.\r\n\r\n  Zweiter, größer  \nthird".encode())
    found = as_texts(file)
    assert found.texts == ("First.", "Zweiter, größer", "third")
    assert found.ids == ("line 1", "line 3", "line 4")
    assert found.source == "a.txt"
    assert as_texts(file, reading=Reading(limit=2)).ids == ("line 1", "line 3")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_of_a_table_holds_texts(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"key": ["p1", "p2"], "note": ["fever, cough", "none"]})
    file = tmp_path / f"a.{suffix}"
    frame.to_csv(file, index=False) if suffix == "csv" else frame.to_parquet(file)
    found = as_texts(file, "note", Reading(id="key"))
    assert (found.texts, found.ids) == (("fever, cough", "none"), ("p1", "p2"))
    with pytest.raises(DataError, match="no column 'note_': did you mean 'note'"):
        as_texts(file, "note_")
    with pytest.raises(ConfigError, match="say which column"):
        as_texts(file)


def test_values_of_a_column_must_be_texts(tmp_path: Path) -> None:
    pd.DataFrame({"note": [1, 2]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no texts"):
        as_texts(tmp_path / "a.parquet", "note")
    pd.DataFrame({"note": ["a", None]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"1 of 2 texts .* missing"):
        as_texts(tmp_path / "b.parquet", "note")


@pytest.mark.parametrize(
    ("thing", "told"),
    [([], "an empty list"), (3, "a int"), ([1, 2], "a list"), (["a", " "], "text 1 is empty"), (["a", None], "a list")],
)
def test_what_is_no_text_is_refused(thing: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        as_texts(thing)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        as_texts(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match="not UTF-8"):
        as_texts(tmp_path / "latin.txt")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(DataError, match=r"there are no texts in empty\.txt"):
        as_texts(tmp_path / "empty.txt")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ConfigError, match="is no CSV"):
        as_texts(tmp_path / "a.txt", "note")


def test_texts_are_known_when_seen() -> None:
    assert are_texts(["a"])
    assert are_texts(pd.Series(["a"]))
    assert are_texts(Records.of_texts(["a"]))
    for other in ("a", Path("a"), [1], ["a", 1], [], None, pd.DataFrame({"a": ["b"]})):
        assert not are_texts(other)


def splits(members: list[str], public: list[str]) -> Splits:
    return Splits(Records.of_texts(members), None, Records.of_texts(public))


def test_public_members_are_refused_or_left_out() -> None:
    both = splits(["A  secret", "known TEXT ", "a secret", "another"], ["Known text", "x"])
    with pytest.raises(DataError, match=r"1 of 3 members are public texts too.*first: 1"):
        texts_apart(both, "refuse")
    found, (check,) = texts_apart(both, "drop")
    assert found.members.texts == ("A  secret", "another")
    assert check.passed
    assert "1 copies of others, 1 that are public" in check.message
    with pytest.raises(DataError, match="every member is a public text"):
        texts_apart(splits(["x"], ["X"]), "drop")


def test_texts_that_are_apart_stay() -> None:
    found, (check,) = texts_apart(splits(["a", "b"], ["c"]), "refuse")
    assert found.members.texts == ("a", "b")
    assert "no two of 2 are the same" in check.message
