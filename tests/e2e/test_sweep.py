"""`seepage sweep` as a user meets it: whole, killed, interrupted, spread over processes, and where points fail."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from calls import ROOT, command, environment

from seepage.core.errors import SeepageError
from seepage.core.frontier import Frontier
from seepage.report.frontier_write import load_frontier
from seepage.sweep import sweep_file

EXAMPLE = ROOT / "examples" / "federated-frontier.toml"
# The example, made so small that it takes seconds.
SMALL = (
    "sweep.axes={'federated.records'=[1,2],'federated.epochs'=[2],'federated.trained'=[0,3]}",
    "sweep.defense=[{name='gaussian-noise',clip=3.0,multiplier=[0.001,10.0]},{name='secure-aggregation',cohort=3}]",
    "federated.clients=6",
    "sweep.training.rounds=2",
    "sweep.training.clients=3",
    "verdict.tolerance=0.9",
)


def _words(*more: str, small: tuple[str, ...] = SMALL) -> list[str]:
    return [str(EXAMPLE), *more, *(word for one in small for word in ("--set", one))]


def _folder(out: Path) -> Path:
    (found,) = [path for path in out.glob("sweep-*") if path.is_dir()]
    return found


def _comparable(found: Frontier) -> dict[str, Any]:
    """Without what may differ between two runs: times and names of runs."""
    whole = found.model_dump(mode="json")
    for name in ("run", "environment", "advice"):
        whole.pop(name)
    for row in [*whole["rows"], *whole["confirmation"]]:
        row.pop("run")
        for name in ("seconds_a_round", "seconds_ratio"):
            if row["cost"]:
                row["cost"].pop(name)
    return whole


@pytest.fixture(scope="module")
def small(seepage, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The folder of an undisturbed small sweep, and what the terminal said."""
    out = tmp_path_factory.mktemp("sweep")
    done = seepage("sweep", *_words("--out", str(out), "--processes", "1"))
    assert done.returncode == 0, done.stderr
    return _folder(out), done.stdout, done.stderr


def test_the_small_example_gives_a_frontier_and_its_faces(small: tuple[Path, str, str]) -> None:
    folder, said, progress = small
    found = load_frontier(folder)
    # 2 records x 1 epoch x 2 checkpoints, bare, behind two strengths of noise, and in sums.
    assert len(found.rows) == 16
    assert all(row.status == "done" for row in found.rows)
    assert {row.defense_label for row in found.rows} == {
        "none",
        "gaussian-noise clip=3 multiplier=0.001",
        "gaussian-noise clip=3 multiplier=10",
        "secure-aggregation cohort=3",
    }
    for name in ("frontier.html", "frontier.md", "frontier.json"):
        assert str(folder / name) in said
        assert (folder / name).is_file()
    assert found.advice[0].text.split(":")[0] in " ".join(said.split())
    assert "training, records a client = 2" in progress
    assert ".pgm" not in (folder / "frontier.html").read_text()


def test_what_a_setting_gives_away_and_costs_stands_in_its_row(small: tuple[Path, str, str]) -> None:
    found = load_frontier(small[0])
    by = {(row.label, row.defense_label): row for row in found.rows}
    bare = by["records a client = 1, local epochs = 2, steps trained before = 0", "none"]
    assert bare.leaks["record_identified"].value > 0.8
    assert "label_recall" in bare.leaks
    loud = [row for row in found.rows if row.defense_label.endswith("multiplier=10")]
    assert all(row.leaks["record_identified"].value < 0.3 for row in loud)
    for row in found.rows:
        assert row.cost is not None
        assert row.cost.accuracy is not None
        assert row.cost.rounds == 2
        assert row.cost.clients == 3
        sums = row.defense_label.startswith("secure")
        assert row.cost.bytes_a_round == (2 if sums else 1) * (row.cost.bytes_dense or 0)
        if sums or row.defense is None:
            assert row.cost.loss is not None
            assert row.cost.loss.value == 0
        if row in loud:
            # The noise was told the rounds that are trained.
            assert row.cost.dp_rounds == 2
            assert row.cost.dp_epsilon is not None


def test_checkpoints_share_one_training_and_records_of_the_audits_are_there(small: tuple[Path, str, str]) -> None:
    folder, _, _ = small
    found = load_frontier(folder)
    assert len(list((folder / "points").glob("training-*.json"))) == 2 * 4
    assert {axis.role for axis in found.axes if axis.key == "federated.trained"} == {"condition"}
    runs = {row.run for row in found.rows}
    assert len(runs) == 4
    assert all((folder.parent / str(run) / "record.json").is_file() for run in runs)


def test_what_was_recommended_was_audited_again_with_other_clients(small: tuple[Path, str, str]) -> None:
    found = load_frontier(small[0])
    (best,) = [advice for advice in found.advice if advice.kind == "recommended"]
    assert len(found.confirmation) == len(best.rows) == 2
    assert {row.seed for row in found.confirmation} == {8}
    assert {row.defense_label for row in found.confirmation} == {
        row.defense_label for row in found.rows if row.id in best.rows
    }
    assert "Audited again with other clients (seed 8)" in best.text


def test_the_plan_says_what_would_run_and_runs_nothing(seepage, tmp_path: Path, small: tuple[Path, str, str]) -> None:
    done = seepage("plan", *_words("--out", str(tmp_path)))
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "16 points: 2 records a client x 1 local epochs x 2 steps trained before x 4 defenses" in said
    assert "48 cells, 0 there already; 8 federations of 2 rounds to train" in said
    assert not list(tmp_path.glob("*/record.json"))
    assert not list(tmp_path.glob("sweep-*"))
    there = seepage("plan", *_words("--out", str(small[0].parent)))
    assert "48 cells, 48 there already" in " ".join(there.stdout.split())


