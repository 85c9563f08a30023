"""CSV, TSV and Parquet with a target column: values, encodings, and one message for each fault."""

import datetime
import gzip
import unicodedata
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seepage.core.errors import ConfigError, DataError
from seepage.core.spec import Bounds, InputSpec
from seepage.core.vocabulary import Modality
from seepage.data import Reading, TableEncoder, as_records, frame_records, read_table

CLASS = Reading(target="class")


def frame(n: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "dose": rng.normal(size=n).round(4),
            "smoker": [i % 2 == 0 for i in range(n)],
            "class": ["ill" if i % 3 else "well" for i in range(n)],
        }
    )


def wrote(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.parquet", "T.CSV", "t.pq"])
def test_every_kind_of_file_gives_the_records_of_the_frame(tmp_path, name):
    table = frame()
    path = tmp_path / name
    if name.endswith(("parquet", "pq")):
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if "tsv" in name else ",")
    from_file, from_memory = read_table(path, reading=CLASS), frame_records(table, reading=CLASS)
    assert from_file.digest() == from_memory.digest()
    assert from_file.class_names == ("ill", "well")
    assert from_file.features == ("age", "dose", "smoker")
    assert from_file.modality is Modality.TABLE
    assert from_file.x.dtype == np.float32
    assert from_file.source == name
    np.testing.assert_array_equal(from_file.x[:, 2], [1, 0, 1, 0, 1, 0])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(
        st.floats(-(2.0**99), 2.0**99, allow_nan=False, width=32) | st.integers(-(2**24), 2**24).map(float),
        min_size=2,
        max_size=20,
    ),
    # pandas writes a bare carriage return without quotes, which ends the line for every reader.
    noisy=st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1, max_size=6).filter(str.strip),
)
def test_any_numbers_and_names_survive_the_way_through_csv_and_parquet(tmp_path, values, noisy):
    table = pd.DataFrame({"v": values, "class": [noisy if i % 2 else "other!" for i in range(len(values))]})
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    want = np.asarray(values, dtype=np.float32)[:, None]
    for name in ("t.csv", "t.parquet"):
        records = read_table(tmp_path / name, reading=CLASS)
        np.testing.assert_array_equal(records.x, want)
        assert set(records.class_names) == {"other!", unicodedata.normalize("NFC", noisy)}


def test_columns_that_are_not_numbers_need_a_choice(tmp_path):
    path = wrote(tmp_path / "t.csv", "a,colour,size,class\n1,red,s,0\n2,blue,m,1\n3,red,l,0\n")
    with pytest.raises(
        DataError, match=r"2 columns are not numbers: 'colour', 'size'.*encode = \"onehot\" or encode = \"ordinal\""
    ):
        read_table(path, reading=CLASS)
    ordinal = read_table(path, reading=Reading(target="class", encode="ordinal"))
    np.testing.assert_array_equal(ordinal.x, [[1, 1, 2], [2, 0, 1], [3, 1, 0]])
    assert ordinal.features == ("a", "colour", "size")
    onehot = read_table(path, reading=Reading(target="class", encode="onehot"))
    assert onehot.features == ("a", "colour=blue", "colour=red", "size=l", "size=m", "size=s")
    np.testing.assert_array_equal(onehot.x[:, 1:3], [[0, 1], [1, 0], [0, 1]])
    assert (onehot.x[:, 3:].sum(axis=1) == 1).all()


def test_given_categories_set_the_codes_and_a_stranger_is_named(tmp_path):
    path = wrote(tmp_path / "t.csv", "size,class\ns,0\nm,1\nl,0\n")
    sizes = Reading(target="class", encode="ordinal", categories={"size": ["s", "m", "l", "xl"]})
    np.testing.assert_array_equal(read_table(path, reading=sizes).x[:, 0], [0, 1, 2])
    few = Reading(target="class", encode="ordinal", categories={"size": ["s", "m"]})
    with pytest.raises(DataError, match=r"column 'size' holds 'l' in row 3, which is none of its 2 known values"):
        read_table(path, reading=few)
    with pytest.raises(DataError, match=r"categories name the column 'sise': did you mean 'size'"):
        read_table(path, reading=Reading(target="class", encode="ordinal", categories={"sise": ["s"]}))


def test_an_encoder_fitted_on_members_serves_other_records_in_any_column_order():
    members = pd.DataFrame({"a": [1.0, 2.0], "c": ["x", "y"]})
    encoder = TableEncoder.fit(members, "onehot")
    others = pd.DataFrame({"c": ["y", "y", "x"], "a": [5.0, 6.0, 7.0]})
    np.testing.assert_array_equal(encoder.transform(others), [[5, 0, 1], [6, 0, 1], [7, 1, 0]])
    with pytest.raises(DataError, match=r"columns 'a' are missing"):
        encoder.transform(others.drop(columns="a"))
    with pytest.raises(DataError, match=r"1 columns are not among the members' 2: 'b'"):
        encoder.transform(others.assign(b=1))
    with pytest.raises(DataError, match=r"column 'a' should hold numbers, got for instance 'six' in row 2"):
        encoder.transform(pd.DataFrame({"a": pd.Series([1, "six"], dtype=object), "c": ["x", "x"]}))


