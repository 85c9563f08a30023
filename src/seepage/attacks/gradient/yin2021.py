"""GradInversion: gradients matched, held to the statistics of batch normalisation and to each other."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from seepage.attacks.gradient.coordinates import CoordinatesName, coordinates_named
from seepage.attacks.gradient.descent import Adam, Schedule, Signs
from seepage.attacks.gradient.gradients import Gradients, Stacked, gradients_of, stacked_of
from seepage.attacks.gradient.matching import Search, reconstruction, solve
from seepage.attacks.gradient.objectives import OBJECTIVES, ObjectiveName, apart, total_variation
from seepage.attacks.gradient.outlooks import matching_obstacle, matching_outlook
from seepage.attacks.gradient.received import LabelsFrom, received
from seepage.attacks.inversion.parts import torch_rng
from seepage.core.attack import GradientAttack
from seepage.core.errors import DataError
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Modality
from seepage.models.federated import ClientNet

Array = np.ndarray
# One row a client: (k, channels) of means and of variances, for each layer of batch normalisation.
Statistics = Mapping[str, tuple[Tensor, Tensor]]


class GradInversion(GradientAttack):
    """Matched gradients with three priors: smoothness, batch normalisation's statistics, and agreement of seeds.

    min of the objective + tv TV(x) + statistics_weight R(x) + group_weight |x - mean over seeds|^2. R is, over the
    layers, |mean(x) - mean|^2 + |var(x) - var|^2, in units of |mean|^2 and |var|^2. The paper takes the statistics of
    the private batch for granted: here only where the rung `statistics` is told; else those that the model keeps, if
    it was ever trained, which are of all clients. The mean over seeds is taken pixel by pixel, the paper's
    registration of the seeds and its noise in each step are left out, and distances are relative, for what
    serves one network as a weight does not serve another.
    """

    name: ClassVar[str] = "grad-inversion"
    title: ClassVar[str] = "GradInversion"
    cites: ClassVar[tuple[str, ...]] = (
        "Yin, Mallya, Vahdat, Alvarez, Kautz, Molchanov 2021, See through Gradients: Image Batch Recovery via "
        "GradInversion, CVPR",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE})
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "labels", "counts", "mode", "statistics", "normalisation"})
    thorough: ClassVar[bool] = True
    version: ClassVar[int] = 3

    steps: int = Field(default=1000, ge=1, description="steps of Adam (20,000 as published)")
    restarts: int = Field(default=4, ge=1, description="seeds a client, held together; the one matched best is kept")
    rate: float = Field(default=0.05, gt=0, description="of Adam, in the units of the coordinates")
    schedule: Schedule = Field(default="cosine", description="how the rate falls: 'cosine' as published")
    signs: Signs = Field(default="hard", description="'hard': Adam is given the sign of the slope alone")
    objective: ObjectiveName = Field(default="relative", description="how far two updates lie from each other")
    tv: float = Field(default=1e-3, ge=0, description="weight of total variation")
    statistics_weight: float = Field(default=0.1, ge=0, description="weight of the statistics of batch normalisation")
    group_weight: float = Field(default=0.01, ge=0, description="weight of the distance of seeds from their mean")
    coordinates: CoordinatesName = Field(default="natural", description="'pixels' as published, or 'natural'")
    spread: float = Field(default=0.1, gt=0, description="of the random start; 1 as published")
    labels: LabelsFrom = Field(default="auto", description="'auto': told or read off; 'joint': found with the records")

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return matching_obstacle(knowledge) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        return matching_outlook(knowledge, update, self.steps, self.restarts, most=8)

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        net: ClientNet = knowledge.net
        got = received(target, knowledge, rng, torch.float32, self.labels)
        wanted, said = statistics(knowledge)
        stacked = stacked_of(net, got.mode, statistics=True) if wanted else None
        simulate: Gradients = gradients_of(net, got.mode) if stacked is None else stacked

        def held(x: Tensor, numbers: Tensor, clients: Tensor) -> Tensor:
            cost = self.tv * total_variation(x)
            if self.restarts > 1:
                cost = cost + self.group_weight * apart(x.unflatten(0, (-1, self.restarts))).flatten()
            if stacked is not None:
                cost = cost + self.statistics_weight * _off(stacked, wanted, clients)
            return cost

        search = Search(
            coordinates=coordinates_named(self.coordinates, knowledge.spec, torch.float32),
            simulate=simulate,
            objective=OBJECTIVES[self.objective],
            optimiser=Adam(self.steps, self.rate, self.signs, self.schedule),
            penalty=held,
            restarts=self.restarts,
            slots=got.batch,
            spread=self.spread,
        )
        solved = solve(net, got, search, torch_rng(rng))
        facts = self.assumed(knowledge, **got.guessed)
        facts["batch_norm_prior"] = said if stacked is not None or not wanted else "none: the network's layers hide it"
        return reconstruction(knowledge, got, solved, facts)


def statistics(knowledge: GradientKnowledge) -> tuple[Statistics, str]:
    """The statistics of batch normalisation that the adversary goes by, and where they come from.

    Raises:
        DataError: when those told are not of this network.
    """
    net: ClientNet = knowledge.net
    layers = [name[: -len(".running_mean")] for name in net.buffers() if name.endswith(".running_mean")]
    if not layers:
        return {}, "none: no batch normalisation"
    told: Sequence[Mapping[str, Array]] | None = knowledge.assumptions.statistics.value
    if told is not None:
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for name in layers:
            lacking = [side for side in ("mean", "var") if any(f"{name}.{side}" not in one for one in told)]
            if lacking:
                raise DataError(f"statistics of '{name}.{lacking[0]}' were wanted for every client, and are missing")
            mean, var = (
                torch.from_numpy(np.stack([one[f"{name}.{side}"] for one in told])) for side in ("mean", "var")
            )
            found[name] = (mean.float(), var.float())
        return found, "statistics of the private batch"
    kept = net.buffers()
    if not any(bool(kept[f"{name}.running_mean"].any()) for name in layers):
        return {}, "none: the model was never trained, and the batch's statistics are not known"
    running = {
        name: tuple(kept[f"{name}.running_{side}"].expand(knowledge.clients, -1) for side in ("mean", "var"))
        for name in layers
    }
    return {name: (pair[0], pair[1]) for name, pair in running.items()}, "running statistics of the model"


def _off(stacked: Stacked, wanted: Statistics, clients: Tensor) -> Tensor:
    """How far the records of each problem are from the statistics: the mean over the layers."""
    costs: list[Tensor] = []
    for name, layer in stacked.normalisations.items():
        for seen, aim in zip((layer.mean, layer.var), wanted[name], strict=True):
            off = (seen - aim[clients]).pow(2).sum(1)
            costs.append(off / aim[clients].pow(2).sum(1).clamp_min(1e-6))
    return torch.stack(costs).mean(0)