def test_the_faces_can_be_written_again(seepage, small: tuple[Path, str, str]) -> None:
    folder = small[0]
    page = (folder / "frontier.html").read_bytes()
    (folder / "frontier.html").unlink()
    done = seepage("report", folder.name, "--out", str(folder.parent))
    assert done.returncode == 0, done.stderr
    assert (folder / "frontier.html").read_bytes() == page


def _start(out: Path, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command("sweep", *_words("--out", str(out), *more)),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_points(out: Path, count: int, process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + 240
    while time.monotonic() < until:
        if len(list(out.glob("sweep-*/points/*.json"))) >= count:
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    raise AssertionError(f"no {count} points in time")


@pytest.mark.parametrize("stop", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_stopped_sweep_goes_on_where_it_stood(
    seepage, tmp_path: Path, small: tuple[Path, str, str], stop: signal.Signals
) -> None:
    process = _start(tmp_path, "--processes", "1")
    _wait_for_points(tmp_path, 2, process)
    os.kill(process.pid, stop)
    _, said = process.communicate(timeout=60)
    if stop is signal.SIGINT:
        assert process.returncode == 130, said
        assert "run the same command again" in said
    folder = _folder(tmp_path)
    assert not (folder / "frontier.json").exists()
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("points/*.json")}
    plan = seepage("plan", *_words("--out", str(tmp_path)))
    assert f"an unfinished sweep would be taken up: {folder}" in " ".join(plan.stdout.split())

    done = seepage("sweep", *_words("--out", str(tmp_path), "--processes", "1"))
    assert done.returncode == 0, done.stderr
    assert _folder(tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    found = load_frontier(folder)
    assert found.run.reused == len(stamps)
    assert _comparable(found) == _comparable(load_frontier(small[0]))


@pytest.mark.slow
def test_two_processes_give_the_frontier_of_one(seepage, tmp_path: Path, small: tuple[Path, str, str]) -> None:
    done = seepage("sweep", *_words("--out", str(tmp_path), "--processes", "2"))
    assert done.returncode == 0, done.stderr
    assert _comparable(load_frontier(_folder(tmp_path))) == _comparable(load_frontier(small[0]))


def test_a_finished_sweep_takes_findings_and_trainings_that_are_there(seepage, small: tuple[Path, str, str]) -> None:
    out = small[0].parent
    done = seepage("sweep", *_words("--out", str(out), "--processes", "1", "--quiet"))
    assert done.returncode == 0, done.stderr
    newest = max(out.glob("sweep-*"), key=lambda path: (path / "frontier.json").stat().st_mtime_ns)
    try:
        assert newest != small[0]
        found = load_frontier(newest)
        assert _comparable(found) == _comparable(load_frontier(small[0]))
        # Seconds are part of what was kept: equal only where nothing was trained again.
        assert [row.cost for row in found.rows] == [row.cost for row in load_frontier(small[0]).rows]
        runs = [json.loads((out / str(row.run) / "record.json").read_text())["run"] for row in found.rows]
        assert all(run["cached"] == 12 for run in runs)
    finally:
        for path in sorted(newest.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        newest.rmdir()


def test_points_that_fail_are_rows_with_their_reason(seepage, tmp_path: Path) -> None:
    words = (
        "sweep.axes={'federated.records'=[1,400]}",
        "sweep.defense=[{name='sign'},{name='secure-aggregation',cohort=4}]",
        "federated.clients=6",
        "sweep.training.rounds=1",
    )
    done = seepage("sweep", *_words("--out", str(tmp_path), "--processes", "1", small=words))
    assert done.returncode == 1, done.stderr
    found = load_frontier(_folder(tmp_path))
    assert len(found.rows) == 6
    rows = {(row.setting["federated.records"], row.defense_label): row for row in found.rows}
    for label in ("none", "sign", "secure-aggregation cohort=4"):
        lost = rows[400, label]
        assert lost.status == "failed"
        assert lost.error is not None
        assert "need 2400 members" in lost.error.message
        assert lost.cost is not None
        assert "2400" in lost.cost.missing["accuracy"]
    # A defense that cannot be played takes no other with it.
    assert rows[1, "none"].status == rows[1, "sign"].status == "done"
    sums = rows[1, "secure-aggregation cohort=4"]
    assert sums.status == "failed"
    assert sums.error is not None
    assert "6 clients cannot be cut into cohorts of 4" in sums.error.message
    assert "could not be measured" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.builtin=digit", "did you mean 'digits'"),
        ("federated.clients=5000", "need 5000 members"),
        ("attack=[{name='dager'}]", "nothing can be run: dager: it works on text, not on image$"),
        ("attack=[{name='llg'},{name='dager'}]", "at no point of the sweep can be played: dager: it works on text"),
    ],
)
def test_a_fault_of_the_whole_file_is_told_before_anything_runs(tmp_path: Path, change: str, said: str) -> None:
    with pytest.raises(SeepageError, match=said):
        sweep_file(EXAMPLE, (*SMALL, change), out=tmp_path, processes=1)
    assert not list(tmp_path.iterdir())


def test_a_fault_is_one_sentence_and_exit_code_2(seepage, tmp_path: Path) -> None:
    done = seepage("sweep", *_words("--out", str(tmp_path), small=("sweep.axes={'federated.record'=[1]}",)))
    assert done.returncode == 2
    assert "did you mean 'records'" in done.stderr
    assert "Traceback" not in done.stderr
