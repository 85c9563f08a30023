"""What the terminal says of a pre-flight: can this even work?"""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from seepage.core.outlook import Diagnostic, Forecast
from seepage.core.record import Preflight

_PROSPECTS = {"expected": "bold red", "possible": "yellow", "unlikely": "dim", "impossible": "dim"}
_HOLDS = {"holds": "", "fails": "bold", "unknown": "yellow", "noted": "dim"}


def print_preflight(console: Console, parts: Sequence[Preflight]) -> None:
    """The answer, a row an attack, and what was seen of the update; nothing where there is no pre-flight."""
    for part in parts:
        behind = f" behind {', '.join(applied.name for applied in part.defenses)}" if part.defenses else ""
        console.print(Text.assemble((f"Can this even work{behind}? ", "bold"), part.answer))
        console.print()
        if part.forecasts:
            console.print(_attacks(part.forecasts))
            console.print()
        console.print(_seen(part.diagnostics))
        console.print()


def _attacks(forecasts: Sequence[Forecast]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", show_edge=False)
    for head in ("attack", "prospect", "why", "what would change it"):
        table.add_column(head, overflow="fold")
    for row in forecasts:
        told = row.outlook
        prospect = "not known" if told is None else told.prospect
        cost = "" if told is None or told.seconds is None else f" (about {told.seconds:.0f} s)"
        why = "nothing can be said beforehand" if told is None else told.why
        if row.left_out is not None and (told is None or told.why != row.left_out):
            why += f"; left out: {row.left_out}"
        change = "" if told is None else told.change
        table.add_row(row.attack, Text(prospect + cost, style=_PROSPECTS.get(prospect, "")), Text(why), Text(change))
    return table


def _seen(diagnostics: Sequence[Diagnostic]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", show_edge=False)
    for head in ("looked at", "the assumption", "what was found", "what it means"):
        table.add_column(head, overflow="fold", ratio=None if head in ("looked at", "the assumption") else 1)
    for row in diagnostics:
        # What holds needs no comment here; the report has it.
        means = "" if row.holds == "holds" else row.means
        table.add_row(row.name, Text(row.holds, style=_HOLDS[row.holds]), Text(row.found), Text(means, style="dim"))
    return table
