"""What an answer says of the record it was given to: one number, higher the better the model knows the record.

Everything is computed from scores in double precision, so that what lies next to 0 and 1 is told apart as far as the
scores tell it.
"""

import numpy as np
from jaxtyping import Float

from seepage.core.errors import DataError
from seepage.core.records import Records
from seepage.core.vocabulary import Task

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
    """How well an answer fits what is true of the record: a log-likelihood, at most 0.

    - of classes, log p_y: the negative cross-entropy;
    - of labels, the sum over labels of the log-probability of what is true of each: each is a model of its own;
    - of values, -1/2 sum_j ((y_j - f_j) / s_j)^2: the negative squared error in units of the targets' spread s
      (`Records.spread`), a Gaussian's log-likelihood up to a constant.

    Raises:
        DataError: as `own_and_others`, and for targets that the answers do not fit.
    """
    if records.task is Task.CLASSES:
        return logarithm(own_and_others(answers, records)[0])
    if records.task is Task.LABELS:
        return logarithm(_true_labels(answers, records)[0]).sum(axis=-1)
    return -_squared_errors(answers, records).sum(axis=-1) / 2


def scaled_confidence(answers: Float[Array, " *k n c"], records: Records) -> Float[Array, " *k n"]:
    """The same on a scale on which it is nearly normally distributed over trainings.

    - of classes, log p_y - log sum_{i != y} p_i (Carlini et al. 2022, section IV.C);
    - of labels, the sum over labels of the same, log p_j - log (1 - p_j) for what is true of label j;
    - of values, minus the cube root of the mean squared error in units of the targets' spread. Over trainings an
      answer, and so its error, is nearly normal; its square is then a multiple of a chi-square, whose cube root is
      nearly normal again (Wilson, Hilferty 1931, The Distribution of Chi-Square, PNAS 17). The logarithm, which takes
      the place of a logit elsewhere, has a long tail of records that are met by chance.

    Raises:
        DataError: as `log_confidence`.
    """
    if records.task is Task.CLASSES:
        own, others = own_and_others(answers, records)
        return logarithm(own) - logarithm(others)
    if records.task is Task.LABELS:
        own, others = _true_labels(answers, records)
        return (logarithm(own) - logarithm(others)).sum(axis=-1)
    return -np.cbrt(_squared_errors(answers, records).mean(axis=-1))


def _targets(answers: Float[Array, " *k n c"], records: Records) -> Float[Array, " n c"]:
    targets = records.answers()
    if answers.shape[-2:] != targets.shape:
        raise DataError(
            f"the victim answers {answers.shape[-1]} {records.task} a record, the candidates have {targets.shape[1]}"
        )
    return targets


def _true_labels(
    answers: Float[Array, " *k n c"], records: Records
) -> tuple[Float[Array, " *k n c"], Float[Array, " *k n c"]]:
    """For each label the probability of what is true of the record, and that of the contrary."""
    truth = _targets(answers, records) > 0
    p = np.clip(np.asarray(answers, dtype=np.float64), 0.0, 1.0)
    return np.where(truth, p, 1.0 - p), np.where(truth, 1.0 - p, p)


def _squared_errors(answers: Float[Array, " *k n c"], records: Records) -> Float[Array, " *k n c"]:
    """Squared errors in units of the targets' spread."""
    errors = np.asarray(answers, dtype=np.float64) - _targets(answers, records)
    return (errors / np.asarray(records.spread)) ** 2
