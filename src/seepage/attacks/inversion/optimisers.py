"""Optimisers for a batch of problems: every row is a problem of its own, and no row moves another.

All share one form: `step(x, rows, ask)` takes the values (n, ...) that rows `rows` (n,) of the batch hold,
and `ask(x, rows)`, which gives each row's cost (n,), differentiable in that row alone. It returns the new
values. State is kept by row, so that rows may leave the search one by one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch

Ask = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Within = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
OptimiserName = Literal["gradient", "nesterov", "adam", "lbfgs"]


def slope_of(ask: Ask, x: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The costs (n,) at `x`, and their slopes (n, ...): one evaluation of every row."""
    here = x.detach().clone().requires_grad_(True)
    cost = ask(here, rows)
    (slope,) = torch.autograd.grad(cost.sum(), here)
    return cost.detach(), slope


def anywhere(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """No limit: the values as they are."""
    return x


def box(low: float, high: float) -> Within:
    """The nearest values in [low, high]."""
    return lambda x, rows: x.clamp(low, high)


class Optimiser(ABC):
    """Base of the optimisers below.

    Args:
        rate: length of a step, per unit of gradient (or in the values' own units where gradients are scaled).
        within: brings values back to where they are allowed.
    """

    def __init__(self, rate: float, within: Within = anywhere):
        self.rate = rate
        self.within = within

    @abstractmethod
    def step(self, x: torch.Tensor, rows: torch.Tensor, ask: Ask, scale: float = 1.0) -> torch.Tensor:
        """The values after one step; `scale` shortens it (a schedule)."""


class Gradient(Optimiser):
    """Plain gradient descent: x <- within(x - rate * slope)."""

    def step(self, x: torch.Tensor, rows: torch.Tensor, ask: Ask, scale: float = 1.0) -> torch.Tensor:
        _, slope = slope_of(ask, x, rows)
        return self.within(x.detach() - self.rate * scale * slope, rows)


class Nesterov(Optimiser):
    """Nesterov's momentum, in the form written at the point looked ahead from (Sutskever et al. 2013).

    v' = m v - rate * slope;  x <- within(x - m v + (1 + m) v').
    """

    def __init__(self, like: torch.Tensor, rate: float, within: Within = anywhere, momentum: float = 0.9):
        super().__init__(rate, within)
        self._momentum = momentum
        self._velocity = torch.zeros_like(like)

    def step(self, x: torch.Tensor, rows: torch.Tensor, ask: Ask, scale: float = 1.0) -> torch.Tensor:
        _, slope = slope_of(ask, x, rows)
        before = self._velocity[rows]
        after = self._momentum * before - self.rate * scale * slope
        self._velocity[rows] = after
        return self.within(x.detach() - self._momentum * before + (1 + self._momentum) * after, rows)


class Adam(Optimiser):
    """Adam (Kingma & Ba 2015) with its corrections for the start, counted row by row."""

    def __init__(
        self, like: torch.Tensor, rate: float, within: Within = anywhere, betas: tuple[float, float] = (0.9, 0.999)
    ):
        super().__init__(rate, within)
        self._betas = betas
        self._first, self._second = torch.zeros_like(like), torch.zeros_like(like)
        self._taken = torch.zeros(len(like), dtype=torch.float64)

    def step(self, x: torch.Tensor, rows: torch.Tensor, ask: Ask, scale: float = 1.0) -> torch.Tensor:
        _, slope = slope_of(ask, x, rows)
        early, late = self._betas
        self._taken[rows] += 1
        first = early * self._first[rows] + (1 - early) * slope
        second = late * self._second[rows] + (1 - late) * slope**2
        self._first[rows], self._second[rows] = first, second
        taken = self._taken[rows].reshape(-1, *(1,) * (x.dim() - 1))
        first = first / (1 - early**taken).to(x.dtype)
        second = second / (1 - late**taken).to(x.dtype)
        return self.within(x.detach() - self.rate * scale * first / (second.sqrt() + 1e-8), rows)


class LBFGS(Optimiser):
    """Limited-memory BFGS with a backtracking line search (Nocedal & Wright 2006, algorithms 7.4, 7.5 and 3.1).

    Directions, memories and step lengths are each row's own. Values that sit at a limit with the slope
    pointing out are left out of the direction (Bertsekas 1982), so that `within` may be a box. A row for which
    no length lowers the cost stays and forgets its memory. The first step, and any after a forgotten
    memory, is as long as moves its greatest value by `rate`.

    A step evaluates at most `evaluations` times. `ask` has to answer the same within one step; where it
    does not between steps (random moves), say `noisy`, and the start of each step is evaluated anew.
    """

    tries = 8

    def __init__(
        self, like: torch.Tensor, rate: float, within: Within = anywhere, memory: int = 5, noisy: bool = False
    ):
        super().__init__(rate, within)
        self._noisy = noisy
        flat = like.flatten(1)
        # Newest last; an empty place has rho = 0 and then changes nothing.
        self._moves = torch.zeros(memory, *flat.shape)
        self._turns = torch.zeros(memory, *flat.shape)
        self._rho = torch.zeros(memory, len(flat))
        self._known = torch.zeros(len(flat), dtype=torch.bool)
        self._cost = torch.zeros(len(flat))
        self._slope = torch.zeros_like(flat)

    def _here(self, x: torch.Tensor, rows: torch.Tensor, ask: Ask) -> tuple[torch.Tensor, torch.Tensor]:
        if self._noisy or not self._known[rows].all():
            cost, slope = slope_of(ask, x, rows)
            return cost, slope.flatten(1)
        return self._cost[rows], self._slope[rows]

    def step(self, x: torch.Tensor, rows: torch.Tensor, ask: Ask, scale: float = 1.0) -> torch.Tensor:
        x = x.detach()
        cost, slope = self._here(x, rows, ask)
        # What a little step downhill does not move is at its limit.
        little = self.within((x.flatten(1) - 1e-4 * slope.sign()).reshape(x.shape), rows)
        free = (little.flatten(1) != x.flatten(1)).to(x.dtype)
        way = -self._scaled(slope * free, rows) * free
        climbs = (way * slope).sum(1) >= 0
        way = torch.where(climbs[:, None], -slope * free, way)
        fresh = climbs | (self._rho[-1, rows] == 0)
        longest = way.abs().amax(dim=1).clamp_min(1e-30)
        length = scale * torch.where(fresh, self.rate / longest, torch.ones_like(longest))
        held, held_cost, held_slope = x.flatten(1), cost.clone(), slope.clone()
        open_ = torch.ones(len(rows), dtype=torch.bool)
        for _ in range(self.tries):
            there = self.within((x.flatten(1) + length[:, None] * way).reshape(x.shape), rows)
            # Random moves are the same within a step only for the whole batch.
            asked = torch.ones_like(open_) if self._noisy else open_
            tried, tried_slope = torch.full_like(cost, torch.inf), torch.zeros_like(x)
            tried[asked], tried_slope[asked] = slope_of(ask, there[asked], rows[asked])
            moved = there.flatten(1) - x.flatten(1)
            good = open_ & (tried <= cost + 1e-4 * (slope * moved).sum(1)) & (moved != 0).any(dim=1)
            held = torch.where(good[:, None], there.flatten(1), held)
            held_cost = torch.where(good, tried, held_cost)
            held_slope = torch.where(good[:, None], tried_slope.flatten(1), held_slope)
            open_ = open_ & ~good
            if not open_.any():
                break
            length = length / 2
        self._remember(rows, held - x.flatten(1), held_slope - slope, stuck=open_)
        self._cost[rows], self._slope[rows], self._known[rows] = held_cost, held_slope, True
        return held.reshape(x.shape)

    @property
    def evaluations(self) -> int:
        """The most evaluations one step makes."""
        return 1 + self.tries

    def _scaled(self, slope: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The slope times the approximate inverse Hessian of each row: (n, d)."""
        moves, turns, rho = self._moves[:, rows], self._turns[:, rows], self._rho[:, rows]
        shares: list[torch.Tensor] = []
        for i in reversed(range(len(rho))):
            share = rho[i] * (moves[i] * slope).sum(1)
            slope = slope - share[:, None] * turns[i]
            shares.append(share)
        bent = (turns[-1] ** 2).sum(1) * rho[-1]
        slope = slope * torch.where(bent > 0, 1 / bent.clamp_min(1e-30), torch.ones_like(bent))[:, None]
        for i, share in enumerate(reversed(shares)):
            slope = slope + (share - rho[i] * (turns[i] * slope).sum(1))[:, None] * moves[i]
        return slope

    def _remember(self, rows: torch.Tensor, move: torch.Tensor, turn: torch.Tensor, stuck: torch.Tensor) -> None:
        bent = (move * turn).sum(1)
        sound = ~stuck & (bent > 1e-8 * move.norm(dim=1) * turn.norm(dim=1)) & (bent > 1e-30)
        kept = rows[sound]
        self._moves[:, kept] = torch.cat([self._moves[1:, kept], move[None, sound]])
        self._turns[:, kept] = torch.cat([self._turns[1:, kept], turn[None, sound]])
        self._rho[:, kept] = torch.cat([self._rho[1:, kept], 1 / bent[None, sound]])
        self._rho[:, rows[stuck]] = 0


def optimiser_named(
    name: OptimiserName,
    like: torch.Tensor,
    rate: float,
    within: Within = anywhere,
    betas: tuple[float, float] = (0.9, 0.999),
    noisy: bool = False,
) -> Optimiser:
    """The optimiser called `name` for a batch of values shaped as `like` (n, ...)."""
    if name == "adam":
        return Adam(like, rate, within, betas)
    if name == "nesterov":
        return Nesterov(like, rate, within)
    if name == "lbfgs":
        return LBFGS(like, rate, within, noisy=noisy)
    return Gradient(rate, within)
