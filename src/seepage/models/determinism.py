"""Does a recipe give the same model twice? Two fits under one seed, held against each other by their answers."""

import numpy as np
from jaxtyping import Float

from seepage.core.errors import DataError
from seepage.core.record import Check
from seepage.core.records import Records
from seepage.core.vocabulary import Task

Array = np.ndarray

DETERMINISM = "recipe under its seed"
# A sum in another order changes the last digits of single precision; training carries that on, but not this far.
TOLERANCE = 1e-3
_SIGNS = (
    "the seed that it is given for everything it draws (initial weights, order of batches, dropout, random_state), one "
    "thread a process, and torch.use_deterministic_algorithms(True)"
)


def apart(first: Float[Array, " n c"], again: Float[Array, " n k"], records: Records) -> Float[Array, " n"]:
    """How far two models' answers to each record lie apart: the greatest difference over classes or labels, of values
    in units of the targets' spread.

    Raises:
        DataError: for answers of different shapes.
    """
    if first.shape != again.shape:
        raise DataError(f"two fits of one recipe answer alike in shape, got {first.shape} and {again.shape}")
    unit = np.asarray(records.spread) if records.task is Task.VALUES else 1.0
    return (np.abs(np.asarray(first, dtype=np.float64) - np.asarray(again, dtype=np.float64)) / unit).max(axis=1)


def refit_check(
    first: Float[Array, " n c"],
    again: Float[Array, " n k"],
    records: Records,
    recipe: str,
    tolerance: float = TOLERANCE,
) -> Check:
    """Whether two models that a recipe trained on the same records under the same seed are the same model.

    Where they are not, references, twin and an unfinished run that is taken up are of other models than they are said
    to be; what an attack finds is true of the one victim it asked.

    Args:
        first: (n, c) answers of one of them.
        again: (n, c) answers of the other to the same records.
        records: those asked about.
        recipe: its name.
        tolerance: how far an answer may move.

    Raises:
        DataError: as `apart`.
    """
    off = apart(first, again, records)
    moved = int((off > tolerance).sum())
    if not moved:
        return Check(
            name=DETERMINISM,
            passed=True,
            message=f"the recipe '{recipe}' gives the same model again under its seed (answers move by at most "
            f"{off.max(initial=0.0):.1g})",
        )
    flips = ""
    if records.task is Task.CLASSES:
        flipped = int((first.argmax(axis=1) != again.argmax(axis=1)).sum())
        flips = f", {flipped} of them to another class" if flipped else ""
    return Check(
        name=DETERMINISM,
        passed=False,
        message=f"the recipe '{recipe}' gives another model when it is fitted again on the same records with the same "
        f"seed: {moved} of {len(off)} answers moved by more than {tolerance:g}, by {off.max():.2g} at the most{flips}. "
        f"Use {_SIGNS}. Until then reference models and twin vary from run to run, and figures with them",
    )
