"""The terminal that commands print to, and the tables they print."""

from rich.console import Console
from rich.table import Table

# Columns of what is read by a file or a pipe.
WIDE = 160


def console() -> Console:
    """Standard output: as wide as the terminal, or `WIDE`."""
    return Console(width=None if Console().is_terminal else WIDE)


def plain_table() -> Table:
    """A table without lines, its heads dim."""
    return Table(box=None, pad_edge=False, header_style="dim")
