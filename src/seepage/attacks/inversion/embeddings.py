"""Records recovered from their feature vectors: by a learned inverse, and by search with the weights."""

from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch.nn import functional

from seepage.attacks.inversion.inverse_parts import asked, questions, too_few, within
from seepage.attacks.inversion.parts import best_of, torch_rng
from seepage.core.attack import RecordInversionAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge, Knowledge
from seepage.core.target import Target, WhiteBox
from seepage.core.vocabulary import Access, Modality
from seepage.models.inverters import DecoderName, Training, fit_inverse
from seepage.models.priors import Prior, prior_for

Array = np.ndarray
LEAST = 8
# Least spread of a feature, as a share of the mean one: a dead feature says nothing about a distance.
DEAD = 1e-3


class EmbeddingInversion(RecordInversionAttack):
    """Learns to give a record back from its feature vector, and decodes the vectors that were captured.

    Public records, variations of them and draws of a prior are asked for their embeddings. Features of
    a last layer still hold most of the picture, so ridge regression to the latent of a
    principal-component prior already gives it back; networks need more pairs.
    """

    name: ClassVar[str] = "embedding-inversion"
    title: ClassVar[str] = "Embedding inversion, learned inverse"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.EMBEDDINGS})
    cites: ClassVar[tuple[str, ...]] = (
        "Dosovitskiy, Brox 2016, Inverting Visual Representations with Convolutional Networks, CVPR",
        "Mai, Cao, Yuen, Jain 2019, On the Reconstruction of Face Images from Deep Face Templates, IEEE TPAMI 41",
        "Hoerl, Kennard 1970, Ridge Regression, Technometrics 12 (the closed form)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True

    decoder: DecoderName = Field(
        default="ridge",
        description="ridge regression to the prior's latent, a dense network to it, or transposed convolutions",
    )
    queries: int = Field(default=4000, ge=LEAST, description="records asked to learn from, budget permitting")
    components: int = Field(default=200, ge=1, description="size of the prior at the most")
    ridge: float = Field(default=0.03, gt=0, description="of the ridge, for the closed form")
    steps: int = Field(default=1000, ge=1, description="batches a network is trained on")

    def cost(self, knowledge: InversionKnowledge, budget: int | None) -> int:
        return within(self.queries, budget)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return too_few(LEAST, budget) or super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        if knowledge.public is None:
            raise ValueError("public records are needed; `obstacle` says so")
        prior = prior_for(knowledge, "pca", components=self.components)
        x = questions(knowledge.public.x, prior, knowledge.spec, within(self.queries, target.remaining), rng)
        answers = asked(target.embeddings, x)
        how = Training(weight=self.ridge, steps=self.steps)
        inverse = fit_inverse(self.decoder, answers, x, prior, torch_rng(rng), how)
        return Reconstruction(inverse(target.captured_embeddings()))


class EmbeddingSearch(RecordInversionAttack):
    """Searches a prior's latent space for the record whose features are the captured ones.

    Minimises d(h(G(z)), h*) + prior_weight |z|^2 / k by Adam (after Mahendran and Vedaldi 2015, who
    search pixels; here the prior takes the place of their regularisers). The distance is the mean
    square over features in units of their spread over public records, or 1 - cosine. One start is the
    closed-form inverse of `embedding-inversion`, the others are random; the nearest is kept.
    """

    name: ClassVar[str] = "embedding-search"
    title: ClassVar[str] = "Embedding inversion, latent search"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.WEIGHTS})
    cites: ClassVar[tuple[str, ...]] = (
        "Mahendran, Vedaldi 2015, Understanding Deep Image Representations by Inverting Them, CVPR",
        "Zhang, Jia, Pei, Wang, Li, Song 2020, The Secret Revealer, CVPR (search in the latent space of a prior)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True

    components: int = Field(default=200, ge=1, description="size of the prior at the most")
    learned: int = Field(default=2000, ge=LEAST, description="records the first start is learned from")
    starts: int = Field(default=3, ge=1, description="starts a record: the learned one, then random ones")
    steps: int = Field(default=150, ge=1, description="gradient steps")
    rate: float = Field(default=0.08, gt=0, description="greatest learning rate, in whitened latents")
    distance: Literal["l2", "cosine"] = Field(default="l2", description="between features")
    prior_weight: float = Field(default=0.003, ge=0, description="pull of each latent towards the mean record")
    limit: float = Field(default=3.0, gt=0, description="greatest latent, in standard deviations")

    def cost(self, knowledge: InversionKnowledge, budget: int | None) -> int:
        return self.learned + knowledge.captured * self.starts * (self.steps + 1)

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        if knowledge.public is None:
            raise ValueError("public records are needed; `obstacle` says so")
        prior = prior_for(knowledge, "pca", components=self.components)
        net, captured = target.weights(), np.asarray(target.captured_embeddings(), dtype=np.float32)
        x = questions(knowledge.public.x, prior, knowledge.spec, self.learned, rng)
        answers = asked(lambda part: _features(net, part), x)
        inverse = fit_inverse("ridge", answers, x, prior, torch_rng(rng))
        first = prior.encode(inverse(captured))[:, None]
        drawn = 0.5 * rng.standard_normal((len(captured), self.starts - 1, prior.size))
        starts = np.concatenate([first, drawn], axis=1).astype(np.float32).reshape(-1, prior.size)
        goal = torch.from_numpy(np.repeat(captured, self.starts, axis=0))
        z, apart = self._search(net, prior, torch.from_numpy(starts), goal, _spread(answers))
        keep = best_of(-apart, self.starts)
        return Reconstruction(prior.decode(z[keep]), confidence=-apart[keep].astype(np.float64))

    def _search(
        self, net: WhiteBox, prior: Prior, starts: torch.Tensor, goal: torch.Tensor, spread: torch.Tensor
    ) -> tuple[Array, Array]:
        """Latents (n, k) from `starts`, and how far the features of each lie from `goal`."""
        decode = prior.decoder()
        z = starts.clamp(-self.limit, self.limit).requires_grad_(True)
        optimiser = torch.optim.Adam([z], self.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps, self.rate * 0.05)
        for _ in range(self.steps):
            loss = self._apart(net, decode(z), goal, spread) + self.prior_weight * (z**2).mean(dim=1)
            (z.grad,) = torch.autograd.grad(loss.sum(), z)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                z.clamp_(-self.limit, self.limit)
        with torch.no_grad():
            apart = self._apart(net, decode(z), goal, spread)
        return z.detach().numpy(), apart.numpy()

    def _apart(self, net: WhiteBox, x: torch.Tensor, goal: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
        found, _ = net.features(x)
        if self.distance == "cosine":
            return 1 - functional.cosine_similarity(found, goal, dim=1)
        return (((found - goal) / spread) ** 2).mean(dim=1)


def _features(net: WhiteBox, x: Float[Array, " n ..."]) -> Float[Array, " n d"]:
    with torch.no_grad():
        found, _ = net.features(torch.from_numpy(x))
    return found.numpy()


def _spread(answers: Float[Array, " n d"]) -> torch.Tensor:
    """The spread of each feature over public records, away from zero."""
    spread = answers.std(axis=0)
    return torch.from_numpy(np.maximum(spread, max(DEAD * float(spread.mean()), 1e-12)).astype(np.float32))
