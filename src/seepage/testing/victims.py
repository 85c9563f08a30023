"""Victims whose leakage is known in closed form, so that an attack or a scorer can be held against theory.

victim                      what it gives away
TemplateVictim              its templates: the record a class scores highest at is the template
GaussianMembershipVictim    membership, with an AUC of Phi(mu / sqrt 2) for the loss attack
ConstantVictim              nothing
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit, logsumexp, softmax
from scipy.stats import norm

from seepage.core.errors import ConfigError
from seepage.core.records import Records, row_digests
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Access

Array = np.ndarray

EVERYTHING = frozenset({Access.WEIGHTS, Access.EMBEDDINGS, Access.LOGITS, Access.SCORES, Access.TOP_K, Access.LABELS})


class TemplateVictim:
    """Scores a record by its likeness to private templates; the templates can be had back from it.

    With d_k = ||x - t_k||, the logit of class c is log sum over its templates of (1 + d_k^2 / 2 s^2)^-q.
    One template a class: with every other one at least D away, class c is likeliest within 2 s^2 / D of t_c
    (.5 % of D at the default width; `likeliest` says where). The tails are those of Student's kernel on
    purpose: with a Gaussian one the squares of x cancel in the softmax, the victim is linear, and its
    surest input lies at the edge of the bounds instead of at the template.

    Several templates a class make a kernel classifier that memorises its members.

    Args:
        templates: (k, *shape) the private records, within the bounds of `spec`.
        labels: (k,) their classes, every class from 0 on at least once; one class each by default.
        spec: one input; by default of the templates' shape in [0, 1].
        width: s, in the units of the records; by default a twentieth of the least distance between
            templates of different classes.
        power: q; greater is surer.

    Raises:
        ConfigError: for a width or power that is not positive, labels that leave a class out, or templates
            of two classes in one place.
    """

    family = "template"
    offers = EVERYTHING

    def __init__(
        self,
        templates: Float[Array, " k ..."],
        labels: Int[Array, " k"] | None = None,
        spec: InputSpec | None = None,
        width: float | None = None,
        power: float = 2.0,
    ):
        self.templates = np.asarray(templates, dtype=np.float64)
        self.labels = np.arange(len(templates)) if labels is None else np.asarray(labels)
        self.spec = spec or InputSpec(tuple(templates.shape[1:]))
        self.classes = int(self.labels.max()) + 1
        if len(np.unique(self.labels)) != self.classes or len(self.labels) != len(templates):
            raise ConfigError(f"each of {len(templates)} templates needs a class, and each class from 0 on a template")
        self.width = self._between() / 20 if width is None else width
        self.power = power
        if not (self.width > 0 and power > 0):
            raise ConfigError(f"width and power should be positive, got {self.width} and {power}")

    def _between(self) -> float:
        """The least distance between templates of different classes."""
        other = self.labels[:, None] != self.labels[None]
        return float(np.sqrt(self._squared(self.templates)[other].min())) if other.any() else 1.0

    def _squared(self, x: Float[Array, " n ..."]) -> Float[Array, " n k"]:
        flat = x.reshape(len(x), self.spec.size).astype(np.float64)
        templates = self.templates.reshape(len(self.templates), self.spec.size)
        return np.square(flat[:, None] - templates[None]).sum(-1)

    def likeliest(self, c: int) -> Float[Array, " ..."]:
        """The record that class `c` is likeliest at, to first order in how far it lies from the template.

        Setting the gradient of log p_c to zero near t_c gives
        x - t_c = sum_j w_j (t_c - t_j) / (1 + D_j^2 / 2 s^2) / sum_j w_j over the other templates, with
        w_j = (1 + D_j^2 / 2 s^2)^-q and D_j their distances.

        Raises:
            ConfigError: when a class has several templates.
        """
        if self.classes != len(self.templates):
            raise ConfigError("the closed form is of one template a class; this victim has several in some")
        (place,) = np.nonzero(self.labels == c)[0]
        others = np.delete(self.templates, place, axis=0)
        far = 1 + np.delete(self._squared(self.templates[place][None])[0], place) / (2 * self.width**2)
        weight = far**-self.power / (far**-self.power).sum()
        return self.templates[place] + np.tensordot(weight / far, self.templates[place] - others, axes=1)

    def embeddings(self, x: Float[Array, " n ..."]) -> Float[Array, " n k"]:
        """The distance to every template."""
        return np.sqrt(self._squared(x))

    def logits(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        kernel = -self.power * np.log1p(self._squared(x) / (2 * self.width**2))
        return np.stack(
            [np.asarray(logsumexp(kernel[:, self.labels == c], axis=1)) for c in range(self.classes)], axis=1
        )

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        return softmax(self.logits(x), axis=1)

    def differentiable(self) -> Any:
        """The same logits as a torch module."""
        from seepage.testing.modules import TemplateModule

        return TemplateModule(self.templates, self.labels, 2 * self.width**2, self.power)


class GaussianMembershipVictim:
    """Tells its members by a shift of `mu` standard deviations, and by nothing else.

    Every record has a latent z ~ N(0, 1), fixed by its values; a member has z + mu. The likelihood of the
    record's class is 1/c + (1 - 1/c) sigmoid(latent), so that the order by loss is the order by latent, and
    the loss attack (Yeom et al. 2018) meets two Gaussians: its AUC is Phi(mu / sqrt 2), and its true
    positive rate at the false positive rate a is Phi(mu + Phi^-1(a)). The predicted class is always right,
    for members and others alike: labels alone give nothing away.

    Args:
        members: what it was trained on; told apart from other records by their values.
        mu: the shift, zero or more; 0 leaks nothing.
        seed: another seed draws other latents.
        classes: how many; the class of a record is the place of the greatest of its first `classes` values.

    Raises:
        ConfigError: for a negative shift, or records with fewer values than classes.
    """

    family = "gaussian"
    offers = frozenset({Access.LOGITS, Access.SCORES, Access.TOP_K, Access.LABELS})

    def __init__(self, members: Records, mu: float, seed: int = 0, classes: int = 2, spec: InputSpec | None = None):
        self.spec = spec or InputSpec(tuple(members.x.shape[1:]), modality=members.modality)
        if mu < 0 or not 2 <= classes <= self.spec.size:
            raise ConfigError(
                f"a shift of zero or more and 2 to {self.spec.size} classes were wanted, got {mu} and {classes}"
            )
        self.mu = mu
        self.seed = seed
        self.classes = classes
        self._members = frozenset(row_digests(members.x.astype(np.float32)))

    @property
    def auc(self) -> float:
        """The AUC of the loss attack."""
        return float(norm.cdf(self.mu / np.sqrt(2)))

    def true_positive_rate(self, false_positive_rate: float) -> float:
        """The ROC of the loss attack, at a rate between 0 and 1."""
        return float(norm.cdf(self.mu + norm.ppf(false_positive_rate)))

    def rule(self, x: Float[Array, " n ..."]) -> Int[Array, " n"]:
        """The true class of every record."""
        return x.reshape(len(x), self.spec.size)[:, : self.classes].argmax(axis=1)

    def latent(self, x: Float[Array, " n ..."]) -> Float[Array, " n"]:
        """What the loss depends on: N(0, 1) for others, N(mu, 1) for members."""
        rows = row_digests(x.astype(np.float32))
        salt = str(self.seed).encode()
        bits = [int.from_bytes(hashlib.sha256(salt + row).digest()[:6], "big") for row in rows]
        z = norm.ppf((np.array(bits, dtype=np.float64) + 0.5) / 2.0**48)
        return z + self.mu * self.is_member(x)

    def is_member(self, x: Float[Array, " n ..."]) -> Bool[Array, " n"]:
        """Which records were trained on."""
        return np.array([row in self._members for row in row_digests(x.astype(np.float32))], dtype=bool)

    def logits(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        return np.log(self.predict(x))

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        right = 1 / self.classes + (1 - 1 / self.classes) * expit(self.latent(x))
        out = np.repeat(((1 - right) / (self.classes - 1))[:, None], self.classes, axis=1)
        out[np.arange(len(x)), self.rule(x)] = right
        return out


class ConstantVictim:
    """Answers the same scores whatever it is asked: no attack may find anything in it.

    Args:
        prior: (c,) its scores, positive, summing to one.
        spec: one input.

    Raises:
        ConfigError: when the scores are not such.
    """

    family = "constant"
    offers = EVERYTHING

    def __init__(self, prior: Sequence[float] | Float[Array, " c"], spec: InputSpec):
        self.prior = np.asarray(prior, dtype=np.float64)
        if self.prior.min() <= 0 or not np.isclose(self.prior.sum(), 1.0):
            raise ConfigError(f"positive scores that sum to one were wanted, got {self.prior.tolist()}")
        self.spec = spec
        self.classes = len(self.prior)

    def embeddings(self, x: Float[Array, " n ..."]) -> Float[Array, " n 1"]:
        return np.zeros((len(x), 1))

    def logits(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        return np.repeat(np.log(self.prior)[None], len(x), axis=0)

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        return np.repeat(self.prior[None], len(x), axis=0)

    def differentiable(self) -> Any:
        """The same logits as a torch module whose gradient at the record is zero."""
        from seepage.testing.modules import ConstantModule

        return ConstantModule(np.log(self.prior))
