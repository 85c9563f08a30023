"""`seepage runs`."""

from pathlib import Path

import click

from seepage.cli.options import index_url, out_option


@click.command("runs")
@out_option
@click.option("--rebuild", is_flag=True, help="Make the index anew from the run folders first.")
def command(out: Path, rebuild: bool) -> None:
    """List the runs, latest first."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from seepage.core.errors import StoreError
    from seepage.store.index import Index

    if not out.is_dir():
        raise StoreError(f"no runs at {out}: run `seepage audit FILE` first, or name their folder with --out")
    with Index(out, index_url()) as index:
        if rebuild:
            click.echo(f"{index.rebuild()} runs found")
        rows = index.runs()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("run", "title", "victim", "seconds", "verdicts"):
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(row.id, Text(row.title), Text(row.victim), f"{row.seconds:.0f}", row.verdicts)
    known = {row.id for row in rows}
    for path in sorted(out.glob("*/plan.json"), reverse=True):
        if path.parent.name not in known:
            done = "not in the index (--rebuild)" if (path.parent / "record.json").is_file() else "not finished"
            table.add_row(path.parent.name, Text(done, style="yellow"))
    Console(width=None if Console().is_terminal else 160).print(table)
