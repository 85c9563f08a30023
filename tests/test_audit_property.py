"""`[property]` and `property=`: the group found in the records, what is refused, and an audit from end to end."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import seepage
from seepage.audit.api import audit_file
from seepage.audit.config import parse
from seepage.audit.property import asked, group, table_of
from seepage.audit.tables import PropertyTable
from seepage.core.errors import ConfigError, DataError, SeepageError
from seepage.core.recipe import Recipe
from seepage.core.records import Records, Splits
from seepage.core.vocabulary import Modality
from seepage.data.groups import by_class, by_column, without_column
from seepage.report import write_reports

SMALL = {"shadows": 16, "trials": 8}


def frame(n: int, of_group: float, seed: int) -> pd.DataFrame:
    """A table in which the class depends on another column, for women the other way round."""
    rng = np.random.default_rng(seed)
    sex = np.where(np.arange(n) < round(of_group * n), "f", "m")
    a, b = rng.normal(size=n), rng.normal(size=n)
    y = (np.where(sex == "f", -a, a) + 0.3 * rng.normal(size=n)) > 0
    return pd.DataFrame({"sex": sex, "a": a, "b": b, "age": rng.integers(20, 80, n), "y": np.where(y, "yes", "no")})


def records(n: int = 40, of_group: float = 0.5) -> Records:
    rng = np.random.default_rng(n)
    x = rng.random((n, 3)).astype(np.float32)
    x[:, 0] = np.arange(n) < of_group * n
    x[:, 1] = 1 - x[:, 0]
    names = ("sex=f", "sex=m", "age")
    return Records(x, np.arange(n) % 2, ("no", "yes"), modality=Modality.TABLE, features=names)


def fit(x: np.ndarray, y: np.ndarray, seed: int) -> LogisticRegression:
    """A trainer whose models differ by their seed: it leaves a tenth of the records out."""
    kept = np.random.default_rng(seed).random(len(x)) < 0.9
    return LogisticRegression(max_iter=500).fit(x[kept], y[kept])


# The group


def test_a_group_is_a_value_of_a_column() -> None:
    found = records()
    assert by_column(found, "sex", "f", None, "members").sum() == 20
    assert (by_column(found, "sex", "m", None, "members") == ~by_column(found, "sex", "f", None, "members")).all()
    assert (by_column(found, "age", None, 0.5, "members") == (found.x[:, 2] >= 0.5)).all()
    value = float(found.x[3, 2])
    assert by_column(found, "age", value, None, "members")[3]
    assert (by_class(found, "yes", "members") == (found.y == 1)).all()


def test_a_column_is_taken_out_with_all_its_values() -> None:
    left = without_column(records(), "sex")
    assert left.features == ("age",)
    assert left.x.shape == (40, 1)


@pytest.mark.parametrize(
    ("column", "value", "at_least", "words"),
    [
        ("sox", "f", None, "did you mean 'sex'"),
        ("sex", "female", None, "no value 'female'"),
        ("sex", None, 0.5, "give a value, not at_least"),
        ("age", "old", None, "holds numbers, and 'old' is none"),
    ],
)
def test_groups_that_are_not_there_are_refused(
    column: str, value: str | None, at_least: float | None, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        by_column(records(), column, value, at_least, "members")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "one of them"),
        ({"column": "sex", "class_name": "yes", "value": "f"}, "one of them"),
        ({"column": "sex"}, "needs a value or at_least"),
        ({"column": "sex", "value": "f", "at_least": 1.0}, "one of the two"),
        ({"class_name": "yes", "dropped": True}, "name it with column"),
        ({"column": "sex", "value": "f", "trials": 7}, "multiple of 2"),
        ({"column": "sex", "value": "f", "shadows": 4}, "greater than or equal to 8"),
        ({"colum": "sex"}, "did you mean 'column'"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        table_of(table)


def test_a_property_needs_a_recipe_and_a_classifier() -> None:
    whole: dict[str, Any] = {
        "victim": {"kind": "callable", "fn": "a:b"},
        "data": {"members": "x.csv"},
        "property": {"class_name": "yes"},
    }
    with pytest.raises(ConfigError, match=r"give a \[recipe\]"):
        parse(whole, "here")
    with pytest.raises(ConfigError, match="about a classifier"):
        parse({**whole, "victim": {"kind": "federated", "net": "cnn"}}, "here")


def test_flags_are_one_truth_value_a_record() -> None:
    splits = Splits(records(), None, records(60))
    table, flags = table_of({"members": np.ones(40, dtype=bool), "public": np.arange(60) < 20})
    assert asked(table, splits, flags, 0, trains=False).public.mean() == pytest.approx(1 / 3)
    with pytest.raises(ConfigError, match="flags of the public are missing"):
        asked(table, splits, {"members": flags["members"]}, 0, trains=False)
    with pytest.raises(ConfigError, match="40 truth values were wanted"):
        asked(table, splits, {**flags, "members": np.zeros(40)}, 0, trains=False)


def test_public_records_have_the_members_classes() -> None:
    table = PropertyTable(column="sex", value="f")
    with pytest.raises(DataError, match="needs public records with classes"):
        asked(table, Splits(records(), None, None), {}, 0, trains=False)
    other = Records(
        records().x, np.zeros(40, dtype=int), ("maybe",), modality=Modality.TABLE, features=records().features
    )
    with pytest.raises(DataError, match="public records of the members' classes"):
        asked(table, Splits(records(), None, other), {}, 0, trains=False)


def test_members_are_drawn_anew_at_a_share() -> None:
    splits = Splits(records(40), records(90), records(60))
    table = PropertyTable(column="sex", value="f", train_share=0.75)
    with pytest.raises(ConfigError, match="trained already"):
        asked(table, splits, {}, 0, trains=False)
    found = asked(table, splits, {}, 0, trains=True)
    assert found.members.mean() == 0.75
    assert found.splits.nonmembers is not None
    assert (len(found.splits.members), len(found.splits.nonmembers)) == (40, 90)
    assert (found.splits.members.x[:, 0] > 0.5).mean() == 0.75
    assert found.nonmembers is not None
    assert ((found.splits.nonmembers.x[:, 0] > 0.5) == found.nonmembers).all()


def test_flags_stay_beside_their_records_when_some_are_left_out() -> None:
    first = records(40)
    again = Records(
        np.concatenate([first.x[:5], records(90).x]), None, (), modality=Modality.TABLE, features=first.features
    )
    splits = Splits(first, again, records(60))
    found = asked(PropertyTable(column="sex", value="f"), splits, {}, 0, trains=False)
    from seepage.data import without_overlap

    left = found.after(without_overlap(splits))
    assert left.splits.nonmembers is not None
    assert left.nonmembers is not None
    assert len(left.nonmembers) == len(left.splits.nonmembers) < 95
    assert ((left.splits.nonmembers.x[:, 0] > 0.5) == left.nonmembers).all()


# How many models of what size


def _recipe(data: Records) -> Recipe:
    return Recipe(lambda records, seed: None, data)  # type: ignore[arg-type,return-value]


def test_no_model_gets_more_than_half_of_either_kind() -> None:
    splits = Splits(records(200), records(400), records(1000, 0.3))
    found = asked(PropertyTable(column="sex", value="f", **SMALL), splits, {}, 0, trains=False)
    made = group(found, _recipe(splits.members), 0)
    kept = found.public[~made.held]
    shares = made.shadows._shares  # type: ignore[attr-defined]
    assert made.records <= 200
    assert np.round(shares * made.records).max() <= kept.sum() / 2 + 1
    assert made.share == pytest.approx(0.3)
    odds = shares / (1 - shares)
    assert odds.min() == pytest.approx(0.3 / 0.7 / 4)
    assert odds.max() == pytest.approx(0.3 / 0.7 * 4)
    assert made.held.mean() == pytest.approx(0.2, abs=0.01)
    assert found.public[made.held].mean() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("table", "public", "words"),
    [
        ({}, 40, "cannot be drawn"),
        ({"records": 500}, 1000, "cannot be drawn"),
        ({"shares": [0.3]}, 1000, "two different shares"),
        ({"shares": [0.3, 1.0]}, 1000, "between 0 and 1"),
    ],
)
def test_records_that_do_not_suffice_are_refused(table: dict[str, Any], public: int, words: str) -> None:
    splits = Splits(records(200), records(400), records(public, 0.3))
    found = asked(PropertyTable(column="sex", value="f", **SMALL, **table), splits, {}, 0, trains=False)
    with pytest.raises(SeepageError, match=words):
        group(found, _recipe(splits.members), 0)


def test_a_group_that_is_all_or_nobody_is_refused() -> None:
    splits = Splits(records(200), records(400), records(500, 0.0))
    found = asked(PropertyTable(column="sex", value="f"), splits, {}, 0, trains=False)
    with pytest.raises(DataError, match="0 are of the group"):
        group(found, _recipe(splits.members), 0)


# Audits


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {"members": frame(150, 0.6, 1), "nonmembers": frame(450, 0.4, 2), "public": frame(900, 0.3, 3)}


@pytest.mark.parametrize("dropped", [False, True])
def test_an_audit_of_a_live_model(tables: dict[str, pd.DataFrame], tmp_path: Path, dropped: bool) -> None:
    """The class turns about with the group, so that its share shows whether the model sees the group or not."""
    from seepage.data import Reading, as_splits

    reading = Reading(encode="onehot")
    splits = as_splits(*tables.values(), target="y", reading=reading)
    members = without_column(splits.members, "sex") if dropped else splits.members
    model = fit(members.x, members.labels(), 0)
    record = seepage.audit(
        model,
        **tables,
        target="y",
        reading=reading,
        recipe=fit,
        attacks=["property-answers", "property-confidence"],
        property={"column": "sex", "value": "f", "dropped": dropped, **SMALL, "trials": 24, "shadows": 32},
        out=tmp_path,
    )
    assert [f.status for f in record.findings] == ["done", "done"]
    answers = record.findings[0]
    assert answers.case == "property"
    assert answers.score is not None
    assert answers.score.name == "property_auc"
    assert answers.score.leakage is not None
    assert answers.score.leakage.low > 0
    assert record.verdict("membership") == "leaks"
    assert answers.facts["estimated_low"] <= 0.6 <= answers.facts["estimated_high"]
    assert answers.confounded is None, "what members look like says nothing of models"
    assert answers.facts["true_share"] == pytest.approx(0.6)
    assert answers.facts["public_share"] == pytest.approx(0.3)
    assert answers.queries <= 200
    assert record.data["group"] == "sex = f"
    written = write_reports(record.folder)
    for page in (written["report"], written["text"]):
        text = page.read_text("utf-8")
        assert "How large a group is in the training set" in text
        assert "The public says" in text
        assert "times in 100" in text
        assert "Of the share of a group, intervals are over models" in text
        assert "Weight or draw the training records" in text
        assert "Membership follows overfitting" not in text
        assert "sex = f" in text


def test_without_a_property_the_attacks_are_left_out_with_the_reason(
    tables: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    from seepage.data import Reading, as_splits

    reading = Reading(encode="onehot")
    members = as_splits(*tables.values(), target="y", reading=reading).members
    model = fit(members.x, members.labels(), 0)
    # With a budget of one query nothing is left to run, and each attack says why.
    with pytest.raises(
        ConfigError, match="property-answers, property-confidence: it needs a group whose share is asked about"
    ):
        seepage.audit(model, **tables, target="y", reading=reading, recipe=fit, budget=1, out=tmp_path)
    with pytest.raises(ConfigError, match=r"\[property\]"):
        seepage.audit(
            model, **tables, target="y", reading=reading, recipe=fit, attacks="property-answers", out=tmp_path
        )
    with pytest.raises(ConfigError, match="give the recipe"):
        seepage.audit(model, **tables, target="y", reading=reading, property={"class_name": "yes"}, out=tmp_path)


def test_a_file_is_audited_the_same_twice_and_behind_a_defense(
    tables: dict[str, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    (tmp_path / "fitting.py").write_text(
        "import numpy as np\nfrom sklearn.linear_model import LogisticRegression\n\n\n"
        "def fit(x, y, seed):\n"
        "    kept = np.random.default_rng(seed).random(len(x)) < 0.9\n"
        "    return LogisticRegression(max_iter=500).fit(x[kept], y[kept])\n"
    )
    file = tmp_path / "audit.toml"
    file.write_text(
        'seed = 4\n[victim]\nkind = "recipe"\n[data]\nmembers = "members.csv"\nnonmembers = "nonmembers.csv"\n'
        'public = "public.csv"\ntarget = "y"\nencode = "onehot"\n[recipe]\nfit = "fitting:fit"\n'
        '[property]\ncolumn = "sex"\nvalue = "f"\ndropped = true\nshadows = 16\ntrials = 12\ntrain_share = 0.7\n'
        '[[attack]]\nname = "property-answers"\n[[defense]]\nname = "round"\ndigits = 2\n[run]\nprocesses = 1\n'
    )
    monkeypatch.chdir(tmp_path)
    first, _ = audit_file(file, out=tmp_path / "one", fresh=True)
    again, _ = audit_file(file, out=tmp_path / "two", fresh=True)
    assert [f.scores for f in first.findings] == [f.scores for f in again.findings]
    assert [bool(f.defenses) for f in first.findings] == [False, True]
    assert all(f.status == "done" for f in first.findings)
    assert first.findings[0].facts["true_share"] == pytest.approx(0.7)
    assert first.data["shape"] == "3"


# In words


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.45, 0.71, "which is above the 0.30"),
        (0.05, 0.21, "which is below the 0.30"),
        (0.25, 0.71, "which may be no different from the 0.30"),
        (0.0, 1.0, "it cannot say what share of its training set is sex = f"),
    ],
)
def test_what_is_said_of_the_victim_follows_its_interval(low: float, high: float, words: str) -> None:
    from seepage.core.record import Finding
    from seepage.report.shares import estimated
    from seepage.report.words import plain

    facts = {"group": "sex = f", "public_share": 0.3, "true_share": 0.6}
    facts |= {"estimated_share": (low + high) / 2, "estimated_low": low, "estimated_high": high}
    told = plain(estimated(Finding.model_construct(facts=facts)))
    assert words in told
    assert "it is 0.60" in told
    assert "no estimate" in plain(estimated(Finding.model_construct(facts={})))
