"""Deep leakage from gradients: records and labels whose gradient is the one sent, in the least-squares sense."""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from seepage.attacks.gradient.coordinates import CoordinatesName, coordinates_named
from seepage.attacks.gradient.descent import QuasiNewton
from seepage.attacks.gradient.gradients import gradients_of
from seepage.attacks.gradient.matching import Search, reconstruction, solve
from seepage.attacks.gradient.objectives import squared
from seepage.attacks.gradient.outlooks import matching_obstacle, matching_outlook
from seepage.attacks.gradient.received import LabelsFrom, received
from seepage.attacks.inversion.parts import torch_rng
from seepage.core.attack import GradientAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Modality

PRECISIONS = {"single": torch.float32, "double": torch.float64}


class DLG(GradientAttack):
    """Least squares between gradients by L-BFGS, over records and soft labels together.

    min over (x, q) of |g(x, softmax q) - g*|^2. As published (`published`) the search moves single pixels
    from a standard normal start. By default it works on the frequencies of pictures, each in
    units of its strength in pictures of things, from a nearly even start: the same objective, a fraction of the
    evaluations. `labels = "auto"` takes the label from the last layer's gradient first, as iDLG does.
    """

    name: ClassVar[str] = "dlg"
    title: ClassVar[str] = "DLG, deep leakage from gradients"
    cites: ClassVar[tuple[str, ...]] = (
        "Zhu, Liu, Han 2019, Deep Leakage from Gradients, NeurIPS",
        "Zhao, Mopuri, Bilen 2020, iDLG: Improved Deep Leakage from Gradients, arXiv 2001.02610",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "labels", "counts", "mode", "normalisation"})
    thorough: ClassVar[bool] = True
    version: ClassVar[int] = 3

    steps: int = Field(default=1500, ge=1, description="evaluations of the gradient of each problem")
    restarts: int = Field(default=1, ge=1, description="random starts a client; the one matched best is kept")
    coordinates: CoordinatesName = Field(default="natural", description="'pixels' as published, or 'natural'")
    spread: float = Field(default=0.1, gt=0, description="of the random start; 1 as published")
    labels: LabelsFrom = Field(default="joint", description="'joint' as published; 'auto' reads them off first")
    memory: int = Field(default=100, ge=1, description="pairs that L-BFGS remembers")
    precision: Literal["single", "double"] = Field(default="double", description="of the computation")

    @classmethod
    def published(cls, **changes: Any) -> "DLG":
        """The paper's configuration, but for the line search that its L-BFGS lacks."""
        paper: dict[str, Any] = {"coordinates": "pixels", "spread": 1.0}
        return cls(**(paper | changes))

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return matching_obstacle(knowledge) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        return matching_outlook(knowledge, update, self.steps, self.restarts, most=4)

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        dtype = PRECISIONS[self.precision]
        got = received(target, knowledge, rng, dtype, self.labels)
        search = Search(
            coordinates=coordinates_named(self.coordinates, knowledge.spec, dtype),
            simulate=gradients_of(knowledge.net, got.mode, dtype),
            objective=squared,
            optimiser=QuasiNewton(self.steps, memory=self.memory),
            restarts=self.restarts,
            slots=got.batch,
            spread=self.spread,
        )
        solved = solve(knowledge.net, got, search, torch_rng(rng))
        return reconstruction(knowledge, got, solved, self.assumed(knowledge, **got.guessed))
