"""Inverting gradients: the direction of the gradient matched, held smooth."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from seepage.attacks.gradient.coordinates import CoordinatesName, coordinates_named
from seepage.attacks.gradient.descent import Adam, Schedule, Signs
from seepage.attacks.gradient.gradients import gradients_of
from seepage.attacks.gradient.matching import Search, reconstruction, solve
from seepage.attacks.gradient.objectives import cosine, total_variation
from seepage.attacks.gradient.outlooks import matching_obstacle, matching_outlook
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


class InvertingGradients(GradientAttack):
    """One minus the cosine between gradients, plus total variation, by Adam on the sign of the slope.

    min over x in the bounds of 1 - cos(g(x, y), g*) + tv TV(x), where TV is the mean absolute difference of
    neighbouring prepared pixels. `published` gives the configuration of the paper: single pixels, a standard normal
    start, a tenth of the rate after 3/8, 5/8 and 7/8 of the steps. By default the search works on the frequencies of
    pictures from a nearly even start, its rate falling as a cosine: chosen on other pictures than those reported. All
    clients and restarts advance together; the restart with the lowest objective is kept.
    """

    name: ClassVar[str] = "inverting-gradients"
    title: ClassVar[str] = "Inverting Gradients"
    cites: ClassVar[tuple[str, ...]] = (
        "Geiping, Bauermeister, Droege, Moeller 2020, Inverting Gradients: How easy is it to break privacy in "
        "federated learning?, NeurIPS",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "labels", "counts", "mode", "normalisation"})
    thorough: ClassVar[bool] = True
    version: ClassVar[int] = 3

    steps: int = Field(default=2000, ge=1, description="steps of Adam")
    restarts: int = Field(default=1, ge=1, description="random starts a client; the one matched best is kept")
    rate: float = Field(default=0.05, gt=0, description="of Adam, in the units of the coordinates; 0.1 as published")
    schedule: Schedule = Field(default="cosine", description="how the rate falls: 'steps' as published")
    signs: Signs = Field(default="hard", description="'hard' as published: Adam is given the sign of the slope alone")
    tv: float = Field(default=1e-3, ge=0, description="weight of total variation")
    coordinates: CoordinatesName = Field(default="natural", description="'pixels' as published, or 'natural'")
    spread: float = Field(default=0.1, gt=0, description="of the random start; 1 as published")
    labels: LabelsFrom = Field(default="auto", description="'auto': told or read off; 'joint': found with the records")
    precision: Literal["single", "double"] = Field(default="single", description="of the computation")

    @classmethod
    def published(cls, **changes: Any) -> "InvertingGradients":
        """The paper's configuration, with the weight of TV that photographs of 32 x 32 pixels need."""
        paper: dict[str, Any] = {"coordinates": "pixels", "spread": 1.0, "rate": 0.1, "schedule": "steps", "tv": 5e-4}
        return cls(**(paper | changes))

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return matching_obstacle(knowledge) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        return matching_outlook(knowledge, update, self.steps, self.restarts, most=8)

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        dtype = PRECISIONS[self.precision]
        got = received(target, knowledge, rng, dtype, self.labels)

        def smooth(x: Tensor, numbers: Tensor, clients: Tensor) -> Tensor:
            return self.tv * total_variation(x)

        search = Search(
            coordinates=coordinates_named(self.coordinates, knowledge.spec, dtype),
            simulate=gradients_of(knowledge.net, got.mode, dtype),
            objective=cosine,
            optimiser=Adam(self.steps, self.rate, self.signs, self.schedule),
            penalty=smooth,
            restarts=self.restarts,
            slots=got.batch,
            spread=self.spread,
        )
        solved = solve(knowledge.net, got, search, torch_rng(rng))
        return reconstruction(knowledge, got, solved, self.assumed(knowledge, **got.guessed))
