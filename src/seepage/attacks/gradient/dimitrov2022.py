"""Data leakage in federated averaging: several local steps, simulated and matched."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from seepage.attacks.gradient.coordinates import CoordinatesName, coordinates_named
from seepage.attacks.gradient.descent import Adam, Schedule, Signs
from seepage.attacks.gradient.gradients import gradients_of
from seepage.attacks.gradient.local_steps import LocalSteps
from seepage.attacks.gradient.matching import Search, Simulated, Solved, reconstruction, solve
from seepage.attacks.gradient.objectives import OBJECTIVES, ObjectiveName, total_variation
from seepage.attacks.gradient.outlooks import matching_obstacle, steps_outlook
from seepage.attacks.gradient.received import LabelsFrom, received
from seepage.attacks.inversion.parts import torch_rng
from seepage.core.attack import GradientAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Modality

Array = np.ndarray
NEEDED = ("rate", "epochs", "local_batch", "batch")


class FedAvgMatching(GradientAttack):
    """The change of weights after several local steps, matched by simulating them.

    min over records of the objective between what E passes of SGD in batches over them make of the model's weights, and
    what was sent, plus tv TV(x). The order in which the client took its records is not known: with `copies` every
    pass has records of its own, held together by `order_weight` times the squared difference between passes of the
    mean and the greatest value of each pixel, which no order changes (section 4.2); the copies are matched in the end
    and averaged. Labels, where they are known or read off, are dealt to the steps as they come: which step had
    which is not known. An update of one step is matched as its gradient.
    """

    name: ClassVar[str] = "fedavg-matching"
    title: ClassVar[str] = "FedAvg, local steps simulated"
    cites: ClassVar[tuple[str, ...]] = (
        "Dimitrov, Balunovic, Konstantinov, Vechev 2022, Data Leakage in Federated Averaging, TMLR",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    uses: ClassVar[frozenset[str]] = frozenset(
        {"batch", "labels", "counts", "rate", "local_batch", "steps", "epochs", "mode", "optimiser", "normalisation"}
    )
    thorough: ClassVar[bool] = True
    version: ClassVar[int] = 3

    steps: int = Field(default=600, ge=1, description="steps of Adam")
    restarts: int = Field(default=2, ge=1, description="random starts a client; the one matched best is kept")
    rate: float = Field(default=0.05, gt=0, description="of Adam, in the units of the coordinates")
    schedule: Schedule = Field(default="cosine", description="how the rate falls")
    signs: Signs = Field(default="hard", description="'hard': Adam is given the sign of the slope alone")
    objective: ObjectiveName = Field(default="cosine", description="how far two updates lie from each other")
    tv: float = Field(default=1e-3, ge=0, description="weight of total variation")
    copies: bool = Field(default=False, description="whether every pass has records of its own; true as published")
    order_weight: float = Field(default=0.1, ge=0, description="weight of what no order of the records changes")
    coordinates: CoordinatesName = Field(default="natural", description="'pixels' as published, or 'natural'")
    spread: float = Field(default=0.1, gt=0, description="of the random start; 1 as published")
    labels: LabelsFrom = Field(default="auto", description="'auto': told or read off; 'joint': found with the records")

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, GradientKnowledge):
            told = knowledge.assumptions
            missing = [name for name in NEEDED if getattr(told, name).value is None]
            if missing and (told.steps.value != 1 or "batch" in missing):
                return (
                    f"it simulates the client's steps and is not told its {', '.join(missing)} ([federated], or "
                    "arguments); what can still be tried needs none of them: 'linear-layer' (division), labels from "
                    "signs ('llg'), and 'inverting-gradients' (the direction of one gradient)"
                )
            if told.optimiser.value not in (None, "sgd"):
                return f"it simulates plain SGD, and the client's optimiser is '{told.optimiser.value}'"
        return matching_obstacle(knowledge) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        return steps_outlook(knowledge, update, self.obstacle(knowledge, None), self.steps, self.restarts)

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        told = knowledge.assumptions
        several = told.steps.value != 1
        got = received(target, knowledge, rng, torch.float32, self.labels, whole=several)
        passes = int(told.epochs.value or 1) if several else 1
        # A single record has no order.
        own = self.copies and passes > 1 and got.batch > 1
        simulate: Simulated = gradients_of(knowledge.net, got.mode)
        if several:
            simulate = LocalSteps(
                knowledge.net, got.mode, got.batch, int(told.local_batch.value), passes, float(told.rate.value)
            )

        def held(x: Tensor, numbers: Tensor, clients: Tensor) -> Tensor:
            cost = self.tv * total_variation(x)
            return cost + self.order_weight * between_passes(x, passes) if own else cost

        search = Search(
            coordinates=coordinates_named(self.coordinates, knowledge.spec, torch.float32),
            simulate=simulate,
            objective=OBJECTIVES[self.objective],
            optimiser=Adam(self.steps, self.rate, self.signs, self.schedule),
            penalty=held,
            restarts=self.restarts,
            slots=got.batch * (passes if own else 1),
            spread=self.spread,
        )
        solved = solve(knowledge.net, got, search, torch_rng(rng))
        if own:
            solved = merged(solved, passes)
        facts = self.assumed(knowledge, **got.guessed)
        facts["local_steps_simulated"] = float(told.steps.value or passes)
        return reconstruction(knowledge, got, solved, facts)


def between_passes(x: Float[Tensor, " p s ..."], passes: int) -> Float[Tensor, " p"]:
    """How far what no order changes differs between passes: mean square over passes and values, mean and maximum."""
    apart = x.unflatten(1, (passes, -1))
    cost = x.new_zeros(len(x))
    for told in (apart.mean(dim=2), apart.amax(dim=2)):
        cost = cost + (told - told.mean(dim=1, keepdim=True)).pow(2).flatten(1).mean(1)
    return cost


def merged(solved: Solved, passes: int) -> Solved:
    """The copies of each pass matched one to one with the first pass's, by squared distance, and averaged."""
    clients, slots = solved.x.shape[:2]
    apart = solved.x.reshape(clients, passes, slots // passes, *solved.x.shape[2:])
    means = np.stack([np.mean([_aligned(one, mine[0]) for one in mine], axis=0) for mine in apart])
    return replace(solved, x=means, labels=solved.labels[:, : slots // passes])


def _aligned(x: Float[Array, " b ..."], like: Float[Array, " b ..."]) -> Float[Array, " b ..."]:
    flat, wanted = x.reshape(len(x), -1), like.reshape(len(like), -1)
    cost = (wanted**2).sum(1)[:, None] + (flat**2).sum(1)[None] - 2 * wanted @ flat.T
    return x[linear_sum_assignment(cost)[1]]
