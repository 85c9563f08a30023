"""Membership by a likelihood ratio that holds with few reference models: variances shrunk towards a common one."""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from seepage.attacks.membership.reference import ReferenceAttack, Signals, parts
from seepage.attacks.membership.signals import scaled_confidence
from seepage.core.records import Records

Array = np.ndarray
_LEAST = 1e-12


class StudentT(ReferenceAttack):
    """LiRA with a conjugate prior on mean and variance of each record, whose predictive law is Student's t.

    With few models the variance of a record's own is noise, and one variance for all is wrong for most. A conjugate
    (normal-inverse-gamma) prior, the same for all records and read off them (empirical Bayes), weighs the two. For the
    models in and the models out apart, with n_i, m_i and SS_i number, mean and squared deviations of a record's scaled
    confidences:

        m_0 = mean of all, v_w = sum SS_i / sum (n_i - 1), v_b = variance of all less v_w, at least a little
        kappa_0 = v_w / v_b, alpha_0 = 2, beta_0 = 2 v_w
        kappa = kappa_0 + n, mu = (kappa_0 m_0 + n m) / kappa, alpha = alpha_0 + n / 2
        beta = beta_0 + SS / 2 + kappa_0 n (m - m_0)^2 / (2 kappa)

    the next value is t with 2 alpha degrees of freedom, around mu, with squared scale beta (kappa + 1) / (alpha kappa)
    (Murphy 2007, section 6.4). Online the score is log t_in - log t_out; offline it is (phi - mu) / scale by t_out,
    which ranks as its quantile does, since all records have as many models. The idea is Brännvall's, the prior and how
    it is read off are ours.

    Attributes:
        mode: "online", or "offline" from the models alone that were not trained on the record.
    """

    name: ClassVar[str] = "student-t"
    title: ClassVar[str] = "Likelihood ratio for few models (Student's t)"
    cites: ClassVar[tuple[str, ...]] = (
        "Brännvall 2026, Exponential-Family Membership Inference: From LiRA and RMIA to BaVarIA, arXiv:2603.11799",
        "Murphy 2007, Conjugate Bayesian Analysis of the Gaussian Distribution",
    )

    mode: Literal["online", "offline"] = "online"

    def signal(self, answers: Float[Array, " *k n c"], records: Records) -> Float[Array, " *k n"]:
        return scaled_confidence(answers, records)

    def judged(self, signals: Signals) -> Float[Array, " n"]:
        freedom, middle, scale = predictive(signals.theirs, ~signals.inside)
        if self.mode == "offline":
            return (signals.mine - middle) / scale
        in_freedom, in_middle, in_scale = predictive(signals.theirs, signals.inside)
        return stats.t.logpdf(signals.mine, in_freedom, in_middle, in_scale) - stats.t.logpdf(
            signals.mine, freedom, middle, scale
        )


def predictive(
    values: Float[Array, " k n"], where: Bool[Array, " k n"]
) -> tuple[Float[Array, " n"], Float[Array, " n"], Float[Array, " n"]]:
    """Degrees of freedom, middle and scale of what one more model of a kind would say of each record."""
    n, mean, squares = parts(values, where)
    everything = values[where]
    middle, whole = everything.mean(), everything.var()
    within = squares.sum() / (n - 1).sum() if n.max() > 1 else whole / 2
    between = max(whole - within, _LEAST)
    within = max(within, _LEAST)
    kappa_0, alpha_0, beta_0 = within / between, 2.0, 2.0 * within
    kappa, alpha = kappa_0 + n, alpha_0 + n / 2
    mu = (kappa_0 * middle + n * mean) / kappa
    beta = beta_0 + squares / 2 + kappa_0 * n * (mean - middle) ** 2 / (2 * kappa)
    return 2 * alpha, mu, np.sqrt(beta * (kappa + 1) / (alpha * kappa))
