"""IF-GMI: Plug & Play, then the generator's intermediate features, stage by stage."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from seepage.attacks.inversion.optimisers import Adam, Within, box
from seepage.attacks.inversion.parts import OBJECTIVES, ObjectiveName, onto_l1_ball, torch_rng
from seepage.attacks.inversion.search import (
    Frames,
    Hunt,
    PriorName,
    WeightsSearch,
    candidates,
    decoded,
    facts_of,
    prior_named,
    screened,
    steps_within,
    sureness,
    surest,
    views_of,
)
from seepage.attacks.inversion.struppek2022 import sloped
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality

Array = np.ndarray
Map = Callable[[torch.Tensor], torch.Tensor]
# Draws of the prior from which a stage's scale is taken.
SCALED_BY = 64


def chained(maps: Sequence[Map]) -> Map:
    """The maps one after the other."""

    def whole(x: torch.Tensor) -> torch.Tensor:
        for one in maps:
            x = one(x)
        return x

    return whole


def around(centre: torch.Tensor, radius: float) -> Within:
    """Into the L1 ball of this radius around each row of `centre` (n, ...)."""

    def within(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        held = centre[rows].flatten(1)
        return (held + onto_l1_ball(x.flatten(1) - held, torch.full((len(x),), radius))).reshape(x.shape)

    return within


class IntermediateFeatures(WeightsSearch):
    """Plug & Play, then a search of the features between the generator's stages, within L1 balls.

    After the latents, the features that leave the first stage are searched, then those that leave the
    second, and so on, each from where the stage before ended and inside the L1 ball around that place: what
    the latents cannot say, a layer's features can. The result of the stage at which the victim is surest
    over random moves is kept, start by start, and then the surest start. Published radii are for StyleGAN2 at
    one size; here a radius is a share of what the stage's features weigh on average, times their number.
    """

    name: ClassVar[str] = "if-gmi"
    title: ClassVar[str] = "IF-GMI, intermediate features of the generator"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.WEIGHTS})
    published: ClassVar[PriorName] = "gan"
    cites: ClassVar[tuple[str, ...]] = (
        "Qiu, Fang, Yu, Chen, Qiu, Xia 2024, A Closer Look at GAN Priors: Exploiting Intermediate Features for "
        "Enhanced Model Inversion Attacks, ECCV",
        "Duchi, Shalev-Shwartz, Singer, Chandra 2008, Efficient Projections onto the l1-Ball for Learning in High "
        "Dimensions, ICML",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True
    thorough: ClassVar[bool] = True

    prior: PriorName = Field(default="auto", description="which prior is searched; 'auto': the user's own, or 'gan'")
    components: int = Field(default=100, ge=1, description="size of a 'pca' prior at the most")
    screened: int = Field(default=2000, ge=1, description="draws of the prior the starts are chosen from")
    views: int = Field(default=2, ge=1, le=4, description="flips and crops a draw is shown under")
    candidates: int = Field(default=6, ge=1, description="starts a class that are searched, all in one batch")
    steps: int = Field(default=70, ge=1, description="gradient steps on the latents, as the budget permits")
    rate: float = Field(default=0.1, gt=0, description="learning rate, in standard deviations of a latent")
    momenta: tuple[float, float] = Field(default=(0.1, 0.1), description="Adam's betas, each in [0, 1)")
    stages: int = Field(default=3, ge=1, description="stages of the generator searched after the latents, at the most")
    stage_steps: int = Field(default=25, ge=1, description="gradient steps on each stage's features")
    stage_rate: float = Field(default=0.01, gt=0, description="their learning rate, in mean absolute features")
    radius: float = Field(default=0.03, gt=0, description="L1 radius a feature, in mean absolute features")
    objective: ObjectiveName = Field(default="poincare", description="what the victim's logits are asked for")
    limit: float = Field(default=2.0, gt=0, description="greatest latent, in standard deviations")
    moves: float = Field(default=0.06, ge=0, lt=0.5, description="greatest shift and zoom before each step")
    checks: int = Field(default=16, ge=1, description="random moves each selection averages over")
    check_moves: float = Field(default=0.1, ge=0, lt=0.5, description="greatest shift and zoom of those")

    def _fixed(self, knowledge: InversionKnowledge) -> tuple[int, int]:
        """Queries beside the steps on latents, and those of one step; counts every stage allowed."""
        rows = len(knowledge.classes) * self.candidates
        stages = rows * (self.stages * self.stage_steps + (self.stages + 1) * self.checks)
        return self.screened * views_of(knowledge, self.views) + stages, rows

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        prior = prior_named(knowledge, self.prior, self.published, self.components)
        net, decode, draws = target.weights(), prior.decoder(), torch_rng(rng)
        name, note = sloped(self.objective, target.classes or 2)
        objective = OBJECTIVES[name]
        classes = torch.from_numpy(knowledge.classes)
        wanted = classes.repeat_interleave(self.candidates)
        order, size = np.argsort(knowledge.classes), knowledge.spec.size
        steps = steps_within(self.steps, target.remaining, *self._fixed(knowledge))
        maps = list(decode.stages)
        depth = min(self.stages, len(maps) - 1)

        def hunt(after: Map, steps: int, rate: float, within: Callable[[torch.Tensor], Within]) -> Hunt:
            return Hunt(
                after,
                identity=lambda x, c: objective(net(x), c),
                penalty=None,
                optimiser=lambda like: Adam(like, rate, within(like), self.momenta),
                steps=steps,
                draws=draws,
                amount=self.moves,
                cosine=True,
            )

        pool = candidates(prior, None, self.screened, self.limit, draws)
        held = screened(net, decode, pool, classes, self.candidates, views_of(knowledge, self.views))
        tried = pool[:SCALED_BY]
        best = torch.zeros(len(wanted), *knowledge.spec.shape)
        sure = np.full(len(wanted), -np.inf)
        kept_at = np.zeros(len(wanted), dtype=np.int64)
        shown: list[Array] = []
        shown_at: list[Array] = []
        taken = 0
        for stage in range(depth + 1):
            after = chained(maps[stage:])
            if stage == 0:
                now, search = steps, hunt(after, steps, self.rate, lambda like: box(-self.limit, self.limit))
            else:
                tried = decoded(maps[stage - 1], tried)
                held = _through(maps[stage - 1], held)
                weigh = float(tried.abs().mean())
                radius = self.radius * weigh * tried[0].numel()
                now = self.stage_steps
                search = hunt(after, now, self.stage_rate * weigh, lambda like, r=radius: around(like, r))
            frames = Frames(now, max(8 // (depth + 1), 2))
            held = search.run(held, classes, frames, size)
            x = decoded(after, held.flatten(0, 1))
            found = sureness(net, x, wanted, self.checks, draws, self.check_moves)
            better = found > sure
            best[torch.from_numpy(better)] = x[torch.from_numpy(better)]
            sure, kept_at = np.where(better, found, sure), np.where(better, stage, kept_at)
            now_best = best.numpy()[surest(sure, self.candidates)[:, 0]]
            pictures, at = frames.arrays(now_best, order)
            shown.append(pictures if stage == depth else pictures[:-1])
            shown_at.append(taken + (at if stage == depth else at[:-1]))
            taken += now
        keep = surest(sure, self.candidates)[:, 0]
        counts = np.bincount(kept_at[keep], minlength=depth + 1)
        notes = (facts_of(prior), note, f"classes by the stage kept, latents first: {counts.tolist()}")
        return Reconstruction(
            knowledge.spec.bounds.clip(best.numpy()[keep]),
            knowledge.classes,
            np.exp(sure[keep]),
            notes=notes,
            frames=np.concatenate(shown),
            frame_at=np.concatenate(shown_at),
        )


def _through(one: Map, held: torch.Tensor) -> torch.Tensor:
    """A map over (c, s, ...)."""
    made = decoded(one, held.flatten(0, 1))
    return made.reshape(*held.shape[:2], *made.shape[1:])
