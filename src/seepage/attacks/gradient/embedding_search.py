"""Texts searched for in the space of embeddings, so that their gradient would be the one that was sent."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from seepage.attacks.gradient.embedded import AT_ONCE, Embedded
from seepage.attacks.gradient.heard import Heard
from seepage.attacks.gradient.text_distances import Distance, layerwise_l2_l1

# Ways of sharing out classes among texts, up to which they are all tried.
SUPPOSED = 64
# At a step, embeddings (p, b, t, d) and classes (p, b, c) of the clients (p,) to embeddings with their tokens moved.
Moves = Callable[[int, "Search", Tensor, Tensor | None, Tensor], Tensor]


@dataclass(frozen=True)
class Descent:
    """How embeddings are moved.

    Attributes:
        steps: of Adam.
        rate: its rate.
        factor: of the rate at a step.
        decay: weight decay, apart from the slope (Loshchilov and Hutter 2019).
        clip: the longest slope of a problem; None for any.
        norm: the length of the starting embeddings; None leaves chance ones as they are.
        regular: weight of the penalty on the mean length of embeddings, which should be that of the vocabulary's.
        candidates: chance starts, of which the best is taken, and as many orders of its tokens.
        suppose: classes that were not told are supposed, another guess a restart, and not searched for.
    """

    steps: int
    rate: float
    factor: Callable[[int], float]
    decay: float = 0.0
    clip: float | None = None
    norm: bool = False
    regular: float = 0.0
    candidates: int = 1
    suppose: bool = False


class Search:
    """The search for the texts of clients who sent alike, all of them and all restarts at once.

    A problem is one restart of one client; none hangs on the others.

    Args:
        simulate: gradients by embeddings.
        heard: what each client sent, all of one shape (`Heard.shape`).
        distance: between gradients.
        classes: how many there are; 0 for next tokens.
    """

    def __init__(self, simulate: Embedded, heard: Sequence[Heard], distance: Distance, classes: int):
        self.simulate, self.distance, self.classes, self.clients = simulate, distance, classes, len(heard)
        # The shape that all share; what differs is asked for by client.
        self.got = heard[0]
        self._wanted = {name: torch.stack([got.wanted[name] for got in heard]) for name in self.got.wanted}
        self._allowed = torch.stack([got.allowed for got in heard])[:, None, None]
        told = [got.labels for got in heard if got.labels is not None]
        self._told = torch.from_numpy(np.stack(told)) if told else None
        self.together = together(simulate)
        # The usual length of an embedding: what the published 1.4 is of BERT's.
        self.size = float(simulate.table.norm(dim=-1).mean())

    def told(self, owner: Int[Tensor, " p"]) -> Float[Tensor, " p b c"] | None:
        """The classes told of each problem's client, as distributions; None where they were not, or there are none."""
        return None if self._told is None else functional.one_hot(self._told[owner], self.classes).float()

    def supposed(
        self, plan: Descent, owner: Int[Tensor, " p"], draws: torch.Generator
    ) -> Float[Tensor, " p b c"] | None:
        """Classes for each problem: of its client's guesses, the likeliest for its first restart, and so on.

        Guesses are all the ways in which classes can be shared out among texts, which have no order of their own. They
        are ranked by how far the gradients of chance texts lie from the one sent, on average: the last layer hears the
        classes of any text. By their length too, where its scale is known: of classes that are not all the same the
        direction is much the same. None where there are more than `SUPPOSED` guesses.
        """
        b = self.got.batch
        if not guesses(b, self.classes):
            return None
        ways = torch.tensor(list(combinations_with_replacement(range(self.classes), b)))
        shared = functional.one_hot(ways, self.classes).float()
        measure = layerwise_l2_l1(0.0, linear=False, scaled=True) if self.got.scaled else self.distance
        ranked: list[Tensor] = []
        for client in range(self.clients):
            x = self._chance(plan, draws)
            mine = torch.full((len(x),), client)
            far = [self.distances(x, guess.expand(len(x), -1, -1), mine, measure).mean() for guess in shared]
            ranked.append(shared[torch.stack(far).argsort(stable=True)])
        first = torch.cat([owner.new_zeros(1), (owner[1:] != owner[:-1]).nonzero()[:, 0] + 1])
        restart = torch.arange(len(owner)) - first[owner]
        return torch.stack(ranked)[owner, restart % len(shared)]

    def distances(
        self,
        x: Float[Tensor, " p b t d"],
        y: Float[Tensor, " p b c"] | None,
        owner: Int[Tensor, " p"],
        measure: Distance | None = None,
    ) -> Float[Tensor, " p"]:
        """How far the gradient of each problem lies from the one its client sent, without a slope.

        By the search's own distance, unless another `measure` is given.
        """
        measure, parts = measure or self.distance, list[Tensor]()
        for some in self._parts(len(x)):
            found = self.simulate(x[some], None if y is None else y[some])
            apart = measure(found, self._sent(owner[some])).detach()
            parts.append(torch.where(torch.isfinite(apart), apart, torch.full_like(apart, torch.inf)))
        return torch.cat(parts)

    def _parts(self, problems: int) -> list[slice]:
        return [slice(first, first + self.together) for first in range(0, problems, self.together)]

    def _sent(self, owner: Int[Tensor, " p"]) -> dict[str, Tensor]:
        """(p or 1, *shape) by name what the client of each problem sent."""
        if self.clients == 1:
            return self._wanted
        return {name: tensor[owner] for name, tensor in self._wanted.items()}

    def framed(self, x: Float[Tensor, " p b t d"]) -> Float[Tensor, " p b t d"]:
        """The embeddings with those of the tokens that stand around every text put back."""
        table, first, last = self.simulate.table, list(self.got.first), list(self.got.last)
        if first:
            x[:, :, : len(first)] = table[first]
        if last:
            x[:, :, -len(last) :] = table[last]
        return x

    def tokens(self, x: Float[Tensor, " p b t d"], owner: Int[Tensor, " p"]) -> Int[Tensor, " p b t"]:
        """The nearest tokens, with those around every text in their places."""
        ids = self.simulate.nearest(x, self._allowed[owner])
        first, last = self.got.first, self.got.last
        if first:
            ids[:, :, : len(first)] = torch.tensor(first)
        if last:
            ids[:, :, -len(last) :] = torch.tensor(last)
        return ids

    def _chance(self, plan: Descent, draws: torch.Generator) -> Float[Tensor, " n b t d"]:
        """Chance embeddings, as many as `candidates`."""
        got, wide = self.got, self.simulate.table.shape[1]
        tried = torch.randn((plan.candidates, got.batch, got.length, wide), generator=draws)
        if plan.norm:
            tried = functional.normalize(tried, dim=-1) * self.size
        return self.framed(tried)

    def start(
        self, plan: Descent, client: int, y: Float[Tensor, " b c"] | None, draws: torch.Generator
    ) -> Float[Tensor, " 1 b t d"]:
        """One restart's beginning: the best of some chance embeddings, then of their orders.

        As in the code of Balunovic et al. 2022 (`init.py`), but that all are as long as embeddings are from the first.
        """
        got, tried = self.got, self._chance(plan, draws)
        if len(tried) == 1:
            return tried
        owner = torch.full((len(tried),), client)
        classes = None if y is None else y.expand(len(tried), -1, -1)
        best = tried[int(self.distances(tried, classes, owner).argmin())]
        inner = np.arange(len(got.first), got.length - len(got.last))
        orders = torch.stack([best, *[best for _ in range(len(tried) - 1)]])
        for k in range(1, len(tried)):
            order = torch.randperm(len(inner), generator=draws).numpy()
            orders[k][:, inner] = best[:, inner[order]]
        return orders[int(self.distances(orders, classes, owner).argmin())][None]

    def run(self, plan: Descent, restarts: int, draws: torch.Generator, moves: Moves | None = None) -> "list[Ended]":
        """Search; of each client the restart is kept whose tokens explain its update best: the objective decides."""
        got, owner = self.got, torch.arange(self.clients).repeat_interleave(restarts)
        fixed, free = self.told(owner), None
        if fixed is None and self.classes and plan.suppose:
            fixed = self.supposed(plan, owner, draws)
        if fixed is None and self.classes:
            free = torch.randn(len(owner), got.batch, self.classes, generator=draws)
        even = None if free is None else torch.softmax(torch.zeros_like(free), dim=-1)
        begin = even if fixed is None else fixed
        x = torch.cat(
            [self.start(plan, c, None if begin is None else begin[i], draws) for i, c in enumerate(owner.tolist())]
        )
        adam = _Adam(plan, [x] if free is None else [x, free])
        best, best_x = torch.full((len(owner),), torch.inf), x.clone()
        best_free = None if free is None else free.clone()
        begun: Tensor | None = None
        for step in range(plan.steps):
            cost, slopes = self._slopes(x, fixed, free, owner, plan)
            begun = cost if begun is None else begun
            better = cost < best
            best = torch.where(better, cost, best)
            best_x[better] = x[better]
            if free is not None and best_free is not None:
                best_free[better] = free[better]
            moved = adam.step([x] if free is None else [x, free], slopes, step)
            x, free = self.framed(moved[0]), moved[1] if free is not None else None
            if moves is not None:
                x = moves(step, self, x, _classes(fixed, free), owner)
        ids, y = self.tokens(best_x, owner), _classes(fixed, best_free)
        ended = self.distances(self.simulate.table[ids], _hard(y), owner).reshape(self.clients, restarts)
        chosen = [client * restarts + int(each.argmin()) for client, each in enumerate(ended)]
        return [
            Ended(
                ids=ids[row],
                labels=None if y is None else y[row].argmax(dim=-1).numpy(),
                objective=float(each.min()),
                each=each.numpy(),
                begun=float(begun[row]) if begun is not None else float("inf"),
                least=float(best[row]),
            )
            for row, each in zip(chosen, ended, strict=True)
        ]

    def _slopes(
        self, x: Tensor, fixed: Tensor | None, free: Tensor | None, owner: Int[Tensor, " p"], plan: Descent
    ) -> tuple[Tensor, list[Tensor]]:
        costs: list[Tensor] = []
        slopes: list[list[Tensor]] = []
        for some in self._parts(len(x)):
            held = [part[some].detach().requires_grad_(True) for part in ([x] if free is None else [x, free])]
            y = _classes(None if fixed is None else fixed[some], held[1] if free is not None else None)
            cost = self.distance(self.simulate(held[0], y), self._sent(owner[some]))
            if plan.regular:
                length = held[0].norm(dim=-1).mean(dim=(1, 2))
                cost = cost + plan.regular * (length - self.size).square()
            found = torch.autograd.grad(cost.sum(), held, materialize_grads=True)
            costs.append(cost.detach())
            slopes.append([torch.nan_to_num(slope) for slope in found])
        return torch.cat(costs), [torch.cat(parts) for parts in zip(*slopes, strict=True)]


