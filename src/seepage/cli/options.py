"""Options that several commands share."""

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


def run_options(fresh: str, written: str, *, several: bool = True) -> Callable[[Callable[..., Any]], Any]:
    """`--fresh`, `--quiet` and, for what can be spread over them, `--processes`.

    Args:
        fresh: what a fresh start does, for help.
        written: what is named in any case.
        several: whether there are worker processes to choose.
    """

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "--quiet", "-q", is_flag=True, help=f"Print nothing but errors and where the {written} is."
        )(command)
        if several:
            command = click.option("--processes", type=click.IntRange(0), help="Worker processes (0: one a core).")(
                command
            )
        return click.option("--fresh", is_flag=True, help=f"Start anew: {fresh}.")(command)

    return add
