"""Canaries: written into data with a manifest, found again in an audit, inserted where the victim is trained here."""

import json
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.tree import DecisionTreeClassifier

import seepage
from seepage.audit.api import audit_file
from seepage.audit.canaries import read_manifest
from seepage.cli.corpus import command
from seepage.cli.summary import exit_code
from seepage.core.canaries import Canaries
from seepage.core.errors import ConfigError, DataError
from seepage.core.record import AuditRecord
from seepage.core.records import Records
from seepage.data import Reading, as_splits
from seepage.data.canaries import canaries_of, without_canaries

SEED = 5


def table(n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 5)).round(3), columns=list("abcde"))
    frame["colour"] = rng.choice(["red", "green", "deep blue"], n)
    frame["count"] = rng.integers(0, 9, n)
    frame["name"] = [f"p{i}" for i in range(n)]
    frame["class"] = np.where(frame.a + frame.b > 0, "high", "low")
    return frame


def write(form: str, folder: Path) -> Path:
    rng = np.random.default_rng(0)
    if form in ("csv", "csv.gz", "tsv", "parquet"):
        path = folder / f"data.{form}"
        frame = table()
        if form == "parquet":
            frame.to_parquet(path, index=False)
        else:
            frame.to_csv(path, index=False, sep="\t" if form == "tsv" else ",")
        return path
    x, y = rng.random((300, 1, 6, 6)).astype(np.float32), rng.integers(3, size=300)
    if form == "npz":
        np.savez(folder / "data.npz", x=x, y=y, ids=np.array([f"r{i}" for i in range(300)]))
        return folder / "data.npz"
    for i, (picture, c) in enumerate(zip(x, y, strict=True)):
        place = folder / "data" / f"c{c}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((picture[0] * 255).astype(np.uint8)).save(place / f"{i}.png")
    return folder / "data"


def seepage_corpus(*arguments: object):
    return CliRunner().invoke(command, ["canaries", *map(str, arguments)])


def made(form: str, folder: Path, *more: object, kind: str = "mislabelled") -> tuple[Path, Path]:
    data = write(form, folder)
    out = folder / f"with{data.name.removeprefix('data')}"
    named = ("--target", "class", "--id", "name") if form not in ("npz", "pictures") else ()
    arguments = (data, "--out", out, "--manifest", folder / "c.json", "--count", 120, "--seed", SEED, "--kind", kind)
    done = seepage_corpus(*arguments, *named, *more)
    assert done.exit_code == 0, done.output + str(done.exception)
    return out, folder / "c.json"


def reading(form: str) -> Reading:
    if form in ("npz", "pictures"):
        return Reading()
    return Reading(target="class", id="name", encode="onehot")


@pytest.mark.parametrize("kind", ["mislabelled", "random"])
@pytest.mark.parametrize("form", ["csv", "csv.gz", "tsv", "parquet", "npz", "pictures"])
def test_a_model_trained_on_what_was_written_is_audited_by_the_manifest(form: str, kind: str, tmp_path: Path) -> None:
    """The whole way round: a tree that learns its data by heart gives away which canaries were in it."""
    out, manifest = made(form, tmp_path, kind=kind)
    members = as_splits(out, reading=reading(form)).members
    told = read_manifest(manifest)
    included = sum(canary.included for canary in told.canaries)
    assert len(told.canaries) == 120
    assert 40 < included < 80
    assert len(members) == told.data.records == (180 if kind == "mislabelled" else 300) + included
    flat = members.x.reshape(len(members), -1)
    tree = DecisionTreeClassifier(random_state=0).fit(flat, members.y)
    record = seepage.audit(
        lambda x: tree.predict_proba(x.reshape(len(x), -1)),
        members=out,
        reading=reading(form),
        canaries=manifest,
        claim=0.5,
        attacks="threshold",
        classes=len(members.class_names),
        out=tmp_path / "runs",
    )
    assert record.data["members"] == (180 if kind == "mislabelled" else 300)
    assert record.epsilon is not None
    assert record.epsilon.included == included
    assert record.epsilon.standing == "violated", record.epsilon.message
    assert exit_code(record) == 3
    (left,) = record.left_out
    assert "non-members" in left.reason


def test_manifest_and_records_are_the_auditors_alone_and_say_what_was_done(tmp_path: Path) -> None:
    _, manifest = made("csv", tmp_path)
    records = tmp_path / "c.records.csv"
    for place in (manifest, records):
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
    told = read_manifest(manifest)
    assert (told.kind, told.seed, told.target, told.source.records) == ("mislabelled", SEED, "class", 300)
    held, source = pd.read_csv(records), table()
    assert len(held) == 120
    assert not set(held["name"]) & set(source["name"])
    true = source.merge(held, on=[*"abcde", "colour", "count"], suffixes=("", "_canary"))
    assert len(true) == 120
    assert (true["class"] != true["class_canary"]).all()


