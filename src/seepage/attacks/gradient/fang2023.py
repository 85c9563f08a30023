"""GIFD: gradients matched over a prior's latents, then over its generator's features, stage by stage."""

from functools import partial
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from seepage.attacks.gradient.coordinates import Coordinates, Features, Latents
from seepage.attacks.gradient.descent import Adam, QuasiNewton
from seepage.attacks.gradient.gradients import gradients_of
from seepage.attacks.gradient.latents import (
    PriorName,
    latent_outlook,
    likely,
    moved_on,
    prior_facts,
    prior_named,
    prior_obstacle,
    smooth,
)
from seepage.attacks.gradient.matching import Onward, Search, reconstruction, solve
from seepage.attacks.gradient.objectives import OBJECTIVES, ObjectiveName
from seepage.attacks.gradient.received import LabelsFrom, received
from seepage.attacks.inversion.parts import torch_rng
from seepage.attacks.inversion.qiu2024 import SCALED_BY, Map, chained
from seepage.core.attack import GradientAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Modality
from seepage.models.priors import Decoder, Prior


class GIFD(GradientAttack):
    """A search of the latents, then of the features that leave each stage of the generator, within l1 balls.

    With G = G_n ... G_1: first min over z of the objective between g(G(z), y) and g*; then, for k = 1, 2, ..., min over
    h of the objective between g(G_n ... G_k+1(h), y) and g*, plus `tv` TV, over |h - h_k|_1 <= r_k, where h_k = G_k of
    where the search before ended. Of all stages and restarts the record whose update lies nearest to the one sent is
    given. Published radii and rates are of StyleGAN2's and BigGAN's features; here a radius is a share of what the
    stage's features weigh on average, times their number, and the rate is in units of that average too. As published
    the latents are searched by Adam; here by L-BFGS.
    """

    name: ClassVar[str] = "gifd"
    title: ClassVar[str] = "GIFD, a prior's latents, then its features"
    cites: ClassVar[tuple[str, ...]] = (
        "Fang, Chen, Wang, Wang, Xia 2023, GIFD: A Generative Gradient Inversion Method with Feature Domain "
        "Optimization, ICCV",
        "Duchi, Shalev-Shwartz, Singer, Chandra 2008, Efficient Projections onto the l1-Ball for Learning in High "
        "Dimensions, ICML",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "labels", "counts", "mode", "normalisation", "prior"})
    thorough: ClassVar[bool] = True

    prior: PriorName = Field(default="gan", description="whose latents and features are searched")
    components: int = Field(default=100, ge=1, description="size of a 'pca' prior at the most")
    steps: int = Field(default=300, ge=1, description="evaluations of the latents of each problem")
    restarts: int = Field(default=4, ge=1, description="random starts a client; the one matched best is kept")
    spread: float = Field(default=0.3, gt=0, description="of the random start, in standard deviations of the prior")
    stages: int = Field(default=3, ge=1, description="stages of the generator searched after the latents, at the most")
    stage_steps: int = Field(default=100, ge=1, description="steps of Adam on each stage's features")
    stage_rate: float = Field(default=0.05, gt=0, description="of Adam on features, in mean absolute features")
    radius: float = Field(default=0.3, gt=0, description="l1 radius a feature, in mean absolute features")
    objective: ObjectiveName = Field(default="cosine", description="how far two updates lie from each other")
    latent_weight: float = Field(default=1e-4, ge=0, description="weight of the latent's mean square")
    tv: float = Field(default=1e-4, ge=0, description="weight of total variation while features are searched")
    labels: LabelsFrom = Field(default="auto", description="'auto': told or read off; 'joint': found with the records")

    def priors(self, knowledge: GradientKnowledge) -> tuple[str, ...]:
        return (self.prior,)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return prior_obstacle(knowledge, self.prior) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        evaluations = self.steps + self.stages * self.stage_steps
        beyond = "features within balls reach a little beyond what it draws"
        return latent_outlook(knowledge, update, evaluations, self.restarts, 1, beyond)

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        prior = prior_named(knowledge, self.prior, self.components)
        decode, draws = prior.decoder(), torch_rng(rng)
        got = received(target, knowledge, rng, torch.float32, self.labels)
        search = Search(
            coordinates=Latents(decode, prior.size),
            simulate=gradients_of(knowledge.net, got.mode),
            objective=OBJECTIVES[self.objective],
            optimiser=QuasiNewton(self.steps, memory=50),
            penalty=likely(self.latent_weight),
            restarts=self.restarts,
            slots=got.batch,
            spread=self.spread,
            onward=self._stages(prior, decode, draws),
        )
        solved = solve(knowledge.net, got, search, draws)
        facts = self.assumed(knowledge, **got.guessed) | prior_facts(prior) | moved_on(solved)
        return reconstruction(knowledge, got, solved, facts)

    def _stages(self, prior: Prior, decode: Decoder, draws: torch.Generator) -> tuple[Onward, ...]:
        """The searches of the features that leave each stage; their scale is that of the features of a few draws."""
        maps = list(decode.stages)
        features = torch.randn(SCALED_BY, prior.size, generator=draws)
        found: list[Onward] = []
        for stage in range(1, min(self.stages, len(maps) - 1) + 1):
            with torch.no_grad():
                features = maps[stage - 1](features)
            weigh, size = float(features.abs().mean()), features[0].numel()
            begin = partial(_around, maps[stage - 1], chained(maps[stage:]), self.radius * weigh * size)
            optimiser = Adam(self.stage_steps, self.stage_rate * weigh, "none", "cosine")
            found.append(Onward(begin, optimiser, size, smooth(self.tv)))
        return tuple(found)


def _around(one: Map, after: Map, radius: float, held: Tensor) -> tuple[Coordinates, Tensor]:
    """The features that a stage makes of what was held (p, b, ...), to be searched in the l1 balls around them."""
    with torch.no_grad():
        centre = one(held.flatten(0, 1)).unflatten(0, held.shape[:2])
    return Features(after, centre, radius), centre