def test_ordered_categories_keep_their_own_order_and_numbers_in_objects_are_numbers():
    sizes = pd.Categorical(["s", "l", "m"], categories=["s", "m", "l"], ordered=True)
    table = pd.DataFrame({"size": sizes, "d": [Decimal("1.5"), Decimal(2), Decimal(3)], "class": [0, 1, 1]})
    records = frame_records(table, reading=Reading(target="class", encode="ordinal"))
    np.testing.assert_array_equal(records.x, [[0, 1.5], [2, 2], [1, 3]])


def test_a_name_or_a_date_is_no_category():
    n = 120
    table = pd.DataFrame({"who": [f"person {i}" for i in range(n)], "class": [i % 2 for i in range(n)]})
    with pytest.raises(DataError, match=r"'who' holds 120 different texts in 120 records.*leave it out with drop"):
        frame_records(table, reading=Reading(target="class", encode="onehot"))
    for dates in (pd.date_range("2024-01-01", periods=n), [datetime.date(2024, 1, 1)] * n):
        dated = pd.DataFrame({"when": dates, "class": table["class"]})
        with pytest.raises(DataError, match=r"'when' holds dates or times; turn it into a number"):
            frame_records(dated, reading=Reading(target="class", encode="ordinal"))
    nested = pd.DataFrame({"v": [[1, 2]] * n, "class": table["class"]})
    with pytest.raises(DataError, match=r"'v' holds a list in row 1"):
        frame_records(nested, reading=Reading(target="class", encode="onehot"))


def test_id_and_dropped_columns_are_no_features(tmp_path):
    path = wrote(tmp_path / "t.csv", "who,a,best,class\nann,1,9,x\nbob,2,9,y\n")
    records = read_table(path, reading=Reading(target="class", id="who", drop=["best"]))
    assert records.ids == ("ann", "bob")
    assert records.features == ("a",)
    with pytest.raises(DataError, match=r"drop names the column 'Best': did you mean 'best'"):
        read_table(path, reading=Reading(target="class", id="who", drop=["Best"]))
    twice = wrote(tmp_path / "u.csv", "who,a,class\nann,1,x\nann,2,y\n")
    with pytest.raises(DataError, match=r"id 'ann' in column 'who' comes again in row 2"):
        read_table(twice, reading=Reading(target="class", id="who"))


@pytest.mark.parametrize(
    ("hole", "kind"),
    [("", r"missing \(or NaN\)"), ("nan", r"missing \(or NaN\)"), ("NA", r"missing \(or NaN\)"), ("inf", "infinite")],
)
def test_missing_and_infinite_values_are_named_or_dropped(tmp_path, hole, kind):
    path = wrote(tmp_path / "t.csv", f"a,b,class\n1,2,x\n3,4,y\n5,{hole},x\n7,8,y\n")
    with pytest.raises(DataError, match=rf"column 'b' is {kind} in row 3; impute them, or set missing = \"drop\""):
        read_table(path, reading=CLASS)
    kept = read_table(path, reading=Reading(target="class", missing="drop"))
    assert kept.ids == ("1", "2", "4")
    np.testing.assert_array_equal(kept.x, [[1, 2], [3, 4], [7, 8]])


def test_a_missing_category_is_missing_and_not_a_category(tmp_path):
    path = wrote(tmp_path / "t.csv", "a,c,class\n1,u,x\n2,,y\n3,v,y\n")
    for kind in ("onehot", "ordinal"):
        with pytest.raises(DataError, match=r"missing \(or NaN\) in row 2"):
            read_table(path, reading=Reading(target="class", encode=kind))
        assert len(read_table(path, reading=Reading(target="class", encode=kind, missing="drop"))) == 2


def test_a_missing_label_and_a_file_of_holes(tmp_path):
    path = wrote(tmp_path / "t.csv", "a,class\n1,0\n2,\n3,1\n")
    with pytest.raises(DataError, match=r"1 labels are missing, first in row 2"):
        read_table(path, reading=CLASS)
    assert len(read_table(path, reading=Reading(target="class", missing="drop"))) == 2
    holes = wrote(tmp_path / "u.csv", "a,class\n,0\n,1\n")
    with pytest.raises(DataError, match="every one of 2 records has a missing"):
        read_table(holes, reading=Reading(target="class", missing="drop"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; a header and at least one record were wanted"),
        ("\n\n  \n", "is empty"),
        ("a,class\n", "names 2 columns and holds no records"),
        ("a,b,class\n1,2,x\n3,4\n", r"line 3 holds 2 fields, the header 3; the file is truncated"),
        ("a,b,class\n1,2,x\n\n3,4,x,9\n", r"line 4 holds 4 fields, the header 3"),
        ('a,b,class\n"1\n1",2,x\n3,4\n', r"line 4 holds 2 fields"),
        ('a,b,class\n1,2,x\n3,"4', r"line 3 holds 2 fields, the header 3"),
        ("a,b,a,class\n1,2,3,x\n", r"names 1 columns more than once: 'a'"),
        ("a;b;class\n1;2;x\n", r"has one column, 'a;b;class'.*give delimiter"),
        (",a,class\n0,1,x\n1,2,y\n", r"column 1 has no name.*index=False"),
        ("a,class\n1e300,x\n2,y\n", r"column 'a' holds 1e\+300 in row 1, too large for a 32-bit float"),
        ("a,class\n1,x\n2,x\n", r"at least 2 classes were wanted, got 1"),
        ("a,klass\n1,x\n2,y\n", r"target names the column 'class': did you mean 'klass'"),
        ("class\nx\ny\n", "no feature column is left"),
        ("a,class\n1,0.25\n2,0.75\n", r"the target holds real numbers \(2 different values\)"),
    ],
)
def test_each_fault_has_its_one_message(tmp_path, text, message):
    path = wrote(tmp_path / "t.csv", text)
    with pytest.raises(DataError, match=message):
        read_table(path, reading=CLASS)


