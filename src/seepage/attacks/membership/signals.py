"""What an answer says of the record it was given to: one number, higher the better the model knows the record.

Everything is computed from scores in double precision, so that what lies next to 0 and 1 is told apart as far as the
scores tell it.
"""

import numpy as np
from jaxtyping import Float

from seepage.core.errors import DataError
from seepage.core.records import Records

Array = np.ndarray

# The least probability that single precision can hold: probabilities rounded to zero, or to one, give
# large equal statistics (ties), never infinite ones.
FLOOR = float(np.finfo(np.float32).tiny)


def logarithm(p: Float[Array, " *any"]) -> Float[Array, " *any"]:
    """Log p of probabilities, zero taken for the least one that single precision holds."""
    return np.log(np.clip(p, FLOOR, 1.0))


def own_and_others(
    answers: Float[Array, " *k n c"], records: Records
) -> tuple[Float[Array, " *k n"], Float[Array, " *k n"]]:
    """The probability of each record's own class, and the sum of those of all others: not 1 minus the first.

    Raises:
        DataError: without classes, or with classes that the answers do not have.
    """
    labels = records.labels()
    classes = answers.shape[-1]
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise DataError(f"the victim has {classes} classes, the candidates have {labels.min()} to {labels.max()}")
    p = np.clip(np.asarray(answers, dtype=np.float64), 0.0, 1.0)
    mine = np.eye(classes, dtype=bool)[labels]
    return np.where(mine, p, 0.0).sum(axis=-1), np.where(mine, 0.0, p).sum(axis=-1)


def log_confidence(answers: Float[Array, " *k n c"], records: Records) -> Float[Array, " *k n"]:
    """Log p_y, the negative cross-entropy, at most 0.

    Raises:
        DataError: as `own_and_others`.
    """
    return logarithm(own_and_others(answers, records)[0])


def scaled_confidence(answers: Float[Array, " *k n c"], records: Records) -> Float[Array, " *k n"]:
    """Log p_y - log sum_{i != y} p_i, nearly normally distributed over trainings (Carlini et al. 2022, section IV.C).

    Raises:
        DataError: as `own_and_others`.
    """
    own, others = own_and_others(answers, records)
    return logarithm(own) - logarithm(others)
