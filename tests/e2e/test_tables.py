"""Tables as they are, numbers and labels: audits from Python and from files, and what is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import BaseEstimator

import seepage as product
from seepage.core.record import AuditRecord
from seepage.data import Reading
from seepage.store.files import read_record

# What a user has beside the audit file.
MINE = """
import torch
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def _pipeline(last):
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    return make_pipeline(make_column_transformer((texts, ["work"]), (SimpleImputer(), ["age", "hours"])), last)


def classify(x, y, seed):
    return _pipeline(RandomForestClassifier(20, random_state=seed)).fit(x, y)


def predict(x, y, seed):
    return _pipeline(RandomForestRegressor(20, random_state=seed)).fit(x, y)


def net(features=5, outputs=2):
    return torch.nn.Sequential(torch.nn.Linear(features, 64), torch.nn.ReLU(), torch.nn.Linear(64, outputs))


def train(x, y, seed, outputs=2, steps=300):
    torch.manual_seed(seed)
    made = net(x.shape[1], outputs)
    rows, wanted = torch.tensor(x) / 50, torch.tensor(y)
    optimiser = torch.optim.Adam(made.parameters(), 0.02)
    for _ in range(steps):
        optimiser.zero_grad()
        answer = made(rows)
        if outputs == 2:
            torch.nn.functional.cross_entropy(answer, wanted).backward()
        else:
            ((answer[:, 0] - wanted.float()) ** 2).mean().backward()
        optimiser.step()
    return made.eval()


class Scaled(torch.nn.Module):
    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, x):
        return self.made(x / 50)


def classify_net(x, y, seed):
    return Scaled(train(x, y, seed))


def scaled_net(features=5, outputs=2):
    return Scaled(net(features, outputs))
"""
TRUST = 'trust_types = ["numpy.dtype", "sklearn.tree._tree.Tree"]\n'
OTHERS = {"income": ["wage", "busy", "old"], "wage": ["income", "busy", "old"], "busy": ["income", "wage"]}


def _people(n: int = 450) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(
        {
            "age": rng.integers(180, 800, n) / 10,
            "hours": np.where(rng.random(n) < 0.1, np.nan, rng.normal(38, 9, n).round(3)),
            "work": rng.choice(["private", "state", "self", None], n, p=[0.5, 0.2, 0.2, 0.1]),
        }
    )
    frame["wage"] = (30 * frame.age + rng.normal(0, 400, n)).round(2)
    return frame.assign(
        income=np.where(frame.wage > 1500, "> 1500", "<= 1500"),
        busy=(frame.hours > 38).astype(int),
        old=((frame.age > 50) ^ (rng.random(n) < 0.2)).astype(int),
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables, code and models, as a user has them."""
    folder = tmp_path_factory.mktemp("mine")
    frame = _people()
    for i, name in enumerate(("train", "test", "public")):
        frame[i::3].to_csv(folder / f"{name}.csv", index=False)
    (folder / "mine_of_tables.py").write_text(MINE)
    sys.path.insert(0, str(folder))
    import mine_of_tables as mine  # pyright: ignore[reportMissingImports]

    # As a user would read it: with pandas.
    train = pd.read_csv(folder / "train.csv")
    x = train[["age", "hours", "work"]]
    skops.io.dump(mine.classify(x, train.income, 0), folder / "classes.skops")
    skops.io.dump(mine.predict(x, train.wage, 0), folder / "values.skops")
    skops.io.dump(mine.classify(x, train[["busy", "old"]].to_numpy(), 0), folder / "labels.skops")
    return folder


def _file(folder: Path, victim: str, data: str, recipe: str = "", more: str = "") -> str:
    path = folder / "audit.toml"
    tables = 'members = "train.csv"\nnonmembers = "test.csv"\npublic = "public.csv"\n'
    path.write_text(
        f"[victim]\n{victim}[data]\n{tables}{data}"
        + (f'[recipe]\nfit = "mine_of_tables:{recipe}"\n' if recipe else "")
        + f'[[attack]]\nname = "threshold"\n{more}[run]\nprocesses = 1\n'
    )
    return str(path)


