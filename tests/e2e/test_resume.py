"""Killed, interrupted, resumed, repeated, spread over processes: the record stays the same."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from calls import QUICK, ROOT, command, environment

from seepage.store.files import RunFolder, read_record


def _only_run(out: Path) -> Path:
    runs = [path for path in out.iterdir() if (path / "plan.json").exists()]
    assert len(runs) == 1, runs
    return runs[0]


def _comparable(out: Path) -> dict[str, object]:
    return read_record(_only_run(out)).comparable()


def _start(out: Path, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command("audit", str(QUICK), "--out", str(out), *more),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_findings(out: Path, count: int, process: "subprocess.Popen[str]") -> list[str]:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        found = sorted(path.name for path in out.glob("*/findings/*.json"))
        if len(found) >= count:
            return found
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    raise AssertionError(f"no {count} findings in time")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_killed_audit_goes_on_where_it_stood(tmp_path: Path, quick_run: Path, seepage, processes: str) -> None:
    process = _start(tmp_path, "--processes", processes)
    before = _wait_for_findings(tmp_path, 1, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    run = _only_run(tmp_path)
    assert not (run / "record.json").exists()
    if processes == "2":
        time.sleep(1.5)  # Orphaned workers look for their parent twice a second, and end.
    kept = sorted(path.name for path in run.glob("findings/*.json"))
    stamps = {name: (run / "findings" / name).stat().st_mtime_ns for name in kept}
    assert set(before) <= set(kept)

    done = seepage("audit", str(QUICK), "--out", str(tmp_path), "--processes", processes)
    assert done.returncode == 0, done.stderr
    assert _only_run(tmp_path) == run
    assert _comparable(tmp_path) == _comparable(quick_run)
    # Nothing that was there has been done again.
    assert {name: (run / "findings" / name).stat().st_mtime_ns for name in kept} == stamps
    assert read_record(run).run.resumed == 1


def test_ctrl_c_keeps_what_is_finished_and_exits_with_130(tmp_path: Path, quick_run: Path, seepage) -> None:
    process = _start(tmp_path, "--processes", "2")
    _wait_for_findings(tmp_path, 1, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert seepage("audit", str(QUICK), "--out", str(tmp_path)).returncode == 0
    assert _comparable(tmp_path) == _comparable(quick_run)


def test_two_processes_give_the_record_of_one(tmp_path: Path, quick_run: Path, seepage) -> None:
    assert seepage("audit", str(QUICK), "--out", str(tmp_path), "--processes", "2").returncode == 0
    assert _comparable(tmp_path) == _comparable(quick_run)


def test_another_seed_gives_another_record(tmp_path: Path, quick_run: Path, seepage) -> None:
    out = str(tmp_path)
    assert seepage("audit", str(QUICK), "--out", out, "--processes", "1", "--set", "seed=4").returncode == 0
    mine, theirs = _comparable(tmp_path), _comparable(quick_run)
    assert mine["findings"] != theirs["findings"]


def test_a_finished_audit_is_not_done_again(tmp_path: Path, quick_run: Path, seepage) -> None:
    again = seepage("audit", str(QUICK), "--out", str(quick_run))
    assert again.returncode == 0, again.stderr
    runs = sorted(path for path in quick_run.iterdir() if (path / "record.json").exists())
    try:
        assert len(runs) == 2
        first, second = (read_record(path) for path in runs)
        assert second.run.cached == len(second.findings) == len(first.findings)
        assert second.comparable() == first.comparable()
        assert "already there" in again.stderr
    finally:
        # Other tests look at the one run there was.
        for path in sorted(runs[1].rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        runs[1].rmdir()


def test_two_audits_cannot_write_one_run(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "0123456789abcdef")
    from seepage.core.errors import StoreError

    with folder.locked(), pytest.raises(StoreError, match="another audit"), RunFolder(folder.path).locked():
        pass


def test_log_tells_what_happened(quick_run: Path) -> None:
    lines = (_only_run(quick_run) / "log.jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert events[0] == "started"
    assert events[-1] == "finished"
