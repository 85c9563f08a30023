"""Options that several commands share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def file_and_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """An audit file, `--set` and `--out`."""
    command = click.option(
        "--out", type=click.Path(path_type=Path), help="Folder of the runs (default: [run] out, or 'runs')."
    )(command)
    command = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="A.B=C",
        help="Change one key of the file, as in --set victim.budget=1000 or --set attack.0.steps=50.",
    )(command)
    command = click.option(
        "--trust-pickle",
        is_flag=True,
        help="Load pickled models. A pickle runs code when loaded: only for files you made yourself.",
    )(command)
    return click.argument("file", type=click.Path(path_type=Path))(command)


def out_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--out` alone."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path),
        default=Path("runs"),
        show_default=True,
        help="Folder of the runs.",
    )(command)


def index_url() -> str | None:
    """Where the index lies, when not beside the runs: a database URL in SEEPAGE_INDEX_URL."""
    return os.environ.get("SEEPAGE_INDEX_URL") or None
