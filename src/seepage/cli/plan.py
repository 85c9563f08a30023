"""`seepage plan FILE`."""

from pathlib import Path

import click

from seepage.cli.options import file_and_settings


@click.command("plan")
@file_and_settings
def command(file: Path, settings: tuple[str, ...], out: Path | None, trust_pickle: bool) -> None:
    """Say what the audit (or the sweep) of FILE would run, what it would cost and what is there already.

    Attacks nothing, and trains nothing but the clients of a federation; a model file or an endpoint is opened to see
    what it offers. Of updates it says what can be expected of every attack, and which assumption fails.
    """
    from rich.text import Text

    from seepage.audit.api import setting_of_file
    from seepage.audit.config import read
    from seepage.audit.play import Stage
    from seepage.audit.references import awaited
    from seepage.cli import terminal
    from seepage.cli.preflight import print_preflight
    from seepage.cli.summary import left_out_lines
    from seepage.store.files import RunFolder
    from seepage.store.index import Index
    from seepage.store.where import index_url

    if read(file, settings)[0].sweep is not None:
        from seepage.cli.sweep import print_plan

        print_plan(file, settings, out, trust_pickle)
        return
    setting, _ = setting_of_file(file, settings, out=out, trust_pickle=trust_pickle)
    plan = setting.plan()
    unfinished = RunFolder.unfinished(setting.out, plan.key) if setting.resumable else None
    console = terminal.console()
    table = terminal.plain_table()
    for head in ("cell", "attack", "behind", "budget", "queries at most", "seconds", "state"):
        table.add_column(head, overflow="fold")
    known_any = (setting.out / "index.sqlite").is_file() or index_url() is not None
    total = 0
    for cell in plan.cells:
        state, seconds = "to run", "?"
        if unfinished is not None and unfinished.read_finding(cell.id, cell.key) is not None:
            state = "done in an unfinished run"
        elif known_any:
            with Index(setting.out, index_url()) as index:
                pace = index.pace(cell.attack.name)
                seconds = "?" if pace is None else f"about {pace * cell.cost:.0f}"
                if setting.reusable and index.known(cell.key) is not None:
                    state = "cached"
        total += cell.cost if state == "to run" else 0
        behind = ", ".join(d.name for d in cell.arm.applied) or "–"
        budget = "none" if cell.budget is None else f"{cell.budget:,}"
        table.add_row(cell.id, Text(cell.title), behind, budget, f"{cell.cost:,}", seconds, state)
    console.print(table)
    for line in left_out_lines(plan.left_out):
        console.print(Text(line, style="dim"))
    console.print(f"\n{len(plan.cells)} cells, at most {total:,} queries to ask (those to the null twin included)")
    for told, missing in awaited(plan.cells, setting.scene):
        console.print(f"{told} reference models to have, {missing} of them yet to train")
    print_preflight(console, setting.preflights(plan, Stage(setting.scene, setting.seed, setting.most_seen)))
    if unfinished is not None:
        console.print(f"an unfinished run would be taken up: {unfinished.path}")
