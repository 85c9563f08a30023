"""From the gradient of a fully connected layer to its inputs: directions scaled, confirmed and settled by the network.

What `spear` and `cocktail-party` share once directions are found, however they were.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from seepage.attacks.gradient.entry import Entry
from seepage.attacks.gradient.low_rank import Factors, factorise
from seepage.attacks.gradient.phong2017 import divided
from seepage.attacks.gradient.record_columns import MIXED, Behind, among_mixtures, mixtures
from seepage.attacks.gradient.sparse_columns import Search
from seepage.core.victim import Update
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
