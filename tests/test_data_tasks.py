"""Records with numbers or labels to predict, tables in their own form, and what is refused of both."""

import numpy as np
import pandas as pd
import pytest

from seepage.core.errors import ConfigError, DataError, ModelError
from seepage.core.records import Records, spread_of
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality, Task
from seepage.data import Reading, as_records, as_splits, blind_baseline, check_splits
from seepage.data.own_form import OwnForm
from seepage.targets import infer_spec

RNG = np.random.default_rng(5)
X = RNG.normal(size=(40, 3)).astype(np.float32)
Y = (X.sum(axis=1) * 7 + 100).astype(np.float64)
LABELS = (X > 0).astype(int)
VALUES = Reading(task="values")


def _frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": [31, 47, 22, 68],
            "wage": [12.5, np.nan, 9.75, 40.1234],
            "work": ["state", None, "private", "self"],
            "left": [True, False, True, True],
            "size": pd.Categorical(["S", "L", "M", "S"], categories=["S", "M", "L"], ordered=True),
            "kids": pd.array([1, None, 0, 2], dtype="Int64"),
            "income": ["low", "high", "low", "high"],
        }
    )


# Targets


def test_numbers_are_kept_in_their_own_units() -> None:
    records = as_records((X, Y), reading=VALUES)
    assert records.task is Task.VALUES
    assert records.labelled
    assert records.y is None
    assert records.class_names == ()
    np.testing.assert_array_equal(records.answers()[:, 0], Y)
    assert records.spread == pytest.approx((Y.std(),))
    x, y = records.given()
    assert x is records.x
    np.testing.assert_array_equal(y, Y)


def test_labels_are_a_matrix_of_yes_and_no() -> None:
    frame = pd.DataFrame(X, columns=list("abc")).assign(p=LABELS[:, 0], q=LABELS[:, 1].astype(bool))
    records = as_records(frame, reading=Reading(task="labels", target=["p", "q"]))
    assert records.task is Task.LABELS
    assert records.outputs == ("p", "q")
    assert records.features == ("a", "b", "c")
    np.testing.assert_array_equal(records.answers(), LABELS[:, :2])
    np.testing.assert_array_equal(records.given()[1], LABELS[:, :2])


def test_targets_are_called_as_their_columns_are() -> None:
    frame = pd.DataFrame(X, columns=list("abc"))
    assert as_records((frame, pd.Series(Y, name="wage")), reading=VALUES).outputs == ("wage",)
    both = pd.DataFrame({"wage": Y, "rent": -Y})
    assert as_records((frame, both), reading=VALUES).outputs == ("wage", "rent")
    assert as_records((X, both), reading=VALUES).outputs == ("wage", "rent")
    assert as_records((X, Y), reading=VALUES).outputs == ("output 1",)


def test_targets_follow_their_records() -> None:
    records = as_records((X, Y), reading=VALUES)
    some = records[np.array([3, 1])]
    np.testing.assert_array_equal(some.answers()[:, 0], Y[[3, 1]])
    both = some.joined(records[:2])
    np.testing.assert_array_equal(both.answers()[:, 0], Y[[3, 1, 0, 1]])
    # The unit of errors is that of all candidates, whoever of them is looked at.
    assert both.spread == some.spread == records.spread
    assert records[:2].digest() != as_records((X, Y + 1), reading=VALUES)[:2].digest()
    with pytest.raises(DataError, match="not values with classes"):
        some.joined(Records(X, modality=Modality.TABLE))


def test_the_unit_of_errors_is_the_same_whoever_is_a_member() -> None:
    one = as_splits((X[:20], Y[:20]), (X[20:], Y[20:]), reading=VALUES)
    other = as_splits((X[20:], Y[20:]), (X[:20], Y[:20]), reading=VALUES)
    assert one.nonmembers is not None
    assert one.members.spread == one.nonmembers.spread == pytest.approx(other.members.spread)
    assert one.members.spread == pytest.approx(spread_of(Y[:, None]))
    assert spread_of(np.ones((4, 1))) == (1.0,)


def test_arrays_in_a_file_and_a_torch_dataset(tmp_path) -> None:
    import torch
    from torch.utils.data import TensorDataset

    np.savez(tmp_path / "m.npz", x=X, y=np.stack([Y, -Y], axis=1))
    found = as_records(tmp_path / "m.npz", reading=VALUES)
    assert found.outputs == ("output 1", "output 2")
    data = TensorDataset(torch.from_numpy(X), torch.from_numpy(LABELS))
    np.testing.assert_array_equal(as_records(data, reading=Reading(task="labels")).answers(), LABELS)


