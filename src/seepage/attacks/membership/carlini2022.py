"""Membership by a likelihood ratio: is the victim's answer one of models that were trained on the record, or not?"""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from seepage.attacks.membership.reference import ReferenceAttack, Signals, parts
from seepage.attacks.membership.signals import scaled_confidence
from seepage.core.records import Records

Array = np.ndarray

# Models from which on a variance of each record's own is better than one for all (Carlini et al. 2022, section VI.B).
ENOUGH = 64
# The least standard deviation of a logit: answers that never vary (rounded ones) would decide by rounding errors.
SPREAD = 1e-6


class LiRA(ReferenceAttack):
    """The likelihood-ratio attack (algorithm 1, and section IV.E for the offline one).

    With phi the scaled confidence of a record and normal laws of it over models that were trained on the record
    ("in") and models that were not ("out"):

    - online: log N(phi; mu_in, s_in) - log N(phi; mu_out, s_out);
    - offline: (phi - mu_out) / s_out, which ranks as the one-sided test of the paper does, Phi of it, without ties near
      one. The published code takes the two-sided density there instead, by which a record the victim knows worse than
      the references do would look like a member.

    Attributes:
        mode: "online", or "offline" from the models alone that were not trained on the record.
        variance: "per-example"; "pooled", one within-record variance for all, of in and of out apart; "auto", the first
            from 64 models on.
    """

    name: ClassVar[str] = "lira"
    title: ClassVar[str] = "Likelihood ratio (LiRA)"
    cites: ClassVar[tuple[str, ...]] = (
        "Carlini, Chien, Nasr, Song, Terzis, Tramèr 2022, Membership Inference Attacks From First Principles, IEEE S&P",
    )

    mode: Literal["online", "offline"] = "online"
    variance: Literal["auto", "per-example", "pooled"] = "auto"

    def signal(self, answers: Float[Array, " *k n c"], records: Records) -> Float[Array, " *k n"]:
        return scaled_confidence(answers, records)

    def judged(self, signals: Signals) -> Float[Array, " n"]:
        outside, out_spread = self._law(signals.theirs, ~signals.inside)
        if self.mode == "offline":
            return (signals.mine - outside) / out_spread
        inside, in_spread = self._law(signals.theirs, signals.inside)
        return stats.norm.logpdf(signals.mine, inside, in_spread) - stats.norm.logpdf(signals.mine, outside, out_spread)

    def _law(
        self, values: Float[Array, " k n"], where: Bool[Array, " k n"]
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """Mean and standard deviation of every record's signal over the models of one kind."""
        n, mean, squares = parts(values, where)
        own = self.variance == "per-example" or (self.variance == "auto" and len(values) >= ENOUGH)
        if n.max() < 2:
            # One model of a kind: nothing is known of how a record's signal varies, but how those of all records do.
            spread = np.full_like(mean, values[where].std())
        elif own:
            spread = np.sqrt(squares / (n - 1))
        else:
            spread = np.full_like(mean, np.sqrt(squares.sum() / (n - 1).sum()))
        return mean, np.maximum(spread, SPREAD)
