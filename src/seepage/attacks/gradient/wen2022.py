"""Fishing for user data: a classifier that lets one class, or the records on one side of a threshold, move the rest."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seepage.attacks.gradient.coordinates import coordinates_named
from seepage.attacks.gradient.descent import Adam
from seepage.attacks.gradient.entry import entry
from seepage.attacks.gradient.gradients import gradients_of
from seepage.attacks.gradient.kept import kept
from seepage.attacks.gradient.last import last_layer, last_layer_obstacle
from seepage.attacks.gradient.matching import Search, solve
from seepage.attacks.gradient.objectives import cosine, total_variation
from seepage.attacks.gradient.phong2017 import divided, first_layer_obstacle
from seepage.attacks.gradient.received import Received, flat
from seepage.attacks.inversion.parts import torch_rng
from seepage.core.attack import GradientAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge, Knowledge, UpdateKnowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Access, Modality
from seepage.models.federated import ClientNet
from seepage.models.last_layer import LastLayer
from seepage.models.planted import with_linear

Array = np.ndarray
Named = dict[str, Array]

# Beyond every record, in standard deviations of what is measured.
_FAR = 60.0
# Records that stand in for public ones where there are none.
_PROBES = 256
# Two records this close, in standard deviations, are the same one.
_SAME = 5e-3


@dataclass(frozen=True)
class Caught:
    """What moved a client's model: one record, or several that no threshold has told apart yet.

    Attributes:
        client: whose.
        records: how many; a fraction where a threshold cuts through one.
        measured: the mean of their measurement.
        tensors: their share of the gradient of the fished logit, by parameter.
    """

    client: int
    records: float
    measured: float
    tensors: Named = field(repr=False)

    @property
    def alone(self) -> bool:
        return abs(self.records - 1) < 0.1


@dataclass(frozen=True)
class Rod:
    """A last layer that measures one direction of the features, and how clients answer it.

    Attributes:
        net: the honest model.
        last: its last layer.
        direction: (d,) what is measured of the features: one standard deviation of it is 1.
        sharpness: by how much the fished logit rises for one standard deviation.
    """

    net: ClientNet
    last: LastLayer
    direction: Float[Array, " d"]
    sharpness: float

    def cast(self, fished: int, threshold: float) -> ClientNet:
        """The model in which the logit of class `fished` is the measurement less `threshold`, and all others are 0."""
        weight, bias = np.zeros_like(self.last.w), np.zeros_like(self.last.c)
        weight[fished] = self.sharpness * self.direction
        bias[fished] = -self.sharpness * threshold
        return with_linear(self.net, self.last.name, weight, bias)

    def caught(self, client: int, tensors: Named, unit: float) -> Caught:
        """What is in a difference of answers, `unit` being what a single record brings to the fished bias."""
        assert self.last.bias is not None
        total = float(tensors[self.last.bias][0])
        mean = tensors[self.last.weight][0] / total if total else np.zeros_like(self.direction)
        # A difference of weights points the other way.
        upright = _scaled(tensors, float(np.sign(unit)))
        return Caught(client, total / unit, float(mean @ self.direction), upright)


class Fishing(GradientAttack):
    """A malicious server alters the last layer alone, so that few records move all other layers, and inverts theirs.

    *Class fishing*: all rows of the classifier are zero but that of one class, whose logit lies far below the others.
    Records of other classes then have no gradient before the last layer, and those of this class have that
    of one and the same logit. *Feature fishing*: the logit is a feature less a threshold, steep. Records of the class
    below it are heard, and of the others those above: between two thresholds the sum changes by the gradients of the
    records that lie between, whatever their class. The bias of the fished class counts them and its row gives the mean
    of what is measured, where the next threshold parts them: as many rounds as there are records to tell apart.
    What is measured is the direction in which features of public records differ most (of random ones where there
    are none); the published attack takes one feature.

    A gradient of one record is then inverted: divided, where the first layer is fully connected, else matched by its
    direction as in `inverting-gradients`. What no threshold has told apart is divided as a batch is.
    """

    name: ClassVar[str] = "fishing"
    title: ClassVar[str] = "Fishing for classes and features (malicious server)"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.ROUNDS})
    cites: ClassVar[tuple[str, ...]] = (
        "Wen, Geiping, Fowl, Goldblum, Goldstein 2022, Fishing for User Data in Large-Batch Federated Learning via "
        "Gradient Magnification, ICML",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "mode", "normalisation", "prior"})
    version: ClassVar[int] = 2

    classes: int = Field(default=20, ge=0, description="classes fished for one by one, if there are no more; 0: none")
    thresholds: int = Field(default=24, ge=0, description="rounds with a threshold, at the most")
    sharpness: float = Field(default=1000.0, gt=0, description="logit for one standard deviation of the measurement")
    steps: int = Field(default=400, ge=1, description="steps of Adam, where gradients have to be matched")
    rate: float = Field(default=0.05, gt=0, description="of Adam")
    tv: float = Field(default=1e-3, ge=0, description="weight of total variation, in the match")

    def cost(self, knowledge: UpdateKnowledge, budget: int | None) -> int:
        """Every client answers every round."""
        return knowledge.clients * (self._one_by_one(knowledge.classes) + 2 + self.thresholds)

    def _one_by_one(self, classes: int) -> int:
        return classes if classes <= self.classes else 0

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, GradientKnowledge):
            if why := last_layer_obstacle(knowledge):
                return why
            if knowledge.assumptions.batch.value is None:
                return "it counts records, and how many a client has is not known: grant the rung 'batch'"
            last = last_layer(knowledge.net)
            if last is not None and last.bias is None:
                return f"the last layer, '{last.name}', has no bias to set a threshold with"
        return super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        told = knowledge.assumptions
        if (told.steps.value or 1) > 1:
            return Outlook(
                prospect="unlikely",
                why="the first of several local steps changes the planted layer",
                change="a single local step",
            )
        if knowledge.net is not None and knowledge.net.has_batch_norm and told.mode.value != "eval":
            return Outlook(
                prospect="unlikely",
                why="batch normalisation by the batch's statistics ties a record's gradient to the others",
                change="mode = 'eval'",
            )
        batch = told.batch.value
        rounds = self._one_by_one(knowledge.classes) + 2 + self.thresholds
        inner = "by division" if first_layer_obstacle(knowledge) is None else f"by {self.steps} steps of matching"
        return Outlook(
            prospect="expected" if batch is not None and knowledge.clients * batch <= self.thresholds else "possible",
            why=f"{rounds} rounds tell {batch or 'an unknown number of'} records of each of {knowledge.clients} "
            f"clients apart, whose gradients are then inverted {inner}",
            change="more thresholds; clients who look how far one record stands out ('inspect_received' with records)",
        )

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        last = last_layer(knowledge.net)
        if last is None or last.bias is None:
            raise ValueError("a last layer with a bias is needed; `obstacle` says so")
        rod = Rod(knowledge.net, last, self._direction(knowledge, last, rng), self.sharpness)
        one_by_one = range(self._one_by_one(knowledge.classes))
        low, high = self._answers(target, rod, 0, -_FAR), self._answers(target, rod, 0, _FAR)
        # From below all records to above them every record's residual falls by one.
        batch = int(knowledge.assumptions.batch.value or 1)
        units = [float(a[last.bias][0] - b[last.bias][0]) / batch for a, b in zip(low, high, strict=True)]
        found: list[Caught] = []
        for fished in one_by_one:
            answers = high if fished == 0 else self._answers(target, rod, fished, _FAR)
            heard = [_scaled(answer, -1.0) for answer in answers]
            caught = [rod.caught(k, _row(last, t, fished), units[k]) for k, t in enumerate(heard) if units[k]]
            found += [one for one in caught if one.alone]
        bins = self._halved(target, rod, {-_FAR: low, _FAR: high}, units)
        for one in bins:
            if not any(_same(one, other) for other in found):
                found.append(one)
        x, owner = self._inverted(rod, knowledge, found, rng)
        facts = self.assumed(knowledge) | {
            "rounds_led": target.queries / knowledge.clients,
            "records_alone": float(sum(one.alone for one in found)),
        }
        return Reconstruction(knowledge.spec.bounds.clip(x), client=owner, facts=facts)

    def _direction(self, knowledge: GradientKnowledge, last: LastLayer, rng: np.random.Generator) -> Float[Array, " d"]:
        """In which features differ most between records, one standard deviation of it being 1."""
        drawn = knowledge.spec.bounds.from_unit(rng.random((_PROBES, *knowledge.spec.shape)))
        probes = drawn if knowledge.public is None else knowledge.public.x
        with torch.no_grad():
            seen = knowledge.net.inside(last.name, torch.from_numpy(np.asarray(probes, dtype=np.float32)))[0]
        features = seen.double().numpy()
        _, spread, axes = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
        return axes[0] / max(float(spread[0]) / np.sqrt(len(features)), 1e-12)

    def _answers(self, target: Target, rod: Rod, fished: int, threshold: float) -> list[Named]:
        """What each client sends for a threshold, in double precision."""
        sent = target.round(rod.cast(fished, threshold))
        return [{name: t.astype(np.float64) for name, t in update.tensors.items()} for update in sent]

    def _halved(self, target: Target, rod: Rod, answers: dict[float, list[Named]], units: list[float]) -> list[Caught]:
        """What lies between neighbouring thresholds, after the fullest gap has been halved again and again."""
        for _ in range(self.thresholds):
            # Counting takes the last layer alone.
            split = _fullest(self._between(rod, answers, units, (rod.last.weight, rod.last.bias or "")))
            if split is None or split in answers:
                break
            answers[split] = self._answers(target, rod, 0, split)
        return [one for gap in self._between(rod, answers, units).values() for one in gap if one.records > 0.5]

    def _between(
        self, rod: Rod, answers: dict[float, list[Named]], units: list[float], names: tuple[str, ...] = ()
    ) -> dict[tuple[float, float], list[Caught]]:
        """What each client sent between neighbouring thresholds, of the parameters called `names` (all by default)."""
        edges = sorted(answers)
        return {
            (low, high): [
                rod.caught(k, _row(rod.last, _difference(answers[low][k], answers[high][k], names), 0), unit)
                for k, unit in enumerate(units)
                if unit
            ]
            for low, high in pairwise(edges)
        }

    def _inverted(
        self, rod: Rod, knowledge: GradientKnowledge, found: list[Caught], rng: np.random.Generator
    ) -> tuple[Float[Array, " n ..."], Array]:
        """Records (n, *shape) and whose they are."""
        shape = knowledge.spec.shape
        first = entry(knowledge.net) if first_layer_obstacle(knowledge) is None else None
        if first is not None and first.bias is not None:
            rows: list[Array] = []
            owner: list[int] = []
            for one in found:
                w, c = one.tensors[first.weight], one.tensors[first.bias]
                mine = divided(w, c, max(1, round(one.records)))
                rows += mine
                owner += [one.client] * len(mine)
            inputs = np.stack(rows) if rows else np.zeros((0, knowledge.spec.size))
            return first.records(inputs, shape), np.array(owner, dtype=np.int64)
        alone = [one for one in found if one.alone]
        owner = [one.client for one in alone]
        if not alone:
            return np.zeros((0, *shape)), np.array(owner, dtype=np.int64)
        return self._matched(rod, knowledge, alone, rng), np.array(owner, dtype=np.int64)

    def _matched(
        self, rod: Rod, knowledge: GradientKnowledge, alone: list[Caught], rng: np.random.Generator
    ) -> Float[Array, " n ..."]:
        """Each gradient matched by a record of its own, at the model whose fished logit lies above all others."""
        net, dtype = rod.cast(0, -_FAR), torch.float32
        mask = torch.cat([torch.from_numpy(part.reshape(-1)).to(dtype) for part in _heard(rod.last, net).values()])
        known = kept(knowledge, dtype)
        mask = mask if known is None else mask * known
        wanted = torch.stack([flat(net, Update(one.tensors), one.client).to(dtype) for one in alone]) * mask
        got = Received(
            wanted=wanted / wanted.norm(dim=1, keepdim=True).clamp_min(1e-30),
            # Any class but the fished one pulls the fished logit down by the same gradient.
            labels=np.ones((len(alone), 1), dtype=np.int64),
            batch=1,
            mode=knowledge.assumptions.mode.value or "eval",
            kept=mask,
        )

        def smooth(x: Tensor, numbers: Tensor, clients: Tensor) -> Tensor:
            return self.tv * total_variation(x)

        search = Search(
            coordinates=coordinates_named("natural", knowledge.spec, dtype),
            simulate=gradients_of(net, got.mode, dtype),
            objective=cosine,
            optimiser=Adam(self.steps, self.rate, "hard", "cosine"),
            penalty=smooth,
            spread=0.1,
        )
        return np.nan_to_num(solve(net, got, search, torch_rng(rng)).x.reshape(-1, *knowledge.spec.shape))


def _difference(one: Named, other: Named, names: tuple[str, ...] = ()) -> Named:
    return {name: one[name] - other[name] for name in names or one}


def _scaled(tensors: Named, by: float) -> Named:
    return {name: by * tensor for name, tensor in tensors.items()}


def _row(last: LastLayer, tensors: Named, fished: int) -> Named:
    """The tensors with the last layer's row of the fished class as its first, and zero for the others.

    The other rows hear all records.
    """
    assert last.bias is not None
    weight, bias = np.zeros_like(tensors[last.weight]), np.zeros_like(tensors[last.bias])
    weight[0], bias[0] = tensors[last.weight][fished], tensors[last.bias][fished]
    return {**tensors, last.weight: weight, last.bias: bias}


def _heard(last: LastLayer, net: ClientNet) -> Named:
    """1 for the parameters that caught records alone have moved, 0 for the rows of other classes."""
    ones = {name: np.ones(tuple(w.shape)) for name, w in net.weights().items()}
    return _row(last, ones, 0)


def _same(one: Caught, other: Caught) -> bool:
    """Whether two catches are one record of one client."""
    return one.client == other.client and one.alone and abs(one.measured - other.measured) < _SAME


def _fullest(gaps: dict[tuple[float, float], list[Caught]]) -> float | None:
    """The threshold that halves the gap with the most records that are not alone; None where all are alone."""
    crowded = {edges: [one for one in caught if one.records > 1.5] for edges, caught in gaps.items()}
    low, high = max(crowded, key=lambda edges: sum(one.records - 1 for one in crowded[edges]))
    if not crowded[low, high]:
        return None
    inside = [one.measured for one in crowded[low, high] if low < one.measured < high]
    return float(np.median(inside)) if inside else (low + high) / 2