def test_the_same_seed_makes_the_same_canaries_and_another_does_not(tmp_path: Path) -> None:
    coins = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        folder = tmp_path / name
        folder.mkdir()
        out, manifest = made("npz", folder, "--seed", seed)
        coins.append((out.read_bytes(), [canary.included for canary in read_manifest(manifest).canaries]))
    assert coins[0] == coins[1]
    assert coins[0][1] != coins[2][1]


def test_other_records_are_made_canaries_and_the_data_stays_whole(tmp_path: Path) -> None:
    other = table(500).iloc[300:]
    other.to_csv(tmp_path / "other.csv", index=False)
    out, manifest = made("csv", tmp_path, "--from", tmp_path / "other.csv")
    included = sum(canary.included for canary in read_manifest(manifest).canaries)
    assert len(pd.read_csv(out)) == 300 + included


def test_coins_are_fair_and_independent_of_the_class() -> None:
    rng = np.random.default_rng(0)
    records = Records(rng.random((4000, 3)).astype(np.float32), rng.integers(2, size=4000))
    canaries, rest = canaries_of(records, "mislabelled", 2000, 1)
    assert len(rest) == 2000
    # Four standard deviations.
    assert abs(canaries.included.mean() - 0.5) < 4 * 0.5 / np.sqrt(2000)
    first = canaries.included[canaries.records.y == 0].mean()
    assert abs(first - 0.5) < 4 * 0.5 / np.sqrt(1000)


def test_bad_input_is_one_message(tmp_path: Path) -> None:
    data = write("csv", tmp_path)

    def refused(*arguments: object) -> str:
        done = seepage_corpus(*arguments)
        assert done.exit_code != 0
        assert done.exception is not None
        return str(done.exception)

    there = tmp_path / "there.csv"
    there.write_text("x")
    named = ("--manifest", tmp_path / "m.json", "--target", "class")
    assert "is there already" in refused(data, "--out", there, *named)
    assert there.read_text() == "x"
    assert "did you mean 'class'" in refused(data, "--out", tmp_path / "o.csv", *named, "--target", "clas")
    assert "--target" in refused(data, "--out", tmp_path / "o.csv", "--manifest", tmp_path / "m.json")
    assert "150 at the most" in refused(data, "--out", tmp_path / "o.csv", *named, "--count", 1000)
    assert "at least 20" in refused(data, "--out", tmp_path / "o.csv", *named, "--count", 3)
    assert "end in .csv" in refused(data, "--out", tmp_path / "o.parquet", *named)
    assert "no file or folder" in refused(tmp_path / "no.csv", "--out", tmp_path / "o.csv", *named)
    assert "is no table" in refused(tmp_path / "no.xyz", "--out", tmp_path / "o.csv", *named)
    assert not (tmp_path / "m.json").exists()
    assert not (tmp_path / "o.csv").exists()


def test_data_without_its_canaries_and_a_changed_manifest_are_refused(tmp_path: Path) -> None:
    out, manifest = made("npz", tmp_path)

    def audited(**changed: object) -> str:
        given = {"members": out, "canaries": manifest} | changed
        with pytest.raises((ConfigError, DataError)) as caught:
            seepage.audit(
                lambda x: np.full((len(x), 3), 1 / 3), attacks="threshold", out=tmp_path / "runs", classes=3, **given
            )
        return str(caught.value)

    assert "included canaries are not among" in audited(members=tmp_path / "data.npz")
    assert "no manifest at" in audited(canaries=tmp_path / "none.json")
    assert "claim: epsilon" in audited(claim={"epsilon": -1})
    assert "did you mean 'delta'" in audited(claim={"epsilon": 1, "detla": 0.1})
    assert "there are none" in audited(canaries=None, claim=1.0)
    assert "corpus canaries" in audited(canaries={"count": 60})
    records = tmp_path / "c.records.npz"
    whole = records.read_bytes()
    records.write_bytes(whole + b" ")
    assert "not what it was" in audited()
    records.unlink()
    assert "should lie beside it" in audited()
    records.write_bytes(whole)
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "schema_version": "9"}))
    assert "version 9" in audited()
    manifest.write_text(json.dumps({**content, "kind": 3}))
    assert "damaged: kind" in audited()
    manifest.write_text("{")
    assert "cannot be read as JSON" in audited()
    manifest.write_text("[]")
    assert "no manifest of" in audited()