def _audited(seepage, place: Path, out: Path, *given: str) -> tuple[AuditRecord, Path]:
    done = seepage("audit", _file(place, *given), "--out", str(out))
    assert done.returncode == 0, done.stderr
    (run,) = [path.parent for path in out.glob("*/record.json")]
    return read_record(run), run


def _sound(record: AuditRecord) -> None:
    """A whole finding with all of its controls, on a victim that fits its members."""
    for finding in record.findings:
        assert finding.status == "done", finding.error
        assert finding.score is not None
        assert not finding.score.missing
        assert finding.score.controls["null_model"] is not None
        assert finding.score.controls["no_model"] is not None
        assert finding.score.value is not None
        if finding.attack == "threshold":
            # The others that "auto" takes see labels alone, or little else.
            assert finding.score.value > 0.55
    assert all(check.passed for check in record.checks), [c.message for c in record.checks if not c.passed]
    assert {"victim fits its members", "low false-positive rates", "blind baseline"} <= {c.name for c in record.checks}


def test_a_pipeline_from_a_file(seepage, place: Path, tmp_path: Path) -> None:
    data = f'target = "income"\ndrop = {OTHERS["income"]}\n'
    record, _ = _audited(
        seepage, place, tmp_path, f'kind = "sklearn"\npath = "classes.skops"\n{TRUST}', data, "classify"
    )
    _sound(record)
    assert record.victim["accuracy_members"] == pytest.approx(1.0, abs=0.02)


def test_a_regression_from_a_file(seepage, place: Path, tmp_path: Path) -> None:
    data = f'target = "wage"\ntask = "values"\ndrop = {OTHERS["wage"]}\n'
    more = '[[defense]]\nname = "round"\ndigits = 0\n[[defense]]\nname = "top-k"\n[gate]\nmembership = 0.9\n'
    victim = f'kind = "sklearn"\npath = "values.skops"\n{TRUST}'
    record, run = _audited(seepage, place, tmp_path, victim, data, "predict", more)
    _sound(record)
    assert record.data["task"] == "values"
    assert record.data["values"] == "wage"
    members, others = record.victim["variance_explained_members"], record.victim["variance_explained_nonmembers"]
    assert isinstance(members, float)
    assert isinstance(others, float)
    assert members > others > 0
    assert {(left.attack, left.reason) for left in record.left_out} == {
        ("threshold", "the defense 'top-k' acts on answers of classes; this victim answers values")
    }
    page = (run / "report.md").read_text()
    assert "numbers rounded as coarsely as their use allows" in page
    assert "the label alone" not in page
    assert "an adversary who sees only the numbers the model answers with" in page
    assert "classes and" not in " ".join(record.limits)
    json.loads((run / "record.json").read_text())


def test_labels_from_a_file(seepage, place: Path, tmp_path: Path) -> None:
    data = f'target = ["busy", "old"]\ntask = "labels"\ndrop = {OTHERS["busy"]}\n'
    victim = f'kind = "sklearn"\npath = "labels.skops"\n{TRUST}'
    record, _ = _audited(seepage, place, tmp_path, victim, data, "classify")
    _sound(record)
    assert record.data["labels"] == "busy, old"


def test_a_pipeline_that_the_audit_trains(seepage, place: Path, tmp_path: Path) -> None:
    data = f'target = "income"\nencode = "own"\ndrop = {OTHERS["income"]}\n'
    record, _ = _audited(seepage, place, tmp_path, 'kind = "recipe"\n', data, "classify")
    _sound(record)


