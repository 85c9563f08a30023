"""FedLeak: a part of the gradient matched, and the slope of the match kept small."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from seepage.attacks.gradient.coordinates import CoordinatesName, coordinates_named
from seepage.attacks.gradient.descent import Adam, Schedule, Signs
from seepage.attacks.gradient.gradients import gradients_of
from seepage.attacks.gradient.matching import Search, reconstruction, solve
from seepage.attacks.gradient.objectives import OBJECTIVES, ObjectiveName, total_variation
from seepage.attacks.gradient.outlooks import matching_obstacle, matching_outlook
from seepage.attacks.gradient.received import LabelsFrom, received
from seepage.attacks.gradient.zhu2019 import PRECISIONS
from seepage.attacks.inversion.parts import torch_rng
from seepage.core.attack import GradientAttack
from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Modality


class FedLeak(GradientAttack):
    """Some of the gradient's numbers matched, with a penalty on the slope of the match.

    min over x of D(x) + w |dD/dx|, where D is the objective between g(x, y) and g* over chosen numbers alone, plus tv
    TV(x). Of the paper its abstract and a public review of it were read, not its equations: that a subset of the
    gradient's elements is matched, and that the gradient of the match by the dummy data is penalised, both
    approximately. Ours is what fills this in: of every tensor the `share` of numbers of the greatest magnitude is
    matched, zeros never (what a defense has held back is not matched); the penalty is that of Zhao, Zhang and Hu
    2022, by a second slope a little uphill, blended in (`descent.Adam`). Defenses that are known are simulated
    besides, as in every search; `without` leaves whole tensors out, for those that a defense perturbs.
    """

    name: ClassVar[str] = "fedleak"
    title: ClassVar[str] = "FedLeak, a part of the gradient matched"
    cites: ClassVar[tuple[str, ...]] = (
        "Fan, Wang, Chen, Zhou 2025, Boosting Gradient Leakage Attacks: Data Reconstruction in Realistic FL Settings, "
        "USENIX Security",
        "Zhao, Zhang, Hu 2022, Penalizing Gradient Norm for Efficiently Improving Generalization in Deep Learning, "
        "ICML",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "labels", "counts", "mode", "normalisation"})
    thorough: ClassVar[bool] = True
    version: ClassVar[int] = 2

    steps: int = Field(default=1000, ge=1, description="steps of Adam, two evaluations each where blend is above 0")
    restarts: int = Field(default=1, ge=1, description="random starts a client; the one matched best is kept")
    share: float = Field(default=0.5, gt=0, le=1, description="of each tensor's numbers, the greatest, that is matched")
    without: list[str] | None = Field(default=None, description="tensors that are not matched at all, by name")
    blend: float = Field(default=0.5, ge=0, le=1, description="weight of the slope uphill; 0 for no penalty")
    reach: float = Field(default=0.1, gt=0, description="how far uphill, in the units of the coordinates")
    rate: float = Field(default=0.05, gt=0, description="of Adam, in the units of the coordinates")
    schedule: Schedule = Field(default="cosine", description="how the rate falls")
    signs: Signs = Field(default="hard", description="'hard': Adam is given the sign of the slope alone")
    objective: ObjectiveName = Field(default="cosine", description="how far two updates lie from each other")
    tv: float = Field(default=1e-3, ge=0, description="weight of total variation")
    coordinates: CoordinatesName = Field(default="natural", description="'pixels', or 'natural'")
    spread: float = Field(default=0.1, gt=0, description="of the random start")
    labels: LabelsFrom = Field(default="auto", description="'auto': told or read off; 'joint': found with the records")
    precision: Literal["single", "double"] = Field(default="single", description="of the computation")

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return matching_obstacle(knowledge) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        evaluations = self.steps * (2 if self.blend else 1)
        return matching_outlook(knowledge, update, evaluations, self.restarts, most=8)

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        dtype = PRECISIONS[self.precision]
        got = received(target, knowledge, rng, dtype, self.labels)
        got = replace(got, through=got.through.largest(got.wanted, self.share, self._left_out(knowledge)))

        def smooth(x: Tensor, numbers: Tensor, clients: Tensor) -> Tensor:
            return self.tv * total_variation(x)

        search = Search(
            coordinates=coordinates_named(self.coordinates, knowledge.spec, dtype),
            simulate=gradients_of(knowledge.net, got.mode, dtype),
            objective=OBJECTIVES[self.objective],
            optimiser=Adam(self.steps, self.rate, self.signs, self.schedule, blend=self.blend, reach=self.reach),
            penalty=smooth,
            restarts=self.restarts,
            slots=got.batch,
            spread=self.spread,
        )
        solved = solve(knowledge.net, got, search, torch_rng(rng))
        facts = self.assumed(knowledge, **got.guessed)
        matched = got.through.matched
        facts["numbers_matched"] = None if matched is None else float(matched.double().mean())
        return reconstruction(knowledge, got, solved, facts)

    def _left_out(self, knowledge: GradientKnowledge) -> list[int]:
        """The numbers of the tensors that are not matched.

        Raises:
            ConfigError: for a name that the model does not have, or where nothing would be left.
        """
        names, without = list(knowledge.net.weights()), self.without or []
        for name in without:
            if name not in names:
                raise ConfigError(f"'without' names the tensor '{name}': {did_you_mean(name, names)}")
        if len(set(without)) == len(names):
            raise ConfigError("'without' leaves out every tensor of the model: name fewer")
        return [names.index(name) for name in without]