BAD_TARGETS = {
    "numbers where classes are": ((X, Y), Reading(), 'say task = "values"'),
    "a matrix where classes are": ((X, LABELS), Reading(), 'task = "labels" or task = "values"'),
    "texts where numbers are": ((X, ["a", "b"] * 20), VALUES, "got for instance 'a'.*task = \"classes\""),
    "a missing number": ((X, np.where(np.arange(40) == 7, np.nan, Y)), VALUES, "1 records have no target.*row 8"),
    "an infinite number": ((X, np.where(np.arange(40) == 7, np.inf, Y)), VALUES, "row 8 is infinite"),
    "a constant": ((X, np.full(40, 3.0)), VALUES, "is 3 in every record"),
    "labels that are none": ((X, LABELS * 2), Reading(task="labels"), "wants 0 or 1 for each label, got 2; numbers"),
    "a single label": ((X, LABELS[:, 0]), Reading(task="labels"), "two labels or more.*classes"),
    "ragged labels": ((X, [[1], [0, 1]] * 20), Reading(task="labels"), "ragged list.*MultiLabelBinarizer"),
    "three axes": ((X, np.zeros((40, 2, 2))), VALUES, r"got an array of shape \(40, 2, 2\)"),
    "too few": ((X, Y[:9]), VALUES, "40 records came with 9 targets"),
}


@pytest.mark.parametrize("case", BAD_TARGETS)
def test_bad_targets(case: str) -> None:
    thing, reading, message = BAD_TARGETS[case]
    with pytest.raises(DataError, match=message):
        as_records(thing, reading=reading)


def test_bad_options() -> None:
    with pytest.raises(ConfigError, match="did you mean 'values'"):
        Reading(task="value")
    with pytest.raises(ConfigError, match="target is the name of a column, or a list"):
        Reading(target=[])
    with pytest.raises(ConfigError, match='goes with encode = "own"'):
        Reading(missing="keep", encode="onehot")
    with pytest.raises(DataError, match="folders are classes"):
        as_records(__file__.rpartition("/")[0], reading=VALUES)


def test_a_target_that_is_not_there_is_told_before_columns_are_coded() -> None:
    with pytest.raises(DataError, match="target names the column 'incme': did you mean 'income'"):
        as_splits(_frame(), _frame(), target="incme")
    with pytest.raises(DataError, match="target names 2 columns, and a class is one"):
        as_splits(_frame(), target=["income", "age"])
    with pytest.raises(DataError, match="nonmembers: target names the column 'income'"):
        as_splits(_frame(), _frame().drop(columns="income"), reading=Reading(target="income", encode="own"))


def test_splits_must_predict_the_same() -> None:
    both = as_splits((X[:20], Y[:20]), (X[20:], Y[20:]), reading=VALUES)
    classes = as_records((X[20:], np.arange(20) % 2))
    with pytest.raises(DataError, match="1 values a record; got 2 classes"):
        check_splits(type(both)(both.members, classes))
    with pytest.raises(DataError, match="2 targets a record, the members have 1"):
        as_splits((X[:20], Y[:20]), (X[20:], np.stack([Y[20:], Y[20:]], axis=1)), reading=VALUES)


def test_the_blind_baseline_sees_the_targets() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(400, 3)).astype(np.float32)
    same = rng.normal(size=400)
    splits = as_splits((x[:200], same[:200]), (x[200:], same[200:]), reading=VALUES)
    assert splits.nonmembers is not None
    assert blind_baseline(splits.members, splits.nonmembers).passed
    moved = as_splits((x[:200], same[:200] + 1.5), (x[200:], same[200:]), reading=VALUES)
    assert moved.nonmembers is not None
    found = blind_baseline(moved.members, moved.nonmembers)
    assert not found.passed
    assert "target" in found.message


# Tables in their own form


def test_a_table_comes_back_as_it_was() -> None:
    frame = _frame().drop(columns="income")
    form = OwnForm.fit([frame])
    x = form.transform(frame).astype(np.float32)
    assert form.features == (
        *("age", "wage", "wage is missing", "work=private", "work=self", "work=state", "left"),
        *("size=L", "size=M", "size=S", "kids", "kids is missing"),
    )
    assert form.texts == ("work", "size")
    assert np.isfinite(x).all()
    pd.testing.assert_frame_equal(form.frame(x), frame)


def test_numbers_come_back_with_the_digits_they_were_written_with() -> None:
    values = np.round(np.random.default_rng(3).normal(size=500) * 100, 3)
    frame = pd.DataFrame({"v": values, "w": ["a", "b"] * 250})
    form = OwnForm.fit([frame])
    assert form.frame(form.transform(frame).astype(np.float32))["v"].tolist() == values.tolist()


def test_a_record_between_two_values_is_the_nearest_row() -> None:
    frame = pd.DataFrame({"n": [1, 2, 3], "t": ["a", "b", "a"]})
    found = OwnForm.fit([frame]).frame(np.array([[1.7, 0.4, 0.6], [3.2, 0.3, 0.2]], dtype=np.float32))
    assert found["n"].tolist() == [2, 3]
    assert found["t"].tolist() == ["b", "a"]


def test_values_that_no_member_has_are_the_victims_to_handle() -> None:
    members, others = _frame(), _frame().assign(work="abroad")
    splits = as_splits(members, others, reading=Reading(target="income", encode="own"))
    assert splits.nonmembers is not None
    assert splits.nonmembers.form is not None
    assert set(splits.nonmembers.given()[0]["work"]) == {"abroad"}
    # Of a matrix the members decide, as the training did.
    with pytest.raises(DataError, match="'abroad'"):
        as_splits(
            members[["age", "work", "income"]].dropna(),
            others[["age", "work", "income"]],
            reading=Reading(target="income", encode="onehot"),
        )