def test_a_network_with_a_recipe_from_a_file(seepage, place: Path, tmp_path: Path) -> None:
    """Weights from a file beside the audit file, and the recipe that trains the twin, "module:function"."""
    import torch
    from mine_of_tables import classify_net  # pyright: ignore[reportMissingImports]
    from safetensors.torch import save_file

    from seepage.data import as_splits

    reading = Reading(target="income", encode="onehot", missing="drop", drop=OTHERS["income"])
    splits = as_splits(place / "train.csv", place / "test.csv", reading=reading)
    made = classify_net(splits.members.x, splits.members.labels(), 0)
    save_file(made.state_dict(), place / "net.safetensors")
    data = f'target = "income"\nencode = "onehot"\nmissing = "drop"\ndrop = {OTHERS["income"]}\n'
    victim = 'kind = "torch"\nbuild = "mine_of_tables:scaled_net"\nweights = "net.safetensors"\n'
    record, _ = _audited(seepage, place, tmp_path, victim, data, "classify_net")
    (finding,) = record.findings
    assert finding.status == "done"
    assert finding.score is not None
    assert finding.score.controls["null_model"] is not None
    own = float((made(torch.from_numpy(splits.members.x)).argmax(1).numpy() == splits.members.labels()).mean())
    assert record.victim["accuracy_members"] == pytest.approx(own)


def _split(frame: pd.DataFrame, target: str) -> list[pd.DataFrame]:
    return [frame[i::3].drop(columns=OTHERS[target]) for i in range(3)]


@pytest.mark.parametrize("target", ["income", "wage", "busy"])
def test_from_python(place: Path, tmp_path: Path, target: str) -> None:
    """A live pipeline says itself what it predicts: nothing but the column is to be named."""
    import mine_of_tables as mine  # pyright: ignore[reportMissingImports]

    members, nonmembers, public = _split(_people(), target)
    names = ["busy", "old"] if target == "busy" else target
    fit = mine.predict if target == "wage" else mine.classify
    model: BaseEstimator = fit(members.drop(columns=names), members[names].to_numpy(), 0)
    # Of classes "auto" is a score of attacks, label-only searches among them, and tried elsewhere.
    attacks = ["threshold", "class-threshold", "cma-es"] if target == "income" else "auto"
    given = {"members": members, "nonmembers": nonmembers, "public": public, "target": names, "recipe": fit}
    record = product.audit(model, **given, attacks=attacks, out=tmp_path)
    _sound(record)
    assert {finding.leak.value for finding in record.findings} == {"membership"} or target == "income"
    assert record.data.get("task") == {"income": None, "wage": "values", "busy": "labels"}[target]
    assert record.folder is not None
    again = product.audit(
        model,
        members=(members.drop(columns=names), members[names]),
        nonmembers=(nonmembers.drop(columns=names), nonmembers[names]),
        attacks="threshold",
        out=tmp_path,
    )
    (first,) = [finding for finding in record.findings if finding.attack == "threshold"]
    assert first.score is not None
    assert again.findings[0].score is not None
    assert again.findings[0].score.value == first.score.value


def test_a_function_of_a_table_and_networks_of_numbers(place: Path, tmp_path: Path) -> None:
    import mine_of_tables as mine  # pyright: ignore[reportMissingImports]
    import torch

    members, nonmembers, _ = _split(_people(), "income")
    model = mine.classify(members.drop(columns="income"), members.income, 0)
    record = product.audit(
        model.predict_proba,
        members=members,
        nonmembers=nonmembers,
        reading=Reading(target="income", encode="own"),
        attacks="threshold",
        out=tmp_path,
    )
    assert record.victim["accuracy_members"] == pytest.approx(1.0, abs=0.02)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 5)).astype(np.float32) * 50
    y = x[:, 0] / 50 + rng.normal(size=120)
    net = mine.Scaled(mine.train(x[:60], y[:60], 0, outputs=1))
    found = product.audit(
        net, members=(x[:60], y[:60]), nonmembers=(x[60:], y[60:]), task="values", attacks="threshold", out=tmp_path
    )
    assert isinstance(net, torch.nn.Module)
    assert found.findings[0].score is not None
    assert found.findings[0].score.value is not None
    assert found.findings[0].score.value > 0.6


