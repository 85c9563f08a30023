"""`seepage list`."""

import click

KINDS = ("attacks", "defenses", "leaks", "data", "recipes")


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS), default="attacks")
def command(kind: str) -> None:
    """List the attacks, defenses, leaks, built-in data sets or built-in recipes."""
    from rich.text import Text

    from seepage.cli import terminal

    table = terminal.plain_table()
    rows: list[tuple[str, ...]]
    if kind == "attacks":
        from seepage.core.registry import ATTACKS, attack_class

        heads = ("name", "leak", "needs", "what it does", "source")
        rows = [
            (name, str(a.leak), ", ".join(sorted(a.needs)), a.title, a.cites[0])
            for name, a in ((name, attack_class(name)) for name in ATTACKS)
        ]
    elif kind == "defenses":
        from seepage.core.registry import DEFENSES, defense_class

        heads = ("name", "what it does", "retrains", "source")
        rows = [
            (name, d.title, "yes" if d.retrains else "no", d.cites[0])
            for name, d in ((name, defense_class(name)) for name in DEFENSES)
        ]
    elif kind == "leaks":
        from seepage.audit.leaks import LEAKS
        from seepage.core.registry import ATTACKS, attack_class
        from seepage.core.vocabulary import Leak

        heads = ("leak", "attacks")
        rows = [
            (
                str(leak),
                ", ".join(n for n in ATTACKS if attack_class(n).leak is leak) if leak in LEAKS else "not yet",
            )
            for leak in Leak
        ]
    elif kind == "data":
        from seepage.data.builtin import DATASETS

        heads = ("name", "what it holds", "credit")
        rows = [(name, found.title, found.credit) for name, found in DATASETS.items()]
    else:
        from seepage.models.recipes import RECIPES

        heads = ("name", "what it trains")
        rows = [(name, found.title) for name, found in RECIPES.items()]
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    terminal.console().print(table)
