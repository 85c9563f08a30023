"""`seepage sweep FILE`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from seepage.cli.options import file_and_settings, run_options
from seepage.core.frontier import Frontier, Row


@click.command("sweep")
@file_and_settings
@run_options("take up no unfinished sweep, use no earlier result", "frontier")
def command(
    file: Path,
    settings: tuple[str, ...],
    out: Path | None,
    trust_pickle: bool,
    fresh: bool,
    processes: int | None,
    quiet: bool,
) -> None:
    """Audit the federation of FILE at every setting of its [sweep]; write the frontier of leakage and cost.

    Interrupted, the same command goes on where it stood.
    """
    from seepage.cli.bars import Bars
    from seepage.report.frontier_write import write_frontier
    from seepage.sweep import sweep_file

    with Bars(quiet, "the whole sweep") as bars:
        found, folder = sweep_file(
            file,
            settings,
            out=out,
            trust_pickle=trust_pickle,
            fresh=fresh,
            processes=processes,
            progress=bars.listen,
        )
        bars.say("writing the frontier")
        written = write_frontier(folder)
    if not quiet:
        print_frontier(found)
    for kind, path in written.items():
        click.echo(f"{kind + ':':<10} {path}")
    sys.exit(1 if any(row.status == "failed" or row.failed for row in found.rows) else 0)


def print_frontier(found: Frontier) -> None:
    """Advice and table, on standard output."""
    from rich.text import Text

    from seepage.cli import terminal

    console = terminal.console()
    console.print()
    for advice in found.advice:
        console.print(Text(advice.text, style="bold" if advice.kind in ("recommended", "none") else ""))
        console.print()
    table = terminal.plain_table()
    for axis in found.axes:
        table.add_column(axis.title, overflow="fold")
    heads = ("defense", "strongest", "value", "leakage", "at most", "verdict", "accuracy", "kB a round", "ms a round")
    for head in heads:
        table.add_column(
            head, justify="left" if head in ("defense", "strongest", "verdict") else "right", overflow="fold"
        )
    for row in found.rows:
        table.add_row(*[Text(cell) for cell in _cells(row, found)])
    console.print(table)


def _cells(row: Row, found: Frontier) -> Sequence[str]:
    where = [str(row.setting.get(axis.key, "")) for axis in found.axes]
    leak = None if found.measure is None else row.leaks.get(found.measure)
    if leak is None:
        why = row.error.message if row.error is not None else "not measured"
        middle = [f"failed: {why}", "", "", "", "failed"]
    else:
        numbers = [f"{leak.value:.2f}", f"{leak.leakage.value:+.2f}", f"{leak.upper:.2f}"]
        middle = [leak.attack, *numbers, leak.ruling]
    cost = row.cost
    accuracy = "" if cost is None or cost.accuracy is None else f"{cost.accuracy.value:.3f}"
    sent = "" if cost is None or cost.bytes_a_round is None else f"{cost.bytes_a_round / 1000:,.1f}"
    spent = "" if cost is None or cost.seconds_a_round is None else f"{1000 * cost.seconds_a_round:,.1f}"
    return [*where, row.defense_label, *middle, accuracy, sent, spent]


def print_plan(file: Path, settings: Sequence[str], out: Path | None, trust_pickle: bool) -> None:
    """What the sweep of a file would do: points, cells, trainings, and what is there already."""
    from rich.text import Text

    from seepage.cli import terminal
    from seepage.sweep.plan import planned

    told = planned(file, settings, out=out, trust_pickle=trust_pickle)
    console = terminal.console()
    table = terminal.plain_table()
    for head in ("setting", "cells", "there already", "seconds", "state"):
        table.add_column(head, justify="left" if head in ("setting", "state") else "right", overflow="fold")
    for one in told.audits:
        seconds = "?" if one.seconds is None else f"about {one.seconds:.0f}"
        table.add_row(Text(one.label), str(one.cells), str(one.cached), seconds, Text(one.problem or "to run"))
    console.print(table)
    axes = " x ".join(f"{len(axis.values)} {axis.title}" for axis in told.axes) or "1 setting"
    console.print(
        f"\n{told.rows} points: {axes} x {len(told.defenses)} defenses ({', '.join(told.defenses)})\n"
        f"{sum(one.cells for one in told.audits)} cells, {sum(one.cached for one in told.audits)} there already; "
        f"{told.trainings} federations of {told.rounds} rounds to train"
        + ("; what is recommended is then audited again" if told.confirm else ""),
        highlight=False,
    )
    if told.unfinished is not None:
        console.print(f"an unfinished sweep would be taken up: {told.unfinished}", highlight=False)
