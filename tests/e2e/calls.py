"""Where things are and how the command line is called, for the tests of this folder."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
QUICK = HERE / "quick.toml"


def command(*arguments: str) -> list[str]:
    """`seepage` of the interpreter that runs the tests."""
    return [sys.executable, "-m", "seepage.cli.main", *arguments]


def environment(**more: str) -> Mapping[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160", **more}
