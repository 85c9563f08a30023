"""Diff-MI: a diffusion prior, guided by the victim while it denoises."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field

from seepage.attacks.inversion.parts import jittered, torch_rng
from seepage.core.attack import InversionAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge, Knowledge
from seepage.core.target import Target, WhiteBox
from seepage.core.vocabulary import Access, Modality
from seepage.models.priors import prior_for
from seepage.models.priors.diffusion import FEWEST, LEAST_SIDE, DiffusionPrior
from seepage.models.priors.diffusion_nets import even_times, on_the_line

Array = np.ndarray
Tensor = torch.Tensor
CHECKS = 8
FRAMES = 8
ROWS = 256


def top_k_margin(logits: Float[Tensor, " n c"], classes: Int[Tensor, " n"], k: int) -> Float[Tensor, " n"]:
    """Mean of the `k` best other classes' logits minus the wanted one's (the top-k loss of Li et al. 2024).

    With k = 1 it is the margin; with k as large as can be, the wanted logit against the mean of all others.
    """
    wanted = logits.gather(1, classes[:, None])[:, 0]
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return others.topk(min(k, logits.shape[1] - 1), dim=1).values.mean(dim=1) - wanted


@dataclass(frozen=True)
class Found:
    """What became of a batch of rows.

    Attributes:
        x: (n, *shape) pictures.
        sure: (n,) mean log-probability of each row's class over random moves.
        frames: (f, n, *shape) the predicted clean pictures on the way.
        margin: (steps,) mean top-k margin.
    """

    x: Array
    sure: Array
    frames: Array
    margin: Array


class DiffMI(InversionAttack):
    """Noise is denoised step by step by a diffusion prior of public pictures, and pushed towards the class at each.

    At every step the prior predicts the clean picture behind the noisy one; the victim sees that prediction, moved
    at random; the gradient of the top-k loss goes back through the prior to the noisy picture (diffusion posterior
    sampling, Chung et al. 2023), which is moved by a fixed length along it. All classes and starts are one batch.
    The starts that the victim knows best over several random moves are kept.

    From Diff-MI come the prior, the top-k loss, the random transformations and the coarse-to-fine order. Three
    things differ. The prior never sees the victim (Diff-MI pretrains with its pseudo-labels, and fine-tunes
    under its gradient), so that one prior serves every audit. The picture is denoised once, with guidance at every
    step, in place of being optimised under a denoising loss at random noise levels. And the adversarial steps that
    Diff-MI ends with are left out: they follow the victim's loss alone, with no prior to hold them.
    """

    name: ClassVar[str] = "diff-mi"
    title: ClassVar[str] = "Diff-MI, denoising guided by the victim"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.WEIGHTS})
    cites: ClassVar[tuple[str, ...]] = (
        "Li, Hao, Wang, Wang, Zhang, Feng 2024, Model Inversion Attacks through Target-specific Conditional Diffusion "
        "Models, arXiv 2407.11424 (a diffusion prior, the top-k loss)",
        "Chung, Kim, McCann, Klasky, Ye 2023, Diffusion Posterior Sampling for General Noisy Inverse Problems, ICLR "
        "(guidance through the predicted clean picture)",
        "Ho, Jain, Abbeel 2020, Denoising Diffusion Probabilistic Models, NeurIPS (the prior)",
        "Song, Meng, Ermon 2021, Denoising Diffusion Implicit Models, ICLR (the chain)",
        "Struppek, Hintersdorf, De Almeida Correia, Adler, Kersting 2022, Plug & Play Attacks, ICML "
        "(transformation-robust final selection)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE})
    needs_public: ClassVar[bool] = True
    thorough: ClassVar[bool] = True

    steps: int = Field(default=50, ge=1, description="denoising steps, each guided once")
    starts: int = Field(default=4, ge=1, description="noises a class starts from, all in one batch")
    draws: int = Field(default=1, ge=1, description="reconstructions returned a class, the surest first")
    guidance: float = Field(default=2.0, ge=0, description="length of the push of each step; 0: the prior alone")
    top_k: int = Field(default=1, ge=1, description="how many other classes the wanted one is held against")
    limit: float = Field(default=2.5, gt=0, description="greatest coordinate of a noisy picture, in deviations")
    augment: bool = Field(default=True, description="move predicted pictures at random before the victim sees them")
    train_steps: int | None = Field(
        default=None,
        ge=0,
        description="training steps of the prior; 0: its linear denoiser alone; none: its own choice",
    )

    def cost(self, knowledge: InversionKnowledge, budget: int | None) -> int:
        rows = len(knowledge.classes) * max(self.starts, self.draws)
        return rows * (self._affordable(rows, budget) + CHECKS)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, InversionKnowledge) and min(knowledge.spec.shape[1:], default=0) < LEAST_SIDE:
            return f"its prior draws pictures of at least {LEAST_SIDE} x {LEAST_SIDE}, and a record is smaller"
        if knowledge.public is not None and len(knowledge.public) < FEWEST:
            return f"its prior needs at least {FEWEST} public records, and {len(knowledge.public)} were given"
        return super().obstacle(knowledge, budget)

    def _affordable(self, rows: int, budget: int | None) -> int:
        """As many steps as the budget leaves, and one at the least."""
        return self.steps if budget is None else max(min(self.steps, budget // rows - CHECKS), 1)

    def priors(self, knowledge: InversionKnowledge) -> tuple[str, ...]:
        return () if self.train_steps is not None else ("diffusion",)

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        prior = self._prior(knowledge)
        net = target.weights()
        rng_torch = torch_rng(rng)
        starts = max(self.starts, self.draws)
        wanted = torch.from_numpy(np.repeat(knowledge.classes, starts))
        steps = self._affordable(len(wanted), target.remaining)
        noise = torch.randn(len(wanted), prior.size, generator=rng_torch)
        parts = zip(noise.split(ROWS), wanted.split(ROWS), strict=True)
        found = [self._guided(net, prior, y, classes, steps, rng_torch) for y, classes in parts]
        sure = np.concatenate([f.sure for f in found]).reshape(-1, starts)
        order = np.argsort(-sure, axis=1, kind="stable")[:, : self.draws]
        keep = order + np.arange(len(sure))[:, None] * starts
        best = keep[np.argsort(knowledge.classes, kind="stable"), 0]
        stops = _frame_steps(steps)
        return Reconstruction(
            np.concatenate([f.x for f in found])[keep.reshape(-1)],
            np.repeat(knowledge.classes, self.draws),
            np.exp(np.take_along_axis(sure, order, axis=1)).reshape(-1),
            trace={"margin": np.average([f.margin for f in found], axis=0, weights=[len(f.x) for f in found])},
            notes=(f"diffusion prior: {int(prior.facts.get('steps') or 0)} training steps",),
            frames=np.concatenate([f.frames for f in found], axis=1)[:, best],
            frame_at=np.array(stops, dtype=np.int64),
        )

    def _prior(self, knowledge: InversionKnowledge) -> DiffusionPrior:
        options = {} if self.train_steps is None else {"steps": self.train_steps}
        prior = prior_for(knowledge, "diffusion", **options)
        if not isinstance(prior, DiffusionPrior):
            raise TypeError(f"a diffusion prior was wanted, got {type(prior).__name__}")
        return prior

    def _guided(
        self, net: WhiteBox, prior: DiffusionPrior, y: Tensor, wanted: Tensor, steps: int, rng: torch.Generator
    ) -> Found:
        """Denoise `y` (n, d), noise at the last time, to pictures of the `wanted` classes (n,)."""
        decode, model = prior.decoder(), prior.denoiser
        frames, margins, stops = [], [], _frame_steps(steps)
        for number, (now, then) in enumerate(pairwise(even_times(steps)), start=1):
            y = y.detach().requires_grad_(True)
            t = torch.full((len(y),), now)
            clean = prior.denoise(y, t)
            x = decode.bounded(clean)
            loss = top_k_margin(net(jittered(x, rng) if self.augment else x), wanted, self.top_k)
            (slope,) = torch.autograd.grad(loss.sum(), y)
            with torch.no_grad():
                after = on_the_line(y, clean, float(model.alpha_bar[now]), float(model.alpha_bar[then]))
                if then:
                    push = slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-12)
                    after = model.shrunk(after - self.guidance * push, torch.full((len(y),), then), self.limit)
                y = after
            margins.append(float(loss.detach().mean()))
            if number in stops:
                frames.append(x.detach().numpy())
        with torch.no_grad():
            x = decode.bounded(y)
            seen = [net(jittered(x, rng)).log_softmax(dim=1).gather(1, wanted[:, None])[:, 0] for _ in range(CHECKS)]
        return Found(x.numpy(), torch.stack(seen).mean(dim=0).numpy(), np.stack(frames), np.array(margins))


def _frame_steps(steps: int) -> list[int]:
    """The numbers of the steps, from 1, whose pictures are kept."""
    return sorted({math.ceil(steps * i / FRAMES) for i in range(1, FRAMES + 1)})
