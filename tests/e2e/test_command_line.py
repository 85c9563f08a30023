"""Every command, its exit codes, and bad input: one clear message, no traceback, nothing lost."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from calls import QUICK, ROOT, environment

from seepage.core.errors import StoreError
from seepage.store import files
from seepage.store.files import read_record


def _only_run(out: Path) -> Path:
    (run,) = [path for path in out.iterdir() if (path / "record.json").exists()]
    return run


def _one_message(done, *words: str) -> None:
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    said = " ".join(done.stderr.split())
    for word in words:
        assert word in said, said


def test_help_names_every_command_and_loads_no_torch(seepage) -> None:
    done = seepage("--help")
    assert done.returncode == 0
    for name in ("audit", "plan", "list", "show", "report", "compare", "runs", "prior", "doctor"):
        assert name in done.stdout
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv = ['seepage', '--help']\n"
            "from seepage.cli.main import main\n"
            "try: main()\n"
            "except SystemExit: pass\n"
            "print(sorted({'torch', 'numpy', 'pydantic', 'rich'} & set(sys.modules)))",
        ],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    assert loaded.stdout.splitlines()[-1] == "[]"


def test_what_a_run_leaves_behind(quick_run: Path) -> None:
    run = _only_run(quick_run)
    for name in ("audit.toml", "plan.json", "record.json", "report.html", "report.md", "log.jsonl"):
        assert (run / name).is_file(), name
    assert (run / "audit.toml").read_text() == QUICK.read_text()
    for private in [*run.glob("arrays/*.npz"), *quick_run.glob("models/*")]:
        assert private.stat().st_mode & 0o777 == 0o600, private
    record = json.loads((run / "record.json").read_text())
    jsonschema.validate(record, json.loads((ROOT / "schema" / "record.schema.json").read_text()))
    assert {f["id"] for f in record["findings"]} == {path.stem for path in run.glob("findings/*.json")}
    assert "NaN" not in (run / "record.json").read_text()


def test_findings_respect_access_and_budget(quick_run: Path) -> None:
    record = read_record(_only_run(quick_run))
    for finding in record.findings:
        assert finding.status == "done"
        assert finding.budget is not None
        assert 0 < finding.queries <= finding.budget
        if finding.defenses:
            assert not {"weights", "logits", "embeddings"} & set(finding.access)
        if finding.attack == "nes":
            assert set(finding.queries_by_access) == {"scores"}
    left = {(found.attack, bool(found.defenses)) for found in record.left_out}
    assert left == {("latent", True)}


def test_plan_shows_costs_and_what_is_cached(quick_run: Path, seepage) -> None:
    done = seepage("plan", str(QUICK), "--out", str(quick_run))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cached") == 5
    assert "at most 0 queries" in done.stdout
    fresh = seepage("plan", str(QUICK), "--out", str(quick_run), "--set", "attack.1.queries_per_class=200")
    assert fresh.stdout.count("cached") == 3
    assert "left out: latent behind round" in " ".join(fresh.stdout.split())


@pytest.mark.parametrize("kind", ["attacks", "defenses", "leaks", "data", "recipes"])
def test_list(kind: str, seepage) -> None:
    done = seepage("list", kind)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 1


@pytest.mark.parametrize("name", ["mi-face", "latent", "nes", "threshold", "round", "att-faces", "cnn"])
def test_show(name: str, seepage) -> None:
    done = seepage("show", name)
    assert done.returncode == 0, done.stderr
    assert name in done.stdout


def test_runs_report_compare_doctor(quick_run: Path, seepage, tmp_path: Path) -> None:
    run = _only_run(quick_run)
    assert run.name in seepage("runs", "--out", str(quick_run)).stdout
    assert "1 runs found" in seepage("runs", "--out", str(quick_run), "--rebuild").stdout
    done = seepage("report", "latest", "--out", str(quick_run))
    assert done.returncode == 0, done.stderr
    assert str(run / "report.html") in done.stdout
    page = tmp_path / "compare.html"
    done = seepage("compare", str(run), run.name, "--out", str(quick_run), "--html", str(page))
    assert done.returncode == 0, done.stderr
    assert page.is_file()
    done = seepage("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "torch" in done.stdout


def test_a_gate_that_is_crossed_exits_with_3(quick_run: Path, tmp_path: Path, seepage) -> None:
    done = seepage("audit", str(QUICK), "--out", str(quick_run), "--fail-on", "inversion=0.01", "-q")
    again = max(path for path in quick_run.iterdir() if (path / "record.json").exists())
    record = read_record(again)
    try:
        assert done.returncode == 3, done.stderr
        assert [gate.passed for gate in record.gates] == [False]
        assert record.run.cached == len(record.findings)
    finally:
        for path in sorted(again.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        again.rmdir()


def test_an_attack_that_fails_is_a_finding_and_exits_with_1(tmp_path: Path, seepage) -> None:
    (tmp_path / "answers.py").write_text(
        "import numpy as np\n"
        "asked = []\n"
        "def scores(x):\n"
        "    asked.append(len(x))\n"
        "    if sum(asked) > 2000:\n"
        "        raise RuntimeError('the machine room is flooded')\n"
        "    e = np.exp(x.reshape(len(x), -1)[:, :5])\n"
        "    return e / e.sum(axis=1, keepdims=True)\n"
    )
    (tmp_path / "audit.toml").write_text(
        "seed = 1\n[victim]\nkind = 'callable'\nfn = 'answers:scores'\nbudget = 4000\n"
        "[data]\nbuiltin = 'digits'\nprivate = 5\nmembers_per_class = 20\n"
        "[[attack]]\nname = 'nes'\nqueries_per_class = 700\n[[attack]]\nname = 'threshold'\n"
        "[run]\nprocesses = 1\n"
    )
    done = seepage("audit", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "runs"))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    record = read_record(_only_run(tmp_path / "runs"))
    failed = [finding for finding in record.findings if finding.status == "failed"]
    assert failed
    for finding in failed:
        assert finding.scores == {}
        assert finding.error is not None
        assert "flooded" in finding.error.message
    assert (_only_run(tmp_path / "runs") / "report.html").is_file()


BAD_FILES = {
    "unknown attack": ("[[attack]]\nname = 'latnt'", ["unknown attack 'latnt'", "did you mean 'latent'?"]),
    "unknown parameter": ("[[attack]]\nname = 'latent'\nstpes = 3", ["stpes", "did you mean 'steps'?"]),
    "parameter out of range": ("[[attack]]\nname = 'latent'\nsteps = 0", ["steps", "greater than or equal to 1"]),
    "unknown table": ("[vicitm]\nkind = 'torch'", ["vicitm", "did you mean 'victim'?"]),
    "unknown defense": ("[[defense]]\nname = 'rond'", ["unknown defense 'rond'", "did you mean 'round'?"]),
    "gate out of range": ("[gate]\ninversion = 7", ["between 0 and 1"]),
    "unknown leak": ("[gate]\ninvertion = 0.1", ["gate", "invertion"]),
    "unknown verdict key": ("[verdict]\ntolerence = 0.1", ["did you mean 'tolerance'?"]),
    "negative budget": ("[[attack]]\nname = 'nes'\nbudget = -4", ["budget"]),
    "budget too small": ("[[attack]]\nname = 'nes'\nbudget = 7", ["nes", "queries at the least"]),
}
BASE = """
[victim]
kind = 'recipe'
access = 'weights'
[data]
builtin = 'digits'
private = 5
[recipe]
fit = 'softmax'
"""


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_audit_files(case: str, tmp_path: Path, seepage) -> None:
    text, words = BAD_FILES[case]
    (tmp_path / "audit.toml").write_text(BASE + text + "\n")
    _one_message(seepage("audit", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "runs")), *words)
    assert not (tmp_path / "runs").exists()


BAD_SETTINGS = {
    "no file": (["audit", "nowhere.toml"], ["no audit file at nowhere.toml"]),
    "no value": (["audit", str(QUICK), "--set", "seed"], ["key=value"]),
    "unknown key": (["audit", str(QUICK), "--set", "victim.budgt=3", "--set", "victim.kind='recipe'"], ["budgt"]),
    "no such entry": (["audit", str(QUICK), "--set", "attack.9.steps=3"], ["0 to 2"]),
    "unknown data": (["audit", str(QUICK), "--set", "data.builtin='digts'"], ["did you mean 'digits'?"]),
    "unknown recipe": (["audit", str(QUICK), "--set", "recipe.fit='sofmax'"], ["did you mean 'softmax'?"]),
    "unknown recipe option": (["audit", str(QUICK), "--set", "recipe.options={epoch=1}"], ["did you mean 'epochs'?"]),
    "access too small": (["audit", str(QUICK), "--set", "victim.access='labels'"], ["cannot run here"]),
    "unknown access": (["audit", str(QUICK), "--set", "victim.access='wights'"], ["victim.access"]),
    "a single class": (["audit", str(QUICK), "--set", "data.private=1"], ["2 to 10"]),
    "unknown command": (["adit"], ["did you mean 'audit'?"]),
    "unknown name": (["show", "latnt"], ["did you mean 'latent'?"]),
    "no run": (["report", "latest", "--out", "no-such-folder"], ["no finished run"]),
    "gate": (["audit", str(QUICK), "--fail-on", "invrsion"], ["did you mean 'inversion'?"]),
    "gate threshold": (["audit", str(QUICK), "--fail-on", "inversion=much"], ["a number between 0 and 1"]),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_calls(case: str, seepage, tmp_path: Path) -> None:
    arguments, words = BAD_SETTINGS[case]
    if arguments[0] == "audit":
        arguments = [*arguments, "--out", str(tmp_path / "runs")]
    _one_message(seepage(*arguments), *words)


def test_not_toml(tmp_path: Path, seepage) -> None:
    (tmp_path / "audit.toml").write_text("seed = \n")
    _one_message(seepage("audit", str(tmp_path / "audit.toml")), "is not TOML", "line 1")


def test_a_file_where_the_run_folder_should_be(tmp_path: Path, seepage) -> None:
    (tmp_path / "runs").write_text("a file")
    _one_message(seepage("audit", str(QUICK), "--out", str(tmp_path / "runs")), "--out")


def test_a_full_disk_is_told_and_loses_nothing(seepage) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with (
        pytest.raises(StoreError, match="disk is full"),
        files._explained(Path("x"), "cannot write"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")


def test_a_pickle_without_trust_is_refused(tmp_path: Path, seepage) -> None:
    import pickle

    from sklearn.dummy import DummyClassifier

    (tmp_path / "model.pkl").write_bytes(pickle.dumps(DummyClassifier().fit([[0.0]] * 2, [0, 1])))
    (tmp_path / "audit.toml").write_text(
        "[victim]\nkind = 'sklearn'\npath = 'model.pkl'\n[data]\nbuiltin = 'digits'\nprivate = 2\n"
    )
    _one_message(seepage("audit", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "runs")), "--trust-pickle")


def test_class_counts_that_differ(tmp_path: Path, seepage) -> None:
    (tmp_path / "three.py").write_text("import numpy as np\ndef three(x):\n    return np.full((len(x), 3), 1 / 3)\n")
    (tmp_path / "audit.toml").write_text(
        "[victim]\nkind = 'callable'\nfn = 'three:three'\nclasses = 3\n[data]\nbuiltin = 'digits'\nprivate = 5\n"
    )
    done = seepage("audit", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "runs"))
    _one_message(done, "3 classes", "5")
