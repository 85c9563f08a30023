"""Inversion by a trained inverse of the victim's scores: of captured answers, and of whole classes."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field

from seepage.attacks.inversion.inverse_parts import (
    FLOOR,
    asked,
    floor_of,
    levelled,
    log_scores,
    questions,
    too_few,
    within,
)
from seepage.attacks.inversion.parts import torch_rng
from seepage.core.attack import InversionAttack, RecordInversionAttack, scores_or_top_k
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge, Knowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality
from seepage.models.inverters import DecoderName, Inverse, Training, fit_inverse
from seepage.models.priors import Prior, prior_for

Array = np.ndarray
# Pairs below which nothing can be learned.
LEAST = 8
# Answers that a class's natural profile is the mean of.
PROFILE = 20

_YANG = (
    "Yang, Zhang, Chang, Liang 2019, Neural Network Inversion in Adversarial Setting via Background Knowledge "
    "Alignment, CCS"
)


class InversionNetwork(RecordInversionAttack):
    """Learns the victim's inverse from public records, and feeds it the answers that were captured.

    Public records, variations of them and draws of a prior are asked; from the answers a decoder learns
    to give the record back (the paper's auxiliary set and its squared difference), and each captured
    answer is then decoded. Scores are read as the paper reads them: logarithms of the `truncation`
    greatest, the rest zero, so that an adversary who sees only the top k learns from such answers.
    Behind a grid of rounded scores that is known, logarithms are floored at half a step.

    Two things leave the paper. Each vector is brought to one length (`level`), since a victim is surer
    of its members than of public records. And the decoder ends in the latent space of a prior:
    `decoder="pixels"` is the paper's, transposed convolutions, which needs more public records than an
    adversary of a small model has.
    """

    name: ClassVar[str] = "inversion-network"
    title: ClassVar[str] = "Inversion network, from captured scores"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES})
    cites: ClassVar[tuple[str, ...]] = (
        _YANG,
        "Turk, Pentland 1991, Eigenfaces for Recognition (the prior)",
        "Hoerl, Kennard 1970, Ridge Regression, Technometrics 12 (decoder = ridge)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True

    decoder: DecoderName = Field(
        default="network",
        description="a dense network to the prior's latent, ridge regression to it, or the paper's network to pixels",
    )
    queries: int = Field(default=6000, ge=LEAST, description="records asked to learn from, budget permitting")
    truncation: int = Field(default=0, ge=0, description="greatest scores of an answer that are read; 0 reads all")
    level: bool = Field(default=True, description="bring every answer to one length, sure or not")
    offset: float | None = Field(
        default=None, description="added to the logarithms that are kept (c; 50 in the paper's code); None: the floor's"
    )
    components: int = Field(default=100, ge=1, description="size of the prior at the most")
    steps: int = Field(default=1000, ge=1, description="batches a network is trained on")
    width: int = Field(default=16, ge=1, description="channels before the last layer of `pixels` (128 in the paper)")
    ridge: float = Field(default=0.03, gt=0, description="of the ridge, for the closed form")

    def opens(self, granted: frozenset[Access]) -> frozenset[Access]:
        return scores_or_top_k(granted)

    def cost(self, knowledge: InversionKnowledge, budget: int | None) -> int:
        return within(self.queries, budget)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return too_few(LEAST, budget) or super().obstacle(knowledge, budget)

    def _read(self, scores: Float[Array, " n c"], floor: float) -> Float[Array, " n c"]:
        rows = log_scores(scores, self.truncation, floor, self.offset)
        return levelled(rows) if self.level else rows

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        prior = prior_for(knowledge, "pca", components=self.components)
        floor = floor_of(knowledge)
        x, scores = _pairs(target, knowledge, prior, within(self.queries, target.remaining), rng)
        how = Training(weight=self.ridge, steps=self.steps, width=self.width)
        inverse = fit_inverse(self.decoder, self._read(scores, floor), x, prior, torch_rng(rng), how)
        return Reconstruction(inverse(self._read(target.captured_answers(), floor)))


class InverseSurrogate(InversionAttack):
    """Learns the victim's inverse from public records, and feeds it the ideal answer of each class.

    No captured answer is needed. The ideal answer starts from the natural profile of the class, the mean
    log-scores of the 20 records asked that the victim most takes for it, with the class's own log-score
    raised by each of `levels`: from what a sure answer looks like towards an answer that says nothing
    but the class. The decoder gives a record at every level, the victim is asked about each, and a class's
    records are averaged with weights proportional to its score of the class.
    """

    name: ClassVar[str] = "inverse-surrogate"
    title: ClassVar[str] = "Inverse surrogate, ideal answers"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES})
    cites: ClassVar[tuple[str, ...]] = (
        _YANG,
        "Hoerl, Kennard 1970, Ridge Regression, Technometrics 12 (the decoder)",
        "Turk, Pentland 1991, Eigenfaces for Recognition (the prior)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True

    decoder: DecoderName = Field(
        default="ridge",
        description="ridge regression to the prior's latent, a dense network to it, or the paper's network to pixels",
    )
    queries: int = Field(default=2000, ge=LEAST, description="records asked to learn from, budget permitting")
    levels: tuple[float, ...] = Field(
        default=(2.0, 5.0, 10.0, 20.0),
        min_length=1,
        description="how far the class's own log-score is raised above its natural profile",
    )
    components: int = Field(default=100, ge=1, description="size of the prior at the most")
    steps: int = Field(default=1000, ge=1, description="batches a network is trained on")
    ridge: float = Field(default=0.01, gt=0, description="of the ridge, for the closed form")

    def _selecting(self, knowledge: InversionKnowledge) -> int:
        return len(self.levels) * len(knowledge.classes)

    def opens(self, granted: frozenset[Access]) -> frozenset[Access]:
        return scores_or_top_k(granted)

    def cost(self, knowledge: InversionKnowledge, budget: int | None) -> int:
        return within(self.queries + self._selecting(knowledge), budget)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, InversionKnowledge):
            few = too_few(LEAST + self._selecting(knowledge), budget)
            if few:
                return few
        return super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        prior = prior_for(knowledge, "pca", components=self.components)
        floor, classes = floor_of(knowledge), knowledge.classes
        left = None if target.remaining is None else target.remaining - self._selecting(knowledge)
        x, scores = _pairs(target, knowledge, prior, within(self.queries, left), rng)
        logs = log_scores(scores, floor=floor)
        logs = logs - logs.mean(axis=1, keepdims=True)
        profiles = natural_profiles(logs, scores, classes)
        own = np.eye(scores.shape[1])[classes]
        how = Training(weight=self.ridge, steps=self.steps)
        inverse = fit_inverse(self.decoder, levelled(logs), x, prior, torch_rng(rng), how)
        return self._chosen(target, inverse, profiles, own, classes)

    def _chosen(self, target: Target, inverse: Inverse, profiles: Array, own: Array, classes: Array) -> Reconstruction:
        """What the decoder gives at each level, weighted by what the victim says of it."""
        x = np.stack([inverse(levelled(profiles + level * own)) for level in self.levels])
        said: list[Array] = []
        frame_at: list[int] = []
        for level in x:
            scores = target.answers(level)[np.arange(len(classes)), classes]
            said.append(np.maximum(scores, FLOOR))
            frame_at.append(target.queries)
        weights = np.stack(said).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
        # A mean of records within the bounds lies within them, up to rounding.
        held = np.cumsum(weights * x.astype(np.float64), axis=0) / np.cumsum(weights, axis=0)
        held = held.astype(np.float32).clip(x.min(axis=0), x.max(axis=0))
        return Reconstruction(
            held[-1],
            classes,
            np.max(said, axis=0),
            frames=held[:, np.argsort(classes, kind="stable")],
            frame_at=np.array(frame_at, dtype=np.int64),
        )


def natural_profiles(
    logs: Float[Array, " n c"], scores: Float[Array, " n c"], classes: Array, count: int = PROFILE
) -> Float[Array, " k c"]:
    """For each class the mean of `logs` over the `count` records whose score of it is greatest: (k, c)."""
    order = np.argsort(-scores[:, classes], axis=0, kind="stable")[:count]
    return logs[order].mean(axis=0)


def _pairs(
    target: Target, knowledge: InversionKnowledge, prior: Prior, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Records asked, and the victim's scores of them."""
    if knowledge.public is None:
        raise ValueError("public records are needed; `obstacle` says so")
    x = questions(knowledge.public.x, prior, knowledge.spec, count, rng)
    return x, asked(target.answers, x)
