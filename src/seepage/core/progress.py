"""How long work is reported: the library calls back, the command line draws."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from seepage.core.record import Preflight


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
        judged: whether the audit has a judge of reconstructions.
        preflight: what can be expected of attacks on updates, once that is known.
    """

    task: str
    state: Literal["started", "moving", "done", "failed", "cached"]
    done: float = 0.0
    total: float = 0.0
    eta: float | None = None
    message: str = ""
    judged: bool = True
    preflight: tuple[Preflight, ...] = ()


Listener = Callable[[Progress], None]
