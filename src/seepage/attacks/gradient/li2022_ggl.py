"""GGL: updates matched over a prior's latents without slopes, each candidate's update sent through the defense."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from seepage.attacks.gradient.coordinates import Latents
from seepage.attacks.gradient.evolution import Evolution
from seepage.attacks.gradient.gradients import gradients_of
from seepage.attacks.gradient.latents import PriorName, latent_outlook, normal, prior_facts, prior_named, prior_obstacle
from seepage.attacks.gradient.matching import Search, reconstruction, solve
from seepage.attacks.gradient.objectives import OBJECTIVES, ObjectiveName
from seepage.attacks.gradient.received import LabelsFrom, received
from seepage.attacks.inversion.parts import torch_rng
from seepage.core.attack import GradientAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Modality


class GGL(GradientAttack):
    """A gradient-free search of the latents, in which the defense is done to every candidate's update as it is.

    min over z of |T(g(G(z), y)) - g*|^2 / |g*|^2 + `divergence` KL(z) by CMA-ES, where T is what the known defenses do:
    signs, top-k, rounding and clipping as the client does them, which have no slopes; of noise its clipping. KL is
    how far the numbers of a latent, taken as a sample, are from standard normal. As published there are 500 generations
    of 50 from a radius of one; Bayesian optimisation, the paper's other search, is not done here. An adversary who does
    not know the defense has T the identity.
    """

    name: ClassVar[str] = "ggl"
    title: ClassVar[str] = "GGL, a prior's latents without slopes"
    cites: ClassVar[tuple[str, ...]] = (
        "Li, Zhang, Liu, Liu 2022, Auditing Privacy Defenses in Federated Learning via Generative Gradient "
        "Leakage, CVPR",
        "Hansen 2016, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "labels", "counts", "mode", "normalisation", "prior"})
    thorough: ClassVar[bool] = True

    prior: PriorName = Field(default="gan", description="which prior is searched")
    components: int = Field(default=100, ge=1, description="size of a 'pca' prior at the most")
    generations: int = Field(default=200, ge=1, description="how often the distribution of latents is moved")
    population: int = Field(default=20, ge=4, description="candidates a generation and restart")
    restarts: int = Field(default=1, ge=1, description="random starts a client; the one matched best is kept")
    radius: float = Field(default=0.3, gt=0, description="first standard deviation, in the prior's; 1 as published")
    spread: float = Field(default=0.1, gt=0, description="of the random start, in standard deviations of the prior")
    covariance: Literal["full", "diagonal"] = Field(default="full", description="what is adapted")
    objective: ObjectiveName = Field(default="relative", description="how far two updates lie from each other")
    divergence: float = Field(default=0.01, ge=0, description="weight of the latent's divergence from standard normal")
    labels: LabelsFrom = Field(default="auto", description="'auto': told or read off; 'joint': found with the records")

    def priors(self, knowledge: GradientKnowledge) -> tuple[str, ...]:
        return (self.prior,)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return prior_obstacle(knowledge, self.prior) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        evaluations = self.generations * self.population
        beyond = "what it does not draw cannot be found"
        return latent_outlook(knowledge, update, evaluations, self.restarts, 1, beyond)

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        prior = prior_named(knowledge, self.prior, self.components)
        got = received(target, knowledge, rng, torch.float32, self.labels, sloped=False)
        draws = torch_rng(rng)
        search = Search(
            coordinates=Latents(prior.decoder(), prior.size),
            simulate=gradients_of(knowledge.net, got.mode),
            objective=OBJECTIVES[self.objective],
            optimiser=Evolution(self.generations, self.population, self.radius, self.covariance == "diagonal", rng),
            penalty=normal(self.divergence),
            restarts=self.restarts,
            slots=got.batch,
            spread=self.spread,
        )
        solved = solve(knowledge.net, got, search, draws)
        return reconstruction(knowledge, got, solved, self.assumed(knowledge, **got.guessed) | prior_facts(prior))