def test_missing_values_are_kept_dropped_or_refused() -> None:
    reading = Reading(target="income", encode="own")
    assert len(as_records(_frame(), reading=reading)) == 4
    dropped = as_records(_frame(), reading=Reading(target="income", encode="own", missing="drop"))
    assert dropped.ids == ("1", "3", "4")
    with pytest.raises(DataError, match="1 records have missing values, first in row 2"):
        as_records(_frame(), reading=Reading(target="income", encode="own", missing="error"))
    with pytest.raises(DataError, match="infinite"):
        as_records(_frame().assign(age=[1, 2, np.inf, 3]), reading=reading)


def test_only_a_victim_that_takes_tables_is_given_one_unasked() -> None:
    frame = _frame()
    assert as_splits(frame, target="income", own=True).members.form is not None
    plain = frame[["age", "left", "income"]]
    assert as_splits(plain, target="income", own=True).members.form is None
    with pytest.raises(DataError, match='encode = "own" for a victim that takes the table as it is'):
        as_splits(frame, target="income")


def test_the_form_is_part_of_one_input() -> None:
    splits = as_splits(_frame(), target="income", own=True)
    spec = infer_spec(splits)
    assert spec.form is splits.members.form
    assert spec.features == splits.members.features
    with pytest.raises(DataError, match="leave out the victim's input"):
        as_splits(_frame(), target="income", own=True, spec=InputSpec((3,), modality=Modality.TABLE))


BAD_TABLES = {
    "dates": ({"d": pd.to_datetime(["2020-01-01"] * 4)}, "dates or times"),
    "nested": ({"d": [[1], [2], [3], [4]]}, "holds a list"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_columns(case: str) -> None:
    columns, message = BAD_TABLES[case]
    with pytest.raises(DataError, match=message):
        as_splits(_frame().assign(**columns), target="income", own=True)


def test_columns_that_differ_between_tables() -> None:
    reading = Reading(target="income", encode="own")
    with pytest.raises(DataError, match="'age' holds numbers in one set of records and texts in another"):
        as_splits(_frame(), _frame().assign(age=list("abcd")), reading=reading)
    with pytest.raises(DataError, match="nonmembers: the columns 'age' are missing"):
        as_splits(_frame(), _frame().drop(columns="age"), reading=reading)
    names = [f"somebody {i}" for i in range(120)]
    with pytest.raises(DataError, match="free text"):
        as_splits(pd.DataFrame({"n": names, "y": [0, 1] * 60}), target="y", own=True)


def test_large_whole_numbers_are_told(caplog: pytest.LogCaptureFixture) -> None:
    OwnForm.fit([pd.DataFrame({"phone": [4915112345678, 4915112345679], "t": ["a", "b"]})])
    assert "'phone' holds whole numbers beyond 16777216" in caplog.text


# Recipes


def test_a_recipe_has_a_place_for_a_class_it_does_not_see() -> None:
    from sklearn.tree import DecisionTreeClassifier

    from seepage.audit.training import Trainer

    x, y = RNG.normal(size=(30, 4)).astype(np.float32), np.arange(30) % 3
    records = as_records((x, y))
    lacking = np.nonzero(y != 1)[0]
    spec = infer_spec(records)

    def tree(x: np.ndarray, y: np.ndarray, seed: int) -> DecisionTreeClassifier:
        return DecisionTreeClassifier(random_state=seed).fit(x, y)

    # An estimator says which classes it has seen; the columns of the others are 0.
    answers = Trainer.of(tree).recipe(spec, records, None).fit(lacking, 0).predict(x)
    assert answers.shape == (30, 3)
    assert (answers[:, 1] == 0).all()

    def net(x: np.ndarray, y: np.ndarray, seed: int) -> object:
        import torch

        return torch.nn.Linear(4, int(y.max()) + 1)

    recipe = Trainer.of(net).recipe(spec, records, None)
    assert recipe.fit(np.arange(30), 0).classes == 3
    with pytest.raises(ModelError, match="20 records of 2 of the 3 classes and made a model of 2"):
        recipe.fit(np.nonzero(y != 2)[0], 0)


def test_a_recipe_is_given_targets_and_tables_in_their_own_form() -> None:
    from seepage.audit.training import Trainer

    seen: list[tuple[object, np.ndarray]] = []

    def fit(x: object, y: np.ndarray, seed: int) -> object:
        seen.append((x, y))
        return lambda rows: np.zeros((len(rows), 1))

    frame = _frame().drop(columns="income").assign(price=[1.5, 2.5, 3.5, 4.0])
    records = as_splits(frame, reading=Reading(target="price", task="values", encode="own")).members
    model = Trainer.of(fit).recipe(infer_spec(records), records, None).fit(np.array([2, 0]), 0)
    assert model.task is Task.VALUES
    pd.testing.assert_frame_equal(seen[0][0], frame.drop(columns="price").iloc[[2, 0]].reset_index(drop=True))
    np.testing.assert_array_equal(seen[0][1], [3.5, 1.5])
