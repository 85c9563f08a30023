"""Gradient search in the latent space of a prior learned from public records."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from seepage.attacks.inversion.optimisers import Adam, box
from seepage.attacks.inversion.parts import OBJECTIVES, ObjectiveName, best_of, torch_rng
from seepage.attacks.inversion.search import (
    Frames,
    Hunt,
    PriorName,
    WeightsSearch,
    candidates,
    decoded,
    facts_of,
    latent_norm,
    prior_named,
    screened,
    steps_within,
    sureness,
)
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality

Array = np.ndarray
CHECKS = 8
MOVES = 0.06


class LatentGradient(WeightsSearch):
    """Adam on latents of a prior, by default of principal components, for all classes and starts in one batch.

    The form is that of GMI (a prior from public records, an identity loss, restarts), with the parts
    that later papers found to matter: starts screened by the victim, a margin in place of the
    cross-entropy, every picture moved at random before each step, and the starts selected by how well
    the victim recognises them over several random moves (Plug & Play's transformation-robust
    selection): the surest one, or all of them blended with weights proportional to their probability.
    The default prior is linear, so it is learned in a moment; no network is trained.
    """

    name: ClassVar[str] = "latent"
    title: ClassVar[str] = "Latent gradient search, principal-component prior"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.WEIGHTS})
    published: ClassVar[PriorName] = "pca"
    cites: ClassVar[tuple[str, ...]] = (
        "Zhang, Jia, Pei, Wang, Li, Song 2020, The Secret Revealer: Generative Model-Inversion Attacks "
        "Against Deep Neural Networks, CVPR (prior, restarts)",
        "Struppek, Hintersdorf, De Almeida Correia, Adler, Kersting 2022, Plug & Play Attacks, ICML "
        "(initial and transformation-robust final selection)",
        "Turk, Pentland 1991, Eigenfaces for Recognition (the prior)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True
    version: ClassVar[int] = 2

    prior: PriorName = Field(default="pca", description="which prior is searched")
    components: int = Field(default=100, ge=1, description="size of a 'pca' prior at the most")
    starts: int = Field(default=4, ge=1, description="starts a class, all in one batch")
    steps: int = Field(default=100, ge=1, description="gradient steps, as the budget permits")
    rate: float = Field(default=0.08, gt=0, description="greatest learning rate, in whitened latents")
    objective: ObjectiveName = Field(default="margin", description="what the victim's logits are asked for")
    prior_weight: float = Field(default=0.03, ge=0, description="pull of each latent towards the mean record")
    limit: float = Field(default=2.5, gt=0, description="greatest latent, in standard deviations")
    screened: int = Field(default=1000, ge=0, description="prior draws the starts are chosen from")
    augment: bool = Field(default=True, description="move pictures at random before each step")
    selection: Literal["best", "blend"] = Field(
        default="blend",
        description="keep the surest start, or blend the starts' latents by how sure they are",
    )
    batched: bool = Field(default=True, description="all classes and starts at once; off only to measure what it saves")

    def _fixed(self, knowledge: InversionKnowledge) -> tuple[int, int]:
        """Queries beside the steps, and those of one step."""
        rows = len(knowledge.classes) * self.starts
        public = 0 if knowledge.public is None else len(knowledge.public)
        return rows * CHECKS + public + self.screened, rows

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        public = knowledge.public
        if public is None:
            raise ValueError("public records are needed; `obstacle` says so")
        prior = prior_named(knowledge, self.prior, self.published, self.components)
        net, decode, draws = target.weights(), prior.decoder(), torch_rng(rng)
        moves = MOVES if self.augment else 0.0
        objective = OBJECTIVES[self.objective]
        steps = steps_within(self.steps, target.remaining, *self._fixed(knowledge))
        classes = torch.from_numpy(knowledge.classes)
        hunt = Hunt(
            decode,
            identity=lambda x, wanted: objective(net(x), wanted),
            penalty=lambda z, x: self.prior_weight * latent_norm(z, x),
            optimiser=lambda like: Adam(like, self.rate, box(-self.limit, self.limit)),
            steps=steps,
            draws=draws,
            amount=moves,
            cosine=True,
        )
        pool = candidates(prior, public.x, self.screened, self.limit, draws)
        # The mean record is a start as well: the best-known candidates may all be of one kind.
        starts = screened(net, decode, pool, classes, max(self.starts - 1, 1))
        starts = torch.cat([starts, torch.zeros(len(classes), self.starts - starts.shape[1], prior.size)], dim=1)
        frames = Frames(steps)
        if self.batched:
            found = hunt.run(starts, classes, frames, knowledge.spec.size)
        else:
            found = self._apart(hunt, starts, classes, steps, knowledge.spec.size)
        wanted = classes.repeat_interleave(self.starts)
        sure = sureness(net, decoded(decode, found.flatten(0, 1)), wanted, CHECKS, draws, moves)
        latents = self._selected(found.numpy(), sure)
        x = prior.decode(latents)
        shown, at = frames.arrays(x, np.argsort(knowledge.classes)) if self.batched else (None, None)
        confidence = np.exp(sure[best_of(sure, self.starts)])
        return Reconstruction(x, knowledge.classes, confidence, notes=(facts_of(prior),), frames=shown, frame_at=at)

    def _apart(self, hunt: Hunt, starts: torch.Tensor, classes: torch.Tensor, steps: int, size: int) -> torch.Tensor:
        """One row at a time: only to measure what the batch saves."""
        rows = [
            hunt.run(starts[c : c + 1, s : s + 1], classes[c : c + 1], Frames(steps), size)
            for c in range(len(classes))
            for s in range(self.starts)
        ]
        return torch.cat(rows).reshape(starts.shape)

    def _selected(self, z: Array, sure: Array) -> Array:
        """One latent a class, from (c, starts, k)."""
        keep = best_of(sure, self.starts)
        if self.selection == "best":
            return z.reshape(-1, z.shape[-1])[keep]
        weights = np.exp(sure.reshape(-1, self.starts) - sure[keep, None])
        weights /= weights.sum(axis=1, keepdims=True)
        return (z * weights[..., None]).sum(axis=1).astype(np.float32)
