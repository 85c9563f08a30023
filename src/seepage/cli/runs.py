"""`seepage runs`."""

from pathlib import Path

import click

from seepage.cli.options import out_option


@click.command("runs")
@out_option
@click.option("--rebuild", is_flag=True, help="Make the index anew from the run folders first.")
def command(out: Path, rebuild: bool) -> None:
    """List the runs, latest first."""
    from rich.text import Text

    from seepage.cli import terminal
    from seepage.core.errors import StoreError
    from seepage.store.index import Index
    from seepage.store.where import index_url

    if not out.is_dir():
        raise StoreError(f"no runs at {out}: run `seepage audit FILE` first, or name their folder with --out")
    with Index(out, index_url()) as index:
        if rebuild:
            click.echo(f"{index.rebuild()} runs found")
        rows = index.runs()
    table = terminal.plain_table()
    for head in ("run", "title", "victim", "seconds", "verdicts"):
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(row.id, Text(row.title), Text(row.victim), f"{row.seconds:.0f}", row.verdicts)
    known = {row.id for row in rows}
    for path in sorted(out.glob("*/plan.json"), reverse=True):
        if path.parent.name not in known:
            done = "not in the index (--rebuild)" if (path.parent / "record.json").is_file() else "not finished"
            table.add_row(path.parent.name, Text(done, style="yellow"))
    terminal.console().print(table)
