"""How well a model fits records, in one number for each kind of answer."""

import numpy as np
from jaxtyping import Float

from seepage.core.records import Records
from seepage.core.vocabulary import Task

Array = np.ndarray

# What the number is called, in words and in facts.
CALLED = {Task.CLASSES: "accuracy", Task.LABELS: "accuracy a label", Task.VALUES: "share of variance explained"}
NAMES = {Task.CLASSES: "accuracy", Task.LABELS: "label_accuracy", Task.VALUES: "variance_explained"}
# Least probability that is not taken for none.
_LEAST = float(np.finfo(np.float32).tiny)


def quality(answers: Float[Array, " n c"], records: Records) -> float:
    """How well answers fit: the accuracy, of labels the mean accuracy a label, of values R^2.

    R^2 = 1 - sum (y - f)^2 / sum (y - mean)^2, both sums in units of the targets' spread and over all of them: 0 for
    one who always answers the mean, below 0 for a worse one.

    Raises:
        DataError: for records without classes or targets.
    """
    if records.task is Task.CLASSES:
        return float((answers.argmax(axis=1) == records.labels()).mean())
    targets = records.answers()
    if records.task is Task.LABELS:
        return float(((answers > 0.5) == (targets > 0.5)).mean())
    unit = np.asarray(records.spread)
    spread = (((targets - targets.mean(axis=0)) / unit) ** 2).sum()
    left = (((targets - answers) / unit) ** 2).sum()
    return float(1 - left / spread) if spread > 0 else 0.0


def beats_a_constant(answers: Float[Array, " n c"], records: Records) -> bool:
    """Whether answers of values or labels fit better than one answer for all records, the best there is.

    Of labels by the likelihood: a model of rare labels may never say yes and be right about how rare each is.
    """
    targets = records.answers()
    if records.task is Task.VALUES:
        return quality(answers, records) > 0
    return _log_likelihood(answers, targets) > _log_likelihood(
        np.broadcast_to(targets.mean(axis=0), targets.shape), targets
    )


def _log_likelihood(p: Array, truth: Array) -> float:
    return float(np.log(np.clip(np.where(truth > 0.5, p, 1 - p), _LEAST, 1.0)).sum())
