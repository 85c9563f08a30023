"""`seepage audit FILE`."""

import sys
from pathlib import Path

import click

from seepage.cli.options import file_and_settings, run_options


@click.command("audit")
@file_and_settings
@run_options("take up no unfinished run, use no earlier finding", "report")
@click.option(
    "--fail-on",
    multiple=True,
    metavar="LEAK[=X]",
    help="Exit with 3 when the upper bound of a leak's leakage is above X, or, without X, when it leaks.",
)
@click.option(
    "--show-records/--hide-records",
    default=None,
    help="Put real and recovered records into the report (default: [report] show_records).",
)
def command(
    file: Path,
    settings: tuple[str, ...],
    out: Path | None,
    trust_pickle: bool,
    fresh: bool,
    processes: int | None,
    fail_on: tuple[str, ...],
    show_records: bool | None,
    quiet: bool,
) -> None:
    """Attack the victim that FILE describes; write the record and a report."""
    from seepage.cli.bars import Bars
    from seepage.cli.summary import crossed, exit_code, parse_fail_on, print_summary

    gates, forbidden = parse_fail_on(fail_on)
    from seepage.audit.api import audit_file
    from seepage.report import write_reports

    more = [f"gate.{leak}={threshold}" for leak, threshold in gates.items()]
    with Bars(quiet) as bars:
        record, config = audit_file(
            file,
            [*settings, *more],
            out=out,
            trust_pickle=trust_pickle,
            fresh=fresh,
            processes=processes,
            progress=bars.listen,
        )
        bars.say("writing the report")
        shown = config.report.show_records if show_records is None else show_records
        written = write_reports(Path(record.folder or "."), show_records=shown)
    print_summary(record, written, quiet)
    if record.epsilon is not None and record.epsilon.standing == "violated":
        click.echo(f"CLAIM VIOLATED: {record.epsilon.message}", err=True)
    for reason in crossed(record, forbidden):
        click.echo(f"GATE CROSSED: {reason}", err=True)
    sys.exit(exit_code(record, forbidden))
