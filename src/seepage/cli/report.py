"""`seepage report RUN`."""

from pathlib import Path

import click

from seepage.cli.options import out_option


@click.command("report")
@click.argument("run", default="latest")
@out_option
@click.option("--show-records", is_flag=True, help="Put real and recovered records into the report.")
def command(run: str, out: Path, show_records: bool) -> None:
    """Write report.html and report.md of RUN (a folder, an id, or 'latest') again; of a sweep its frontier."""
    from seepage.report import write_reports
    from seepage.store.files import find_run, read_record

    sweep = next((place for place in (Path(run), out / run) if (place / "frontier.json").is_file()), None)
    if sweep is not None:
        from seepage.report.frontier_write import write_frontier

        for kind, path in write_frontier(sweep).items():
            click.echo(f"{kind + ':':<10} {path}")
        return
    folder = find_run(run, out)
    folder = folder.parent if folder.is_file() else folder
    read_record(folder)
    for kind, path in write_reports(folder, show_records=show_records).items():
        click.echo(f"{kind + ':':<8} {path}")
