"""Gradient search in the latent space of a prior learned from public records."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from seepage.attacks.inversion.parts import OBJECTIVES, ObjectiveName, best_of, jittered, torch_rng
from seepage.core.attack import InversionAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge, Knowledge
from seepage.core.records import Records
from seepage.core.target import Target, WhiteBox
from seepage.core.vocabulary import Access, Modality
from seepage.models.priors import Prior, prior_for

Array = np.ndarray
CHECKS = 8


class LatentGradient(InversionAttack):
    """Adam on latents of a principal-component prior, for all classes and starts in one batch.

    The form is that of GMI (a prior from public records, an identity loss, restarts), with the parts
    that later papers found to matter: starts screened by the victim, a margin in place of the
    cross-entropy, every picture moved at random before each step, and the starts selected by how well
    the victim recognises them over several random moves (Plug & Play's transformation-robust
    selection): the surest one, or all of them blended with weights proportional to their probability.
    The prior is linear, so it is learned in a moment; no network is trained.
    """

    name: ClassVar[str] = "latent"
    title: ClassVar[str] = "Latent gradient search, principal-component prior"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.WEIGHTS})
    cites: ClassVar[tuple[str, ...]] = (
        "Zhang, Jia, Pei, Wang, Li, Song 2020, The Secret Revealer: Generative Model-Inversion Attacks "
        "Against Deep Neural Networks, CVPR (prior, restarts)",
        "Struppek, Hintersdorf, De Almeida Correia, Adler, Kersting 2022, Plug & Play Attacks, ICML "
        "(initial and transformation-robust final selection)",
        "Turk, Pentland 1991, Eigenfaces for Recognition (the prior)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True

    components: int = Field(default=100, ge=1, description="size of the prior at the most")
    starts: int = Field(default=4, ge=1, description="starts a class, all in one batch")
    steps: int = Field(default=100, ge=1, description="gradient steps")
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

    def cost(self, knowledge: InversionKnowledge, budget: int | None) -> int:
        rows = len(knowledge.classes) * self.starts
        public = 0 if knowledge.public is None else len(knowledge.public)
        return rows * (self.steps + CHECKS) + public + self.screened

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if budget is not None and isinstance(knowledge, InversionKnowledge) and self.cost(knowledge, None) > budget:
            return f"it asks {self.cost(knowledge, None)} gradient queries, the budget is {budget}"
        return super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        public = knowledge.public
        if public is None:
            raise ValueError("public records are needed; `obstacle` says so")
        prior = prior_for(knowledge, "pca", components=self.components)
        net = target.weights()
        draws = torch_rng(rng)
        starts = self._starts(net, prior, public, torch.from_numpy(knowledge.classes), draws)
        wanted = torch.from_numpy(np.repeat(knowledge.classes, self.starts))
        # One row at a time when asked to: only to measure what the batch saves.
        parts = [slice(0, len(wanted))] if self.batched else [slice(i, i + 1) for i in range(len(wanted))]
        found = [self._search(net, prior, starts[part], wanted[part], draws) for part in parts]
        z, sure = np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])
        keep = best_of(sure, self.starts)
        latents = z[keep]
        if self.selection == "blend":
            weights = np.exp(sure.reshape(-1, self.starts) - sure[keep, None])
            weights /= weights.sum(axis=1, keepdims=True)
            latents = (z.reshape(-1, self.starts, prior.size) * weights[..., None]).sum(axis=1)
        return Reconstruction(prior.decode(latents), knowledge.classes, np.exp(sure[keep]))

    def _search(
        self, net: WhiteBox, prior: Prior, starts: torch.Tensor, wanted: torch.Tensor, draws: torch.Generator
    ) -> tuple[Array, Array]:
        """Latents (n, k) from `starts`, and the log-probability of each one's class over random moves."""
        decode = prior.decoder()
        z = starts.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([z], self.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps, self.rate * 0.05)
        objective = OBJECTIVES[self.objective]

        def shown(latents: torch.Tensor) -> torch.Tensor:
            x = decode(latents)
            return jittered(x, draws) if self.augment else x

        for _ in range(self.steps):
            loss = objective(net(shown(z)), wanted).sum() + self.prior_weight * (z**2).sum()
            optimiser.zero_grad()
            # Gradients of z alone: the victim's own weights need none.
            (z.grad,) = torch.autograd.grad(loss, z)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                z.clamp_(-self.limit, self.limit)
        with torch.no_grad():
            seen = [net(shown(z)).log_softmax(dim=1).gather(1, wanted[:, None])[:, 0] for _ in range(CHECKS)]
        return z.detach().numpy(), torch.stack(seen).mean(dim=0).numpy()

    def _starts(
        self, net: WhiteBox, prior: Prior, public: Records, classes: torch.Tensor, draws: torch.Generator
    ) -> torch.Tensor:
        """For each class the candidates that the victim takes for it most readily, then the mean record."""
        known = torch.from_numpy(prior.encode(public.x)).clamp(-self.limit, self.limit)
        drawn = 0.8 * torch.randn(self.screened, prior.size, generator=draws)
        pool = torch.cat([known, drawn.clamp(-self.limit, self.limit)])
        decode = prior.decoder()
        with torch.no_grad():
            sure = torch.cat([net(decode(part)).log_softmax(dim=1) for part in pool.split(256)])
        count = min(max(self.starts - 1, 1), len(pool))
        chosen = pool[sure[:, classes].topk(count, dim=0).indices.T]
        blank = torch.zeros(len(classes), self.starts - count, prior.size)
        return torch.cat([chosen, blank], dim=1).reshape(-1, prior.size)
