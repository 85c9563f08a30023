"""`seepage compare A B`."""

from pathlib import Path

import click

from seepage.cli.options import out_option


@click.command("compare")
@click.argument("a")
@click.argument("b")
@out_option
@click.option("--html", type=click.Path(path_type=Path), help="Also write the comparison as a page.")
def command(a: str, b: str, out: Path, html: Path | None) -> None:
    """Hold run B against run A: which leakage rose or fell, which verdicts changed, what was set otherwise."""
    from seepage.report import compare, compare_text, write_compare_html
    from seepage.store.files import find_run, read_record

    folders = [find_run(name, out) for name in (a, b)]
    click.echo(compare_text(compare(*(read_record(folder) for folder in folders))))
    if html is not None:
        click.echo(f"page:    {write_compare_html(folders[0], folders[1], html)}")