def test_other_encodings_are_told(tmp_path):
    latin = tmp_path / "latin.csv"
    latin.write_bytes("name,class\nann,x\nJosé,y\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"is not UTF-8: line 3 holds the byte 0xe9; save it as UTF-8"):
        read_table(latin, reading=CLASS)
    wide = tmp_path / "wide.csv"
    wide.write_bytes("a,class\n1,x\n".encode("utf-16"))
    with pytest.raises(DataError, match="is written in UTF-16"):
        read_table(wide, reading=CLASS)
    marked = tmp_path / "marked.csv"
    marked.write_bytes("\ufeffa,class\n1,x\n2,y\n".encode())
    assert read_table(marked, reading=CLASS).features == ("a",)


def test_damaged_files_are_named(tmp_path):
    whole = tmp_path / "t.csv.gz"
    with gzip.open(whole, "wt") as file:
        file.write("a,class\n" + "".join(f"{i},{i % 2}\n" for i in range(500)))
    broken = tmp_path / "u.csv.gz"
    broken.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"u.csv.gz is no complete gzip file"):
        read_table(broken, reading=CLASS)
    frame(200).to_parquet(tmp_path / "t.parquet")
    cut = tmp_path / "u.parquet"
    cut.write_bytes((tmp_path / "t.parquet").read_bytes()[:-300])
    with pytest.raises(DataError, match=r"u.parquet is no complete Parquet file"):
        read_table(cut, reading=CLASS)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_table(tmp_path / "none.csv", reading=CLASS)


def test_a_row_may_be_long_and_a_late_row_may_change_the_type_of_its_column(tmp_path):
    text = "a,note,class\n" + "".join(f"{i % 7},,{i % 2}\n" for i in range(1000)) + f"0.5,{'long ' * 500_000},1\n"
    records = read_table(wrote(tmp_path / "t.csv", text), reading=Reading(target="class", drop=["note"]))
    assert records.x[-1, 0] == 0.5
    assert records.x[6, 0] == 6


def test_the_spec_orders_columns_by_name_and_checks_their_number():
    table = pd.DataFrame({"b": [1.0, 2.0], "a": [3.0, 4.0], "class": [0, 1]})
    spec = InputSpec((2,), Bounds.of(0.0, 10.0), Modality.TABLE, features=("a", "b"))
    np.testing.assert_array_equal(frame_records(table, reading=CLASS, spec=spec).x, [[3, 1], [4, 2]])
    wrong = InputSpec((2,), Bounds.of(0.0, 10.0), Modality.TABLE, features=("a", "c"))
    with pytest.raises(DataError, match=r"missing: 'c'; not wanted: 'b'"):
        frame_records(table, reading=CLASS, spec=wrong)
    with pytest.raises(DataError, match=r"victim takes 3 numbers a record, the table gives 2 columns \('b', 'a'\)"):
        frame_records(table, reading=CLASS, spec=InputSpec((3,), Bounds.of(0.0, 10.0), Modality.TABLE))
    with pytest.raises(DataError, match=r"values should lie in \[0, 3\]"):
        frame_records(table, reading=CLASS, spec=InputSpec((2,), Bounds.of(0.0, 3.0), Modality.TABLE))


def test_no_target_is_asked_for_and_public_records_need_none(tmp_path):
    path = wrote(tmp_path / "t.csv", "a,b\n1,2\n3,4\n")
    with pytest.raises(DataError, match=r"name the column that holds the class with target; the columns are 'a', 'b'"):
        read_table(path)
    assert as_records(path, what="public", target="class").y is None


def test_options_are_checked():
    for options, message in (
        ({"encode": "one-hot"}, "encode is 'onehot', 'ordinal' or 'own'"),
        ({"missing": "skip"}, "missing is 'error', 'drop' or 'keep'"),
        ({"drop": "a"}, "drop is a list"),
        ({"limit": 0}, "limit is the greatest number"),
        ({"size": (0, 3)}, "size is"),
        ({"delimiter": "::"}, "delimiter is one character"),
        ({"categories": {"a": "xyz"}}, "categories is a list of texts"),
    ):
        with pytest.raises(ConfigError, match=message):
            Reading(**options)