SKLEARN = f'kind = "sklearn"\npath = "{{}}.skops"\n{TRUST}'
INCOME = f'target = "income"\ndrop = {OTHERS["income"]}\n'
WAGE = f'target = "wage"\ndrop = {OTHERS["wage"]}\n'
NUMBERS = 'encode = "onehot"\nmissing = "drop"\n'
BAD = {
    "no task": ((SKLEARN.format("values"), WAGE), ["holds real numbers", 'say task = "values"']),
    "unknown task": ((SKLEARN.format("values"), 'task = "valeus"\n' + WAGE), ["did you mean 'values'?"]),
    "a classifier for numbers": ((SKLEARN.format("classes"), 'task = "values"\n' + WAGE), ["tells classes apart"]),
    "a regressor for classes": ((SKLEARN.format("values"), INCOME), ["no classes_", 'say task = "values"']),
    "texts as numbers": ((SKLEARN.format("values"), 'task = "values"\n' + INCOME), ["wants one number", "1500"]),
    "two columns, no task": (
        (SKLEARN.format("labels"), f'target = ["busy", "old"]\ndrop = {OTHERS["busy"]}\n'),
        ["names 2 columns", 'task = "labels"'],
    ),
    "wrong target": (
        (SKLEARN.format("classes"), f'target = "incme"\ndrop = {OTHERS["income"]}\n'),
        ["target names the column 'incme': did you mean 'income'?"],
    ),
    "a column too many": (
        (SKLEARN.format("classes"), 'target = "income"\ndrop = ["wage", "busy"]\n'),
        ["fitted on other columns", "old are on one side only", "drop"],
    ),
    "texts for a recipe": (('kind = "recipe"\n', INCOME, "classify"), ["'work'", 'encode = "own"']),
    "a built-in recipe for numbers": (
        ('kind = "recipe"\n', 'task = "values"\n' + NUMBERS + WAGE + '[recipe]\nfit = "mlp"\n'),
        ["the built-in recipe 'mlp' trains classifiers", "a function of your own"],
    ),
    "a built-in recipe for a table": (
        ('kind = "recipe"\n', 'encode = "own"\n' + INCOME + '[recipe]\nfit = "mlp"\n'),
        ["'mlp' takes numbers", 'encode = "onehot"'],
    ),
    "a network for a table": (
        ('kind = "torch"\nbuild = "mine_of_tables:net"\n', 'encode = "own"\n' + INCOME),
        ["takes numbers", "'work'", "choose encode"],
    ),
    "gaps in a matrix": (
        ('kind = "recipe"\n', 'encode = "onehot"\n' + INCOME, "classify_net"),
        ["are missing or infinite", 'missing = "drop"'],
    ),
    "gaps kept in a matrix": (
        ('kind = "recipe"\n', 'encode = "onehot"\nmissing = "keep"\n' + INCOME, "classify_net"),
        ['goes with encode = "own"'],
    ),
    "too few non-members": (
        (SKLEARN.format("classes"), 'nonmembers = "few.csv"\n' + INCOME),
        ["at least 10 non-members, got 4", "1 % takes 100"],
    ),
    "members for non-members": (
        (SKLEARN.format("classes"), 'nonmembers = "train.csv"\n' + INCOME),
        ["150 of 150 non-members are members", 'overlap = "drop"'],
    ),
    "all dropped": (
        (SKLEARN.format("classes"), 'nonmembers = "train.csv"\noverlap = "drop"\n' + INCOME),
        ["every one of the 150 non-members is a member"],
    ),
    "no target in one": ((SKLEARN.format("classes"), 'nonmembers = "bare.csv"\n' + INCOME), ["nonmembers", "'income'"]),
    "labels missing": (
        (SKLEARN.format("classes"), 'nonmembers = "gaps.csv"\n' + INCOME),
        ["nonmembers: 3 labels are missing, first in row 1"],
    ),
    "infinite": ((SKLEARN.format("classes"), 'nonmembers = "infinite.csv"\n' + INCOME), ["'age' is infinite in row 2"]),
    "ids that repeat": ((SKLEARN.format("classes"), 'id = "busy"\n' + INCOME), ["'busy' comes again", "unique"]),
    "an unknown class": (
        (SKLEARN.format("classes"), 'nonmembers = "strange.csv"\n' + INCOME),
        ["nonmembers", "'none'", "not among the 2 known"],
    ),
    "a constant target": (
        (SKLEARN.format("values"), 'task = "values"\nmembers = "constant.csv"\n' + WAGE),
        ["wage is 7 in every record"],
    ),
    "only scores of numbers": (
        (SKLEARN.format("values") + 'access = "weights"\n', 'task = "values"\n' + WAGE),
        ["this victim offers scores"],
    ),
    "inversion of numbers": (
        (SKLEARN.format("values"), 'task = "values"\n' + WAGE, "", '[[attack]]\nname = "nes"\n'),
        ["'nes' cannot run here", "answer classes; this one answers values"],
    ),
    "entropy of numbers": (
        (
            SKLEARN.format("values"),
            'task = "values"\n' + WAGE,
            "",
            '[[attack]]\nname = "threshold"\nstatistic = "entropy"\n',
        ),
        ["'threshold' cannot run here", "only the statistic 'loss'"],
    ),
}


