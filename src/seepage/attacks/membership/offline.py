"""What comparisons with reference models share: softmax at a temperature, and how far models that know a record lie."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import logsumexp
from scipy.stats import rankdata

from seepage.attacks.membership.reference import Signals
from seepage.attacks.membership.signals import log_confidence, logarithm
from seepage.core.records import Records
from seepage.core.vocabulary import Task

Array = np.ndarray

# Of RMIA's and BASE's published code.
AUTO = 0.33
SHARES = tuple(i / 10 for i in range(11))
# Models that play the victim while the share is chosen.
TRIALS = 8


def tempered(answers: Float[Array, " *k n c"], records: Records, temperature: float) -> Float[Array, " *k n"]:
    """Log p_y of the softmax at another temperature than the model's own, from its scores.

    Labels and numbers have no softmax: of them it is the log-likelihood as it is.
    """
    if temperature == 1.0 or records.task is not Task.CLASSES:
        return log_confidence(answers, records)
    logs = logarithm(np.asarray(answers, dtype=np.float64)) / temperature
    return log_confidence(np.exp(logs - np.asarray(logsumexp(logs, axis=-1, keepdims=True))), records)


def mean_out(values: Float[Array, " k n"], inside: Bool[Array, " k n"]) -> Float[Array, " n"]:
    """Each record's mean over the models that were not trained on it."""
    return np.where(inside, 0.0, values).sum(axis=0) / (~inside).sum(axis=0)


def best_share(signals: Signals, judge: Callable[[float, Signals], Float[Array, " n"]]) -> tuple[float, str]:
    """The share a for which rehearsals among the references tell members from others best, and how it was chosen.

    The mean area under the curve over rehearsals decides, the lowest of equals; the victim has no part in it.
    """
    if len(signals.inside) < 4:
        return AUTO, "the published value: there are too few reference models to try others"
    found = [rehearsed(signals, lambda game, a=a: judge(a, game)) for a in SHARES]
    return SHARES[int(np.argmax(found))], f"by {min(len(signals.inside), TRIALS)} rehearsals among the reference models"


def rehearsed(
    signals: Signals,
    judge: Callable[[Signals], Float[Array, " n"]],
    measure: Callable[[Float[Array, " n"], Bool[Array, " n"]], float] | None = None,
) -> float:
    """The mean of a measure, the area under the curve, over rehearsals, each with a reference model as the victim."""
    models = range(min(len(signals.inside), TRIALS))
    return float(
        np.mean([(measure or auc)(judge(signals.with_victim(model)), signals.inside[model]) for model in models])
    )


def found_at_one(values: Float[Array, " n"], inside: Bool[Array, " n"]) -> float:
    """The share of members above all but 1 % of the non-members."""
    outside = np.sort(values[~inside])
    return float((values[inside] > outside[-1 - len(outside) // 100]).mean())


def auc(values: Float[Array, " n"], inside: Bool[Array, " n"]) -> float:
    """The area under the curve, ties counted half."""
    ranks, m = rankdata(values), int(inside.sum())
    return float((ranks[inside].sum() - m * (m + 1) / 2) / (m * (len(values) - m)))