def guesses(batch: int, classes: int) -> int:
    """In how many ways classes can be shared out among texts; 0 where there are too many to be tried, or no classes."""
    ways = math.comb(batch + classes - 1, batch) if classes else 0
    return ways if ways <= SUPPOSED else 0


def together(simulate: Embedded) -> int:
    """How many problems are worked on at once: gradients take memory."""
    return max(1, AT_ONCE // max(simulate.numbers, 1))


@dataclass(frozen=True)
class Ended:
    """What a search found of one client.

    Attributes:
        ids: (b, t) tokens.
        labels: (b,) classes, where there are any.
        objective: of the tokens chosen.
        each: (r,) of every restart's.
        begun, least: the objective of the embeddings at the first step, and the least one.
    """

    ids: Int[Tensor, " b t"]
    labels: Int[np.ndarray, " b"] | None
    objective: float
    each: Float[np.ndarray, " r"]
    begun: float
    least: float


class _Adam:
    """Adam (Kingma and Ba 2015) on problems side by side, with decoupled weight decay and clipped slopes."""

    def __init__(self, plan: Descent, parts: list[Tensor]):
        self._plan = plan
        self._first = [torch.zeros_like(part) for part in parts]
        self._second = [torch.zeros_like(part) for part in parts]

    def step(self, parts: list[Tensor], slopes: list[Tensor], step: int) -> list[Tensor]:
        plan, moved = self._plan, list[Tensor]()
        rate = plan.rate * plan.factor(step)
        for part, slope, first, second in zip(parts, slopes, self._first, self._second, strict=True):
            if plan.clip is not None:
                long = slope.flatten(1).norm(dim=1).clamp_min(1e-12)
                slope = slope * (plan.clip / long).clamp(max=1.0).reshape(-1, *[1] * (slope.dim() - 1))
            first.mul_(0.9).add_(slope, alpha=0.1)
            second.mul_(0.999).addcmul_(slope, slope, value=0.001)
            wide = (second / (1 - 0.999 ** (step + 1))).sqrt().add_(1e-8)
            moved.append(part * (1 - rate * plan.decay) - rate / (1 - 0.9 ** (step + 1)) * first / wide)
        return moved


def _classes(fixed: Tensor | None, free: Tensor | None) -> Float[Tensor, " p b c"] | None:
    """The classes as distributions: those given, or those searched for, or none."""
    return fixed if free is None else torch.softmax(free, dim=-1)


def _hard(y: Tensor | None) -> Tensor | None:
    return None if y is None else functional.one_hot(y.argmax(dim=-1), y.shape[-1]).float()
