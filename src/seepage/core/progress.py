"""How long work is reported: the library calls back, the command line draws."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Progress:
    """One step of one piece of work.

    Attributes:
        task: name of the piece ("train victim", "latent on cnn", ...).
        state: started, moving, done, failed or cached.
        done: share of this piece done, 0 to 1.
        total: share of the whole run done, 0 to 1.
        eta: estimated seconds left for the whole run, or None while unknown.
        message: a few words for the reader.
    """

    task: str
    state: Literal["started", "moving", "done", "failed", "cached"]
    done: float = 0.0
    total: float = 0.0
    eta: float | None = None
    message: str = ""


Listener = Callable[[Progress], None]
