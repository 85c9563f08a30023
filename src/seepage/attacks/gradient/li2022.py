"""Matching of gradients within a generative prior: only what public records make likely is searched."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from seepage.attacks.gradient.coordinates import Latents
from seepage.attacks.gradient.descent import QuasiNewton
from seepage.attacks.gradient.gradients import gradients_of
from seepage.attacks.gradient.latents import PriorName, likely, prior_facts, prior_named, prior_obstacle
from seepage.attacks.gradient.matching import Search, reconstruction, solve
from seepage.attacks.gradient.objectives import OBJECTIVES, ObjectiveName
from seepage.attacks.gradient.outlooks import matching_outlook
from seepage.attacks.gradient.received import LabelsFrom, received
from seepage.attacks.gradient.zhu2019 import PRECISIONS
from seepage.attacks.inversion.parts import torch_rng
from seepage.core.attack import GradientAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Modality


class LatentMatching(GradientAttack):
    """Gradients matched over the latents of a prior learned from public records.

    min over z of the objective between g(G(z), y) and g*, plus `latent_weight` |z|^2 / size, each record's latent
    starting near the prior's middle. Jeon et al. go on to the generator's own weights (`gias`), Li et al. search
    without slopes under a defense (`ggl`). A prior that cannot draw the record bounds what can be found, and what it
    draws by itself is no leak: read it beside the control `prior_draw`.
    """

    name: ClassVar[str] = "latent-matching"
    title: ClassVar[str] = "Gradient matching in a prior's latents"
    cites: ClassVar[tuple[str, ...]] = (
        "Jeon, Kim, Lee, Oh, Ok 2021, Gradient Inversion with Generative Image Prior, NeurIPS",
        "Li, Zhang, Liu, Liu 2022, Auditing Privacy Defenses in Federated Learning via Generative Gradient "
        "Leakage, CVPR",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "labels", "counts", "mode", "normalisation", "prior"})
    thorough: ClassVar[bool] = True
    version: ClassVar[int] = 3

    prior: PriorName = Field(default="pca", description="which prior is searched")
    components: int = Field(default=100, ge=1, description="size of a 'pca' prior at the most")
    steps: int = Field(default=300, ge=1, description="evaluations of the gradient of each problem")
    restarts: int = Field(default=4, ge=1, description="random starts a client; the one matched best is kept")
    spread: float = Field(default=0.3, gt=0, description="of the random start, in standard deviations of the prior")
    objective: ObjectiveName = Field(default="cosine", description="how far two updates lie from each other")
    latent_weight: float = Field(default=1e-4, ge=0, description="weight of the latent's mean square")
    labels: LabelsFrom = Field(default="auto", description="'auto': told or read off; 'joint': found with the records")
    precision: Literal["single", "double"] = Field(default="single", description="of the computation")

    def priors(self, knowledge: GradientKnowledge) -> tuple[str, ...]:
        return (self.prior,)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return prior_obstacle(knowledge, self.prior) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        return matching_outlook(knowledge, update, self.steps, self.restarts, most=8)

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        dtype = PRECISIONS[self.precision]
        prior = prior_named(knowledge, self.prior, self.components)
        got = received(target, knowledge, rng, dtype, self.labels)
        search = Search(
            coordinates=Latents(prior.decoder(), prior.size),
            simulate=gradients_of(knowledge.net, got.mode, dtype),
            objective=OBJECTIVES[self.objective],
            optimiser=QuasiNewton(self.steps, memory=50),
            penalty=likely(self.latent_weight),
            restarts=self.restarts,
            slots=got.batch,
            spread=self.spread,
        )
        solved = solve(knowledge.net, got, search, torch_rng(rng))
        return reconstruction(knowledge, got, solved, self.assumed(knowledge, **got.guessed) | prior_facts(prior))
