"""`seepage rounds FILE`."""

from pathlib import Path

import click

from seepage.cli.options import file_and_settings, run_options


@click.command("rounds")
@file_and_settings
@run_options("use no earlier finding", "table", several=False)
def command(
    file: Path, settings: tuple[str, ...], out: Path | None, trust_pickle: bool, fresh: bool, quiet: bool
) -> None:
    """Audit every update of the recorded run that FILE names: what each client's update of each round gives away.

    Each update has a run and a report of its own; the table is written anew after each, so that it can be stopped,
    and the same command goes on.
    """
    from seepage.audit.rounds import Row, audit_rounds
    from seepage.cli import terminal
    from seepage.cli.bars import Bars
    from seepage.report import write_reports
    from seepage.report.rounds import gave, write_rounds

    console = terminal.console()

    with Bars(quiet, "the recorded run") as bars:

        def told(row: Row) -> None:
            if row.run is not None:
                write_reports(Path(row.run))
            bars.say(f"round {row.round}, client {row.client}: {gave(row.model_dump())}")

        found, place = audit_rounds(
            file,
            settings,
            out=out,
            trust_pickle=trust_pickle,
            fresh=fresh,
            progress=bars.draw,
            began=bars.about,
            told=told,
        )
    written = write_rounds(place)
    if not quiet:
        table = terminal.plain_table()
        for head in ("round", "client", "what it gave away", "by", "what stands in attacks' way"):
            # A node's number has up to 20 digits, which broken over lines nobody reads.
            table.add_column(head, overflow="fold", no_wrap=head == "client")
        for row in found.rows:
            told_row = row.model_dump()
            table.add_row(
                str(row.round), row.client, gave(told_row), row.strongest or "–", ", ".join(row.fails) or "nothing seen"
            )
        console.print()
        console.print(table)
    for name, path in written.items():
        click.echo(f"{name + ':':<8} {path}")
    raise SystemExit(1 if any(row.status == "failed" for row in found.rows) else 0)