def test_a_canary_that_equals_another_record_takes_no_part_whatever_its_coin() -> None:
    rng = np.random.default_rng(1)
    records = Records(rng.random((200, 3)).astype(np.float32), rng.integers(2, size=200))
    canaries, rest = canaries_of(records, "mislabelled", 60, 1)
    inside, outside = (int(np.nonzero(canaries.included == coin)[0][0]) for coin in (True, False))
    data = rest.joined(canaries.inserted).joined(canaries.records[[inside, outside]])
    members, alone = without_canaries(data, canaries)
    assert len(alone) == 58
    assert len(members) == len(rest)
    assert "2 canaries equal other records" in alone.notes[-1]


def audit_toml(folder: Path, **tables: str) -> Path:
    rng = np.random.default_rng(0)
    # Classes at random, and more columns than records: what is known of a record is known by heart.
    np.savez(folder / "m.npz", x=rng.random((500, 400)).astype(np.float32), y=rng.integers(2, size=500))
    text = {
        "victim": 'kind = "recipe"\naccess = "weights"',
        "data": 'members = "m.npz"',
        "recipe": 'fit = "softmax"\noptions = { rate = 0.03 }',
        "canaries": "count = 200",
        "claim": "epsilon = 0.01",
        **tables,
    }
    body = "\n".join(f"[{name}]\n{content}" for name, content in text.items() if content)
    (folder / "a.toml").write_text(body + '\n[[attack]]\nname = "threshold"\n[run]\nprocesses = 1\n')
    return folder / "a.toml"


def played(path: Path) -> AuditRecord:
    return audit_file(path, out=path.parent / "runs")[0]


def test_canaries_are_inserted_where_the_recipe_trains_the_victim(tmp_path: Path) -> None:
    record = played(audit_toml(tmp_path))
    assert record.data["members"] == 300
    assert record.epsilon is not None
    assert record.epsilon.canaries == 200
    assert record.epsilon.standing == "violated"
    (finding,) = record.findings
    assert (finding.case, finding.headline) == ("canaries", "epsilon_lower_bound")
    assert finding.scores["auc"].value is not None
    assert finding.scores["auc"].value > 0.6
    # Canaries say nothing of how exposed ordinary members are.
    assert record.verdicts == {}


def test_a_claim_out_of_reach_is_not_informative_and_says_how_many_canaries_would_be(tmp_path: Path) -> None:
    record = played(audit_toml(tmp_path, claim="epsilon = 5.0"))
    assert record.epsilon is not None
    assert record.epsilon.standing == "not informative"
    assert record.epsilon.wanted is not None
    assert record.epsilon.wanted > 200
    assert f"{record.epsilon.wanted:,} canaries or more" in record.epsilon.message
    assert exit_code(record) == 0


def test_an_attack_named_beforehand_decides_alone_and_several_are_corrected(tmp_path: Path) -> None:
    path = audit_toml(tmp_path, claim="epsilon = 0.01")
    with path.open("a") as file:
        file.write('[[attack]]\nname = "threshold"\nstatistic = "modified-entropy"\n')
    both = played(path).epsilon
    assert both is not None
    assert both.tried == 2
    assert both.each_at == pytest.approx(0.975)
    assert all(one.bound is not None and one.bound < one.alone for one in both.bounds)
    path = audit_toml(tmp_path, claim='epsilon = 0.01\nattack = "gradient-canaries"')
    none = played(path).epsilon
    assert none is not None
    assert none.standing == "not informative"


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"canaries": ""}, "is held against canaries"),
        ({"canaries": 'count = 50\nmanifest = "m.json"'}, "one of the two"),
        ({"canaries": "count = 5"}, "greater than or equal to 20"),
        ({"claim": "epsilon = -1"}, "greater than or equal to 0"),
        ({"claim": "epsilon = 1\ndelta = 2"}, "less than 1"),
        ({"claim": 'epsilon = 1\ndelta = 0\nfamily = "gaussian"'}, "delta above 0"),
        ({"canaries": 'count = 50\nkind = "gradient"'}, "put into the steps of DP-SGD"),
        ({"victim": 'kind = "callable"\nfn = "numpy:abs"'}, "seepage corpus canaries"),
    ],
)
def test_an_audit_file_is_told_what_is_wrong_with_it(tables: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        played(audit_toml(tmp_path, **tables))


def test_canaries_of_one_s_own_are_played_from_python(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((300, 4)).astype(np.float32), rng.integers(2, size=300)
    records = Records(x, y, ("0", "1"))
    coins = rng.random(100) < 0.5
    canaries = Canaries(records[np.arange(100)], coins, "own", 1)
    trained = np.concatenate([np.nonzero(coins)[0], np.arange(100, 300)])
    tree = DecisionTreeClassifier(random_state=0).fit(x[trained], y[trained])
    record = seepage.audit(
        tree.predict_proba,
        members=(x[100:], y[100:]),
        canaries=canaries,
        claim={"epsilon": 0.2},
        attacks="threshold",
        classes=2,
        out=tmp_path,
    )
    assert record.epsilon is not None
    assert record.epsilon.standing == "violated"
