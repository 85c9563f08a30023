"""Runs of the command line that several tests look at."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from calls import QUICK, ROOT, command, environment

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def seepage() -> Run:
    """Runs `seepage ARGUMENTS` and returns what it printed and its exit code."""

    def run(*arguments: str, cwd: Path | None = None, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command(*arguments),
            cwd=cwd or ROOT,
            env=environment(**more),
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def quick_run(seepage: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs folder of one undisturbed quick audit in one process."""
    out = tmp_path_factory.mktemp("quick")
    done = seepage("audit", str(QUICK), "--out", str(out), "--processes", "1")
    assert done.returncode == 0, done.stderr
    return out
