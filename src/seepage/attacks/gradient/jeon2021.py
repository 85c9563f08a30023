"""GIAS: gradients matched over a prior's latents, then over its generator's own weights."""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from seepage.attacks.gradient.coordinates import Latents, Tuned
from seepage.attacks.gradient.descent import Adam, QuasiNewton, Schedule
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
from seepage.core.attack import GradientAttack
from seepage.core.errors import ConfigError
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Modality
from seepage.models.priors import Tunable


class GIAS(GradientAttack):
    """A search of the latents, then one of the generator's weights, a set of them for each record.

    First min over z of the objective between g(G_w(z), y) and g*, as `latent-matching` does; then, with z held, min
    over w_1, ..., w_b of the objective between g(G_w1(z_1), ..., G_wb(z_b), y) and g*, plus `tv` TV, by Adam from the
    weights that the generator was trained to. The weights reach records that no latent draws. Of a client's restarts
    the one whose latents match best goes on; whichever of the two searches matches better is kept. As published the
    latents are searched by Adam too, and the rate on weights is absolute; here the latents are searched by L-BFGS, and
    the rate is in units of each tensor, for generators of any scale. Learning the generator from updates of many
    rounds, the paper's other half, is not done here.
    """

    name: ClassVar[str] = "gias"
    title: ClassVar[str] = "GIAS, a prior's latents, then its weights"
    cites: ClassVar[tuple[str, ...]] = (
        "Jeon, Kim, Lee, Oh, Ok 2021, Gradient Inversion with Generative Image Prior, NeurIPS",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "labels", "counts", "mode", "normalisation", "prior"})
    thorough: ClassVar[bool] = True

    prior: PriorName = Field(default="gan", description="whose latents and weights are searched")
    components: int = Field(default=100, ge=1, description="size of a 'pca' prior at the most")
    steps: int = Field(default=300, ge=1, description="evaluations of the latents of each problem")
    restarts: int = Field(default=4, ge=1, description="random starts a client; the one matched best goes on")
    spread: float = Field(default=0.3, gt=0, description="of the random start, in standard deviations of the prior")
    weight_steps: int = Field(default=300, ge=1, description="steps of Adam on the weights")
    weight_rate: float = Field(default=0.01, gt=0, description="of Adam, in root mean squares of each tensor")
    schedule: Schedule = Field(default="cosine", description="how that rate falls: 'steps' as published")
    objective: ObjectiveName = Field(default="cosine", description="how far two updates lie from each other")
    latent_weight: float = Field(default=1e-4, ge=0, description="weight of the latent's mean square")
    tv: float = Field(default=1e-4, ge=0, description="weight of total variation while weights are searched")
    labels: LabelsFrom = Field(default="auto", description="'auto': told or read off; 'joint': found with the records")

    def priors(self, knowledge: GradientKnowledge) -> tuple[str, ...]:
        return (self.prior,)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return prior_obstacle(knowledge, self.prior) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        evaluations = self.steps + self.weight_steps
        beyond = "its weights reach what its latents do not, where the update is not noisy"
        return latent_outlook(knowledge, update, evaluations, self.restarts, 4, beyond)

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        prior = prior_named(knowledge, self.prior, self.components)
        decode = prior.decoder()
        if not isinstance(decode, Tunable) or not decode.weights:
            raise ConfigError(
                f"'gias' searches the weights of a generator, and the prior ({prior.kind}) has none that can be had: "
                "bring a torch module, or take prior = 'gan' or 'pca'"
            )
        got = received(target, knowledge, rng, torch.float32, self.labels)
        tuned = Tuned(decode, prior.size)
        weights = Onward(
            begin=lambda z: (tuned, tuned.begin(z)),
            optimiser=Adam(self.weight_steps, self.weight_rate, "none", self.schedule),
            size=tuned.shape[0],
            penalty=smooth(self.tv),
            narrowed=True,
        )
        search = Search(
            coordinates=Latents(decode, prior.size),
            simulate=gradients_of(knowledge.net, got.mode),
            objective=OBJECTIVES[self.objective],
            optimiser=QuasiNewton(self.steps, memory=50),
            penalty=likely(self.latent_weight),
            restarts=self.restarts,
            slots=got.batch,
            spread=self.spread,
            onward=(weights,),
        )
        solved = solve(knowledge.net, got, search, torch_rng(rng))
        facts = self.assumed(knowledge, **got.guessed) | prior_facts(prior) | moved_on(solved)
        return reconstruction(knowledge, got, solved, facts)
