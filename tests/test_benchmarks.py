"""Benchmarks run: the smallest mode of those that have one, from the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_update_defenses_are_measured_in_one_run_and_not_twice(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "gradient-defenses" / "run.py"),
        "small",
        "--out",
        str(tmp_path),
    ]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.splitlines()
    found = json.loads(lines[-1])
    rows = found["rows"]
    assert {"none", "check-received", "secure-aggregation cohort=4", "trained: none", "1 record: none"} <= set(rows)
    kinds = ["read off a layer", "searched for", "malicious server", "labels"]
    assert all(list(row["kinds"]) == kinds for row in rows.values())
    # Without a defense records are read off; an imprint reads them too, unless clients look at what they received.
    assert rows["none"]["kinds"]["read off a layer"]["exact"] > 0.9
    assert rows["none"]["kinds"]["malicious server"]["identified"] > 0.9
    assert rows["check-received"]["kinds"]["malicious server"]["identified"] == 0
    # Epsilon is what noise guarantees, and stands at no other defense.
    stated = {name for name, row in rows.items() if "epsilon_of" in row}
    assert stated == {name for name in rows if name.startswith(("gaussian-noise", "dp-sgd"))}
    assert found["epsilon_8_indistinguishable"] is True
    assert found["sums_10_indistinguishable"] is None
    # Every row of the table is printed, and the same command does nothing twice.
    assert sum(line.startswith("| `") for line in lines) == len(rows)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("findings/*.json")}
    again = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.splitlines()
    assert json.loads(again[-1])["rows"] == rows
    assert before
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
