"""Texts searched for in the space of embeddings, so that their gradient would be the one that was sent."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from seepage.attacks.gradient.embedded import AT_ONCE, Distance, Embedded, Heard

# At a step, embeddings (p, b, t, d) and classes (p, b, c) to embeddings with their tokens moved about.
Moves = Callable[[int, "Search", Tensor, Tensor | None], Tensor]


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
    """

    steps: int
    rate: float
    factor: Callable[[int], float]
    decay: float = 0.0
    clip: float | None = None
    norm: bool = False
    regular: float = 0.0
    candidates: int = 1


class Search:
    """The search for one client's texts, all restarts at once; a restart does not hang on the others.

    Args:
        simulate: gradients by embeddings.
        got: what the client sent.
        distance: between gradients.
        classes: how many there are; 0 for next tokens.
    """

    def __init__(self, simulate: Embedded, got: Heard, distance: Distance, classes: int):
        self.simulate, self.got, self.distance, self.classes = simulate, got, distance, classes
        self._together = max(1, AT_ONCE // max(simulate.numbers, 1))
        # The usual length of an embedding: what the published 1.4 is of BERT's.
        self.size = float(simulate.table.norm(dim=-1).mean())

    def labels(self, free: Float[Tensor, " p b c"] | None, problems: int) -> Float[Tensor, " p b c"] | None:
        """The classes as distributions: those told, or those searched for."""
        if not self.classes:
            return None
        if self.got.labels is not None:
            told = functional.one_hot(torch.from_numpy(self.got.labels), self.classes)
            return told.float().expand(problems, -1, -1)
        assert free is not None
        return torch.softmax(free, dim=-1)

    def distances(self, x: Float[Tensor, " p b t d"], y: Float[Tensor, " p b c"] | None) -> Float[Tensor, " p"]:
        """How far the gradient of each problem lies from the one sent, without a slope."""
        parts: list[Tensor] = []
        for first in range(0, len(x), self._together):
            some = slice(first, first + self._together)
            found = self.simulate(x[some], None if y is None else y[some])
            apart = self.distance(found, self.got.wanted).detach()
            parts.append(torch.where(torch.isfinite(apart), apart, torch.full_like(apart, torch.inf)))
        return torch.cat(parts)

    def framed(self, x: Float[Tensor, " p b t d"]) -> Float[Tensor, " p b t d"]:
        """The embeddings with those of the tokens that stand around every text put back."""
        table, first, last = self.simulate.table, list(self.got.first), list(self.got.last)
        if first:
            x[:, :, : len(first)] = table[first]
        if last:
            x[:, :, -len(last) :] = table[last]
        return x

    def tokens(self, x: Float[Tensor, " p b t d"]) -> Int[Tensor, " p b t"]:
        """The nearest tokens, with those around every text in their places."""
        ids = self.simulate.nearest(x, self.got.allowed)
        first, last = self.got.first, self.got.last
        if first:
            ids[:, :, : len(first)] = torch.tensor(first)
        if last:
            ids[:, :, -len(last) :] = torch.tensor(last)
        return ids

    def start(self, plan: Descent, draws: torch.Generator) -> Float[Tensor, " 1 b t d"]:
        """One restart's beginning: the best of some chance embeddings, then of their orders (LAMP, section 4.1)."""
        got, wide = self.got, self.simulate.table.shape[1]
        shape = (plan.candidates, got.batch, got.length, wide)
        tried = torch.randn(shape, generator=draws)
        if plan.norm:
            tried = functional.normalize(tried, dim=-1) * self.size
        tried = self.framed(tried)
        if plan.candidates == 1:
            return tried
        even = torch.zeros(1, got.batch, max(self.classes, 1))
        y = self.labels(even.expand(plan.candidates, -1, -1), plan.candidates)
        best = tried[int(self.distances(tried, y).argmin())]
        inner = np.arange(len(got.first), got.length - len(got.last))
        orders = torch.stack([best, *[best for _ in range(plan.candidates - 1)]])
        for k in range(1, plan.candidates):
            order = torch.randperm(len(inner), generator=draws).numpy()
            orders[k][:, inner] = best[:, inner[order]]
        return orders[int(self.distances(orders, y).argmin())][None]

    def run(self, plan: Descent, restarts: int, draws: torch.Generator, moves: Moves | None = None) -> "Ended":
        """Search, and keep the restart whose tokens explain the update best: the objective alone decides."""
        got = self.got
        x = torch.cat([self.start(plan, draws) for _ in range(restarts)])
        free = None
        if self.classes and got.labels is None:
            free = torch.randn(restarts, got.batch, self.classes, generator=draws)
        adam = _Adam(plan, [x] if free is None else [x, free])
        best, best_x, best_free = torch.full((restarts,), torch.inf), x.clone(), None if free is None else free.clone()
        begun: Tensor | None = None
        for step in range(plan.steps):
            cost, slopes = self._slopes(x, free, plan)
            begun = cost if begun is None else begun
            better = cost < best
            best = torch.where(better, cost, best)
            best_x[better] = x[better]
            if free is not None and best_free is not None:
                best_free[better] = free[better]
            moved = adam.step([x] if free is None else [x, free], slopes, step)
            x, free = self.framed(moved[0]), moved[1] if free is not None else None
            if moves is not None:
                x = moves(step, self, x, self.labels(free, restarts))
        ids = self.tokens(best_x)
        y = self.labels(best_free, restarts)
        ended = self.distances(self.simulate.table[ids], _hard(y))
        chosen = int(ended.argmin())
        return Ended(
            ids=ids[chosen],
            labels=None if y is None else y[chosen].argmax(dim=-1).numpy(),
            objective=float(ended[chosen]),
            each=ended.numpy(),
            begun=float(begun[chosen]) if begun is not None else float("inf"),
            least=float(best[chosen]),
        )

    def _slopes(self, x: Tensor, free: Tensor | None, plan: Descent) -> tuple[Tensor, list[Tensor]]:
        costs: list[Tensor] = []
        slopes: list[list[Tensor]] = []
        for first in range(0, len(x), self._together):
            some = slice(first, first + self._together)
            held = [part[some].detach().requires_grad_(True) for part in ([x] if free is None else [x, free])]
            y = self.labels(held[1] if free is not None else None, len(held[0]))
            cost = self.distance(self.simulate(held[0], y), self.got.wanted)
            if plan.regular:
                length = held[0].norm(dim=-1).mean(dim=(1, 2))
                cost = cost + plan.regular * (length - self.size).square()
            found = torch.autograd.grad(cost.sum(), held, materialize_grads=True)
            costs.append(cost.detach())
            slopes.append([torch.nan_to_num(slope) for slope in found])
        return torch.cat(costs), [torch.cat(parts) for parts in zip(*slopes, strict=True)]


@dataclass(frozen=True)
class Ended:
    """What a search found.

    Attributes:
        ids: (b, t) tokens.
        labels: (b,) classes, where there are any.
        objective: of the tokens chosen.
        each: (p,) of every restart's.
        begun, least: the objective of the embeddings at the first step, and the least one.
    """

    ids: Int[Tensor, " b t"]
    labels: Int[np.ndarray, " b"] | None
    objective: float
    each: Float[np.ndarray, " p"]
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


def _hard(y: Tensor | None) -> Tensor | None:
    return None if y is None else functional.one_hot(y.argmax(dim=-1), y.shape[-1]).float()
