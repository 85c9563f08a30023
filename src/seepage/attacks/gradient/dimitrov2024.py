"""Exact batches from the gradient of a fully connected layer with ReLU: SPEAR."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from scipy.stats import norm

from seepage.attacks.gradient.entry import Entry, entry
from seepage.attacks.gradient.low_rank import Factors, factorise
from seepage.attacks.gradient.phong2017 import divided, first_layer_obstacle
from seepage.attacks.gradient.record_columns import MIXED, Behind, among_mixtures, mixtures
from seepage.attacks.gradient.row_sets import TESTED
from seepage.attacks.gradient.sparse_columns import Search
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

# Agreement of signs below which a record is not taken for found.
AGREED = 0.99
# The share of a record's column outside the space of the gradient below which its direction is taken from it, and
# by how much the two may differ then; what is called determined fits as well as rounding and noise let it.
FITS = 1e-3
# Turns, beyond one a record, in which directions and records settle each other.
SETTLING = 8
# Shares of the draws after which the network is asked, from the first.
SHARES = (32, 8, 1)
# How many directions are doubted, one at a time, those whose zeros a plane parts worst.
DOUBTED = 3
# How often directions that disagree are given up and drawn for again.
ROUNDS = 12
# Seconds a set of rows takes, roughly, on one core.
SECONDS_A_SET = 1e-4


@dataclass(frozen=True)
class Layer:
    """The first layer, as the server sent it and as its gradient came back.

    Attributes:
        weight: (m, d) its weights.
        bias: (m,) its biases.
        d_weight, d_bias: their gradients, or their changes in one local step.
    """

    weight: Float[Array, " m d"]
    bias: Float[Array, " m"]
    d_weight: Float[Array, " m d"]
    d_bias: Float[Array, " m"]

    @classmethod
    def read(cls, net: ClientNet, first: Entry, update: Update) -> "Layer":
        """The layer of a network and an update of it.

        Raises:
            DataError: for tensors that are missing, of other shapes or not finite.
        """
        held = net.weights(torch.float64)
        weight, bias = held[first.weight].numpy().reshape(first.width, -1), held[str(first.bias)].numpy()
        d_weight, d_bias = update.tensor(first.weight, weight.shape), update.tensor(str(first.bias), bias.shape)
        return cls(weight, bias, d_weight, d_bias.astype(np.float64))

    def positive(self, factors: Factors) -> Float[Array, " m"]:
        """(m,) how far above zero each live neuron's input lies for a mean record, in units of its spread.

        The mean is told by the gradient: the record whose multiples of the bias gradient are closest to it.
        """
        live = factors.live
        g, c = self.d_weight[live].astype(np.float64), self.d_bias[live]
        mean = g.T @ c / max(float(c @ c), 1e-300)
        spread = np.linalg.norm(self.weight[live] @ factors.right.T, axis=1)
        return (self.weight[live] @ mean + self.bias[live]) / np.maximum(spread, 1e-300)

    def sides(self, factors: Factors) -> Float[Array, " m k"]:
        """(m, b + 1) an orthonormal basis of the inputs that live neurons can have."""
        live = factors.live
        return np.linalg.qr(np.column_stack([self.weight[live] @ factors.right.T, self.bias[live]]))[0]


@dataclass(frozen=True)
class Solution:
    """What was found of one update.

    Attributes:
        inputs: (n, d) of the layer.
        agreement: (n,) share of the neurons whose input has the sign that the zeros of the gradient call for.
        rank: of the gradient.
        found: how many directions are determined: confirmed by the network, where it was asked.
        drawn: sets of rows drawn for them.
        labels: (n,) of the records, where the network told them.
    """

    inputs: Float[Array, " n d"]
    agreement: Float[Array, " n"]
    rank: int
    found: int
    drawn: int
    labels: Int[Array, " n"] | None = None


class Spear(GradientAttack):
    """Recovers whole batches exactly, from the rank of a gradient and the sparsity that ReLU gives it.

    The gradient of the first layer's weights is D X, with X the batch and D zero wherever a neuron is off for a
    record. Its singular vectors are D up to an invertible matrix Q, whose columns are the directions that make
    many entries zero. They are found from small sets of rows that are all zero for one record, checked against
    all rows, and scaled by the gradient of the biases; the batch follows, X = Q^-1 S V. The signs of W X + c
    against the zeros of D tell whether it is right (lambda in the paper), without knowing the batch.

    How rows are drawn is this project's own: one inverse of b rows serves b (b - 1) / 2 subsets; rows that are
    likely off, by the mean record and by the records already found, are drawn more often; zeros shared by
    several records lead to each of them; and the zeros have to lie on one side of a plane through the weights.
    The last direction need not be drawn for: its record is what is orthogonal to all others, and tells its
    column through the rest of the network. So does every other record once it is right, which settles what zeros leave
    open (a record whose neurons that are off are all off for another one), names the label of each, and proves
    the batch by the update alone.

    Attributes:
        samples: sets of rows drawn for a client at the most.
    """

    name: ClassVar[str] = "spear"
    title: ClassVar[str] = "Exact batches by ReLU sparsity"
    cites: ClassVar[tuple[str, ...]] = (
        "Dimitrov, Baader, Mueller, Vechev 2024, SPEAR: Exact Gradient Inversion of Batches in Federated Learning, "
        "NeurIPS",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "mode", "normalisation"})
    version: ClassVar[int] = 2

    samples: int = Field(default=200_000, ge=128, description="sets of rows drawn for a client at the most")

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, GradientKnowledge) and (why := _architecture(knowledge)):
            return why
        return super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        if why := _architecture(knowledge):
            return Outlook(prospect="impossible", why=why, change="a fully connected first layer with bias and ReLU")
        steps = knowledge.assumptions.steps.value
        if update.kind == "delta" and (steps is None or steps > 1):
            told = f"the update sums {steps or 'an unknown number of'} local steps, each at other weights"
            return Outlook(prospect="unlikely", why=told, change="a single local step")
        first = entry(knowledge.net)
        assert first is not None
        return _expected(Layer.read(knowledge.net, first, update), knowledge.assumptions.batch.value)

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        first = entry(knowledge.net)
        if first is None or first.bias is None:
            raise DataError("a first layer with a bias was wanted; `obstacle` says so before a run")
        batch = knowledge.assumptions.batch.value
        # Batch normalisation by the batch's own statistics ties the records: none has a gradient of its own.
        tied = knowledge.net.has_batch_norm and knowledge.assumptions.mode.value != "eval"
        behind = None if tied else Behind(knowledge.net, first)
        solved: list[Solution] = []
        for client in range(knowledge.clients):
            layer = Layer.read(knowledge.net, first, target.update(client))
            solved.append(solve(layer, batch, self.samples, rng.spawn(1)[0], behind))
        inputs = np.concatenate([s.inputs for s in solved])
        spec = knowledge.spec
        # In double precision: what is exact to 300 dB should not end at the 150 of single precision.
        x = np.clip(first.records(inputs, spec.shape), spec.bounds.low, spec.bounds.high)
        owner = np.repeat(np.arange(len(solved)), [len(s.inputs) for s in solved])
        whole = [0 < s.rank == s.found and bool((s.agreement >= AGREED).all()) for s in solved]
        facts: dict[str, float | str | None] = {
            "rank_median": float(np.median([s.rank for s in solved])),
            "clients_solved": float(sum(whole)),
            "sets_drawn": float(sum(s.drawn for s in solved)),
            "sign_agreement": float(np.mean([s.agreement.mean() if len(s.agreement) else 0.0 for s in solved])),
        }
        guessed = {} if batch is not None else {"batch": int(np.median([s.rank for s in solved]))}
        labels = [s.labels for s in solved if s.labels is not None]
        notes = () if all(whole) else (_unsolved(solved, whole),)
        return Reconstruction(
            x,
            labels=np.concatenate(labels) if len(labels) == len(solved) else None,
            confidence=np.concatenate([s.agreement for s in solved]),
            client=owner,
            notes=notes,
            facts=facts | self.assumed(knowledge, **guessed),
        )


def solve(
    layer: Layer, batch: int | None, samples: int, rng: np.random.Generator, behind: Behind | None = None
) -> Solution:
    """The inputs of a layer from its gradients.

    Args:
        layer: weights and gradients.
        batch: how many records there are at the most; None takes the rank of the gradient.
        samples: sets of rows drawn at the most.
        rng: draws them.
        behind: the network behind the layer, where each record has a gradient of its own there.
    """
    factors = factorise(layer.d_weight, batch)
    b = factors.rank
    empty = Solution(np.zeros((0, layer.weight.shape[1])), np.zeros(0), b, 0, 0)
    if b == 0 or len(factors.live) < b or not np.abs(layer.d_bias).max(initial=0.0) > 0:
        return empty
    search = Search(factors, layer.positive(factors), layer.sides(factors))
    best = empty
    if behind is not None:
        for share in SHARES:
            search.run(samples // share, rng, spare=1)
            best = most_confirmed(layer, search, behind, rng)
            if best.found == b:
                return best
    for _ in range(ROUNDS):
        search.run(samples, rng)
        if len(search.found) < b - 1:
            break
        made = completed(layer, search) if behind is None else most_confirmed(layer, search, behind, rng)
        if not len(best.inputs) or (made.found, made.agreement.mean()) > (best.found, best.agreement.mean()):
            best = made
        wrong = np.nonzero(made.agreement < AGREED)[0]
        if not len(wrong) or not search.complete:
            break
        search.drop(wrong)
    if len(best.inputs):
        return best
    # Records that have neurons of their own are still to be had, by division.
    alone = divided(layer.d_weight, layer.d_bias, b)
    inputs = np.stack(alone) if alone else empty.inputs
    return Solution(inputs, np.zeros(len(inputs)), b, len(search.found), search.drawn)


def most_confirmed(layer: Layer, search: Search, behind: Behind, rng: np.random.Generator) -> Solution:
    """The solution with the most records that the network confirms: by all directions, or without a doubtful one."""
    best = _confirmed(layer, search.factors, search.found, search.drawn, behind, rng)
    if best.found == search.factors.rank or len(search.found) <= search.factors.rank - MIXED:
        return best
    for row in search.doubtful()[:DOUBTED]:
        rest = search.found[:row] + search.found[row + 1 :]
        made = _confirmed(layer, search.factors, rest, search.drawn, behind, rng)
        best = made if made.found > best.found else best
        if best.found == search.factors.rank:
            break
    return best


def _confirmed(
    layer: Layer, factors: Factors, directions: list[Array], drawn: int, behind: Behind, rng: np.random.Generator
) -> Solution:
    """The inputs that directions give, each told anew by the network where its own record comes out right.

    Where a direction is missing, or is wrong by parts of others (a record whose neurons that are off are all off for
    another one leaves that open), its own record is right for all that: it is what is orthogonal to the other
    directions. The record then tells its column, through the network and with the label under which the column
    lies in the space of the gradient; and other records come out right in turn. Where two or three are missing,
    their records are sought among the mixtures that are left. A record counts as determined when its column is
    that of its direction.
    """
    b, found = factors.rank, list(directions)
    while 1 < b - len(found) <= MIXED:
        told = among_mixtures(mixtures(factors, np.array(found).reshape(-1, b), layer.d_bias), factors, behind, rng)
        if told is None or not _independent([*found, told], factors):
            break
        found.append(told)
    if len(found) < b - 1:
        return Solution(np.zeros((0, layer.weight.shape[1])), np.zeros(0), b, 0, drawn)
    if len(found) < b:
        found.append(np.linalg.svd(np.array(found).reshape(-1, b))[2][-1])
    q = np.array(found)
    best, nearest = Solution(np.zeros((0, layer.weight.shape[1])), np.zeros(0), b, 0, drawn), np.inf
    for _ in range(b + SETTLING):
        inputs, agreement = _scaled(layer, factors, q.T)
        told = behind.told(inputs, factors)
        # The sine of the angle: a cosine would hide what is small.
        sign = np.where((told.direction * q).sum(axis=1) < 0, -1.0, 1.0)
        differs = np.linalg.norm(told.direction - sign[:, None] * q, axis=1)
        fits = told.apart < max(FITS, 10 * factors.coarse)
        sure = int(((told.apart < 10 * factors.coarse) & (differs < max(FITS, factors.near))).sum())
        furthest = float(np.where(fits, differs, np.inf).max())
        if not len(best.inputs) or (-sure, furthest) < (-best.found, nearest):
            best, nearest = Solution(inputs, agreement, b, sure, drawn, told.label), furthest
        if furthest < factors.near or not (fits & (differs >= factors.near)).any():
            break
        q = np.where((fits & (differs >= factors.near))[:, None], told.direction, q)
        if not _independent(list(q), factors):
            break
    return best


def _independent(directions: list[Array], factors: Factors) -> bool:
    """Whether none of the directions is a mixture of the others."""
    return bool(np.linalg.svd(np.array(directions), compute_uv=False)[-1] > factors.near * 1e-3)


def completed(layer: Layer, search: Search) -> Solution:
    """The inputs that the directions give, one direction at the most missing.

    Where one direction is missing, or wrong by a part of another, its own record comes out right for all that:
    it is what is orthogonal to all other directions. The neurons that it leaves off then tell its direction.
    """
    factors, found = search.factors, list(search.found)
    b, sure = factors.rank, len(found)
    if not search.complete:
        found.append(np.linalg.svd(np.array(found).reshape(-1, b))[2][-1])
    inputs, agreement = _scaled(layer, factors, np.array(found).T)
    first = Solution(inputs, agreement, b, sure, search.drawn)
    weight, bias = layer.weight[factors.live], layer.bias[factors.live]
    for row in np.nonzero(agreement < AGREED)[0]:
        others = np.array(found[:row] + found[row + 1 :]).reshape(-1, b)
        told = search.closed(inputs[row] @ weight.T + bias <= 0, others)
        if told is not None:
            found[row], only = told
            sure += int(only and row >= len(search.found))
    better, agreed = _scaled(layer, factors, np.array(found).T)
    return Solution(better, agreed, b, sure, search.drawn) if agreed.mean() >= agreement.mean() else first


def _scaled(layer: Layer, factors: Factors, q: Float[Array, " b b"]) -> tuple[Float[Array, " b d"], Float[Array, " b"]]:
    """The inputs, directions scaled so that the columns of D sum to the gradient of the biases; and lambda of each."""
    live = factors.live
    scale = np.linalg.lstsq(factors.left @ q, layer.d_bias[live], rcond=None)[0]
    scale = np.where(np.abs(scale) > 1e-300, scale, 1e-300)
    inputs = np.linalg.solve(q, factors.singular[:, None] * factors.right) / scale[:, None]
    off = inputs @ layer.weight[live].T + layer.bias[live] <= 0
    zeros = np.array([np.abs(factors.unit @ one) < factors.tolerance(one) for one in q.T])
    return inputs, (off == zeros).mean(axis=1)


def rectified(net: ClientNet, first: Entry) -> bool:
    """Whether neurons of a layer that are off get no gradient, and those that are on do: tried on a record."""
    shape, bounds = net.spec.shape, net.spec.bounds
    low, high = np.broadcast_to(bounds.low, shape), np.broadcast_to(bounds.high, shape)
    record = np.random.default_rng(0).random((1, *shape)) * (high - low) + low
    x = torch.from_numpy(record.astype(np.float64))
    slope = net.gradient(x, torch.zeros(1, dtype=torch.long))
    held = net.weights(torch.float64)
    seen = net.inside(first.name, x)[0].detach().reshape(-1)
    before = held[first.weight].reshape(first.width, -1) @ seen + held[str(first.bias)]
    moved = slope[str(first.bias)].detach() != 0
    off = before < 0
    return bool(off.any() and not moved[off].any() and moved[before > 0].any())


def _architecture(knowledge: GradientKnowledge) -> str | None:
    """Why the model cannot be attacked this way, or None when it can."""
    if why := first_layer_obstacle(knowledge):
        return why
    first = entry(knowledge.net)
    assert first is not None
    if not rectified(knowledge.net, first):
        return f"neurons of the first layer, '{first.name}', are never exactly off: it needs a ReLU behind them"
    return None


def _expected(layer: Layer, batch: int | None) -> Outlook:
    """The outlook from an update's shapes and rank, and from how many neurons the mean record leaves off."""
    factors = factorise(layer.d_weight, batch)
    b, live, (m, d) = factors.rank, len(factors.live), layer.weight.shape
    if b == 0:
        return Outlook(prospect="impossible", why="the first layer's gradient is zero", change="an update of records")
    figures = f"rank {b} of a gradient of {m} neurons ({live} live) and {d} inputs"
    if b > 0.8 * min(live, d) or len(factors.distinct) < b + TESTED:
        return Outlook(
            prospect="unlikely",
            why=f"{figures}: no room is left for zeros to be told from accident",
            change="a smaller batch or a wider first layer; noise on the update raises the rank",
        )
    if batch is not None and b < batch:
        return Outlook(
            prospect="unlikely",
            why=f"{figures}, fewer than the {batch} records: unless records are the same, those cannot be told apart",
            change="records that no mixture of the others makes, and that each move some neuron",
        )
    off = norm.cdf(-layer.positive(factors))
    likely = np.sort(off)[::-1][: 8 * (b + TESTED)].mean()
    sets = np.log(b + 1) / (max(b - 1, 1) * b / 2 * likely ** max(b - 2, 0))
    seconds = 0.1 + SECONDS_A_SET * sets
    why = (
        f"{figures}; about {off.mean():.0%} of the live neurons are off for a record; a plain search takes about "
        f"{2.0 ** (b - 1) * max(np.log(b), 1):.2g} draws, this one {sets:.2g} inverses where no two records are alike"
    )
    prospect = "expected" if seconds < 60 and b > 0 else "possible" if seconds < 3600 else "unlikely"
    change = (
        "half the batch (each record fewer halves the draws)"
        if prospect != "expected"
        else ("a batch of 30 or more, an activation other than ReLU, noise, or several local steps")
    )
    return Outlook(prospect=prospect, why=why, change=change, seconds=round(float(min(seconds, 1e9)), 1))


def _unsolved(solved: list[Solution], whole: list[bool]) -> str:
    left = [(k, s) for k, (s, ok) in enumerate(zip(solved, whole, strict=True)) if not ok]
    told = ", ".join(f"client {k}: {s.found} of {s.rank} directions" for k, s in left[:5])
    return (
        f"{len(left)} of {len(solved)} updates were not solved ({told}): what is shown of them is what single neurons "
        "give, or disagrees with the signs of the layer"
    )