def _spoiled(folder: Path) -> None:
    test = pd.read_csv(folder / "test.csv")
    test[:4].to_csv(folder / "few.csv", index=False)
    test.drop(columns="income").to_csv(folder / "bare.csv", index=False)
    test.assign(income=test.income.where(test.index > 2)).to_csv(folder / "gaps.csv", index=False)
    test.assign(age=np.where(test.index == 1, np.inf, test.age)).to_csv(folder / "infinite.csv", index=False)
    test.assign(income=np.where(test.index == 1, "none", test.income)).to_csv(folder / "strange.csv", index=False)
    pd.read_csv(folder / "train.csv").assign(wage=7.0).to_csv(folder / "constant.csv", index=False)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_message_and_leaves_nothing(case: str, place: Path, tmp_path: Path, seepage) -> None:
    given, words = BAD[case]
    _spoiled(place)
    path = Path(_file(place, *given))
    # A key that is given twice: the later one holds.
    text = path.read_text()
    for key in ("members", "nonmembers"):
        if text.count(f"\n{key} = ") > 1:
            text = text.replace(f"\n{key} = ", "\n# = ", 1)
    path.write_text(text)
    done = seepage("audit", str(path), "--out", str(tmp_path / "runs"))
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("seepage: ") == 1
    said = " ".join(done.stderr.split())
    for word in words:
        assert word in said, said
    assert not list(tmp_path.glob("runs/*/record.json"))


def test_what_is_only_suspicious_is_a_warning(seepage, place: Path, tmp_path: Path) -> None:
    """A class without non-members, a constant column, too few non-members for a rate: said, and gone on with."""
    for name in ("train", "test"):
        frame = pd.read_csv(place / f"{name}.csv").assign(planet="earth")
        kept = frame if name == "train" else frame[frame.income == "> 1500"][:40]
        kept.to_csv(place / f"odd-{name}.csv", index=False)
    data = f'target = "income"\nencode = "own"\ndrop = {OTHERS["income"]}\n'
    path = Path(_file(place, 'kind = "recipe"\n', data, "classify"))
    path.write_text(path.read_text().replace('"train.csv"', '"odd-train.csv"').replace('"test.csv"', '"odd-test.csv"'))
    path.write_text(path.read_text().replace('public = "public.csv"\n', ""))
    done = seepage("audit", str(path), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (run,) = [found.parent for found in tmp_path.glob("*/record.json")]
    failed = {check.name: check.message for check in read_record(run).checks if not check.passed}
    assert "1 without non-members: '<= 1500'" in failed["same classes"]
    assert (
        "40 non-members tell false-positive rates down to 10.00%; a rate of 1.00% takes 100"
        in (failed["low false-positive rates"])
    )
