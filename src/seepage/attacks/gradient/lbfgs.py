"""Limited-memory BFGS for many problems at once, one evaluation of every problem a step."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Ask = Callable[[Tensor, Tensor], Tensor]
# A step has to lower the cost by this share of what its slope promises (Armijo).
ENOUGH = 1e-4
SHORTEST = 1e-12


class LBFGS:
    """A search in which every row is a problem of its own, with its own memory and its own step length.

    The inverse Hessian is kept in compact form (Byrd, Nocedal & Schnabel 1994, Representations of quasi-Newton
    matrices and their use in limited memory methods, Mathematical Programming 63, theorem 2.2): with the moves S, the
    turns of the slope Y, R the upper triangle of S Y^T, D its diagonal and g the slope,

        H g = c g + S^T R^-T ((D + c Y Y^T) R^-1 S g - c Y g) - c Y^T R^-1 S g,   c = s.y / y.y of the last pair,

    which is two passes over the memory, as products of matrices. Lengths are found by backtracking with
    a parabola through what is known (Nocedal & Wright 2006, section 3.5). No row waits for another: in each
    step a row either tries its next length, or has moved and tries the next direction at full length. A row for
    which no length lowers the cost forgets its memory; when that does not help either, it stays.

    Args:
        start: (p, d) where to begin; the precision of everything.
        ask: each row's cost, differentiable in that row alone.
        rate: length of a step, in units of the quasi-Newton direction.
        memory: pairs remembered a row.
    """

    def __init__(self, start: Float[Tensor, " p d"], ask: Ask, rate: float = 1.0, memory: int = 100):
        p, d = start.shape
        self._ask, self._rate, self._size = ask, rate, memory
        self.best = start.detach().clone()
        self._rows = torch.arange(p)
        self.cost, self._slope = self._at(self.best, self._rows)
        self._moves, self._turns = start.new_zeros(p, memory, d), start.new_zeros(p, memory, d)
        self._forget_all(p, memory)
        self._along, self._across = self._told()
        self._way = -self._slope
        self._length = self._first_length()
        self.stuck = ~torch.isfinite(self.cost) | (self._slope.abs().amax(dim=1) == 0)

    @property
    def done(self) -> bool:
        """Whether no row can go on."""
        return bool(self.stuck.all())

    def _at(self, v: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        here = v.detach().requires_grad_(True)
        cost = self._ask(here, rows)
        (slope,) = torch.autograd.grad(cost.sum(), here)
        return cost.detach(), slope

    def _forget_all(self, p: int, memory: int) -> None:
        like = self.best
        # Chronological order, newest last; a place not yet used is a unit diagonal, which changes nothing.
        self._place = torch.arange(memory).repeat(p, 1)
        self._upper = torch.eye(memory, dtype=like.dtype).repeat(p, 1, 1)
        self._inner = like.new_zeros(p, memory, memory)
        self._bend = like.new_ones(p)
        self._count = torch.zeros(p, dtype=torch.long)

    def _forget(self, rows: Tensor) -> None:
        self._upper[rows] = torch.eye(self._size, dtype=self.best.dtype)
        self._inner[rows] = 0
        self._bend[rows] = 1
        self._count[rows] = 0
        self._moves[rows] = 0
        self._turns[rows] = 0
        self._along[rows] = 0
        self._across[rows] = 0

    def _first_length(self) -> Tensor:
        """Where nothing is known of the curvature: a step of length one."""
        return self._rate / self._slope.norm(dim=1).clamp_min(1e-30)

    def step(self) -> None:
        """Evaluate every row that is not stuck once, and move those whose cost is low enough."""
        rows = self._rows[~self.stuck]
        if not len(rows):
            return
        base, way, length = self.best[rows], self._way[rows], self._length[rows]
        there = base + length[:, None] * way
        cost, slope = self._at(there, rows)
        falls = (self._slope[rows] * way).sum(1)
        good = torch.isfinite(cost) & (cost <= self.cost[rows] + ENOUGH * length * falls)
        if good.any():
            self._move(rows[good], there[good], cost[good], slope[good])
        if not good.all():
            self._shorten(rows[~good], cost[~good], falls[~good])

    def _move(self, rows: Tensor, there: Tensor, cost: Tensor, slope: Tensor) -> None:
        move, turn = there - self.best[rows], slope - self._slope[rows]
        bent = (move * turn).sum(1)
        sound = bent > 1e-10 * move.norm(dim=1) * turn.norm(dim=1)
        self.best[rows], self.cost[rows], self._slope[rows] = there, cost, slope
        if sound.any():
            self._remember(rows[sound], move[sound], turn[sound], bent[sound])
        way = -self._scaled()[rows]
        climbs = (way * slope).sum(1) >= 0
        if climbs.any():
            self._forget(rows[climbs])
            way = torch.where(climbs[:, None], -slope, way)
        self._way[rows] = way
        known = self._count[rows] > 0
        self._length[rows] = torch.where(known, torch.full_like(cost, self._rate), self._first_length()[rows])
        self.stuck[rows] |= slope.abs().amax(dim=1) == 0

    def _shorten(self, rows: Tensor, cost: Tensor, falls: Tensor) -> None:
        length = self._length[rows]
        # The lowest point of the parabola through the cost and slope here and the cost there.
        rise = (cost - self.cost[rows] - length * falls).clamp_min(1e-300)
        low = -falls * length.pow(2) / (2 * rise)
        low = torch.where(torch.isfinite(low), low, 0.1 * length)
        shorter = torch.minimum(torch.maximum(low, 0.1 * length), 0.5 * length)
        self._length[rows] = shorter
        lost = shorter * self._way[rows].norm(dim=1) < SHORTEST * (1 + self.best[rows].norm(dim=1))
        plain = self._count[rows] == 0
        self.stuck[rows[lost & plain]] = True
        again = rows[lost & ~plain]
        if len(again):
            self._forget(again)
            self._way[again] = -self._slope[again]
            self._length[again] = self._first_length()[again]

    def _remember(self, rows: Tensor, move: Tensor, turn: Tensor, bent: Tensor) -> None:
        """Put the newest pair in the place of the oldest."""
        place = self._place[rows]
        oldest = place[:, 0]
        self._moves[rows, oldest], self._turns[rows, oldest] = move, turn
        self._place[rows] = torch.cat([place[:, 1:], oldest[:, None]], dim=1)
        self._bend[rows] = bent / turn.pow(2).sum(1)
        self._count[rows] += 1
        # What the memory says of the new slope less what it said of the old one is what it says of the turn.
        along, across = self._told()
        with_turn, between = along[rows] - self._along[rows], across[rows] - self._across[rows]
        with_turn[torch.arange(len(rows)), oldest] = bent
        between[torch.arange(len(rows)), oldest] = turn.pow(2).sum(1)
        place = self._place[rows]
        last, symmetric = with_turn.gather(1, place), between.gather(1, place)
        upper, inner = torch.zeros_like(self._upper[rows]), torch.zeros_like(self._inner[rows])
        upper[:, :-1, :-1], inner[:, :-1, :-1] = self._upper[rows, 1:, 1:], self._inner[rows, 1:, 1:]
        upper[:, :, -1], inner[:, :, -1], inner[:, -1, :] = last, symmetric, symmetric
        self._upper[rows], self._inner[rows] = upper, inner

    def _told(self) -> tuple[Tensor, Tensor]:
        """Products of the moves and the turns in memory with the slope, of every row: (p, memory) each."""
        return (self._moves @ self._slope[:, :, None])[..., 0], (self._turns @ self._slope[:, :, None])[..., 0]

    def _scaled(self) -> Tensor:
        """The slope times the approximate inverse Hessian, of every row: (p, d)."""
        self._along, self._across = self._told()
        a, b = self._along.gather(1, self._place), self._across.gather(1, self._place)
        bend = self._bend[:, None]
        u = torch.linalg.solve_triangular(self._upper, a[:, :, None], upper=True)
        diagonal = self._upper.diagonal(dim1=1, dim2=2)[:, :, None]
        right = diagonal * u + bend[:, :, None] * (self._inner @ u - b[:, :, None])
        w = torch.linalg.solve_triangular(self._upper.mT, right, upper=False)[..., 0]
        with_moves = torch.zeros_like(w).scatter(1, self._place, w)
        with_turns = torch.zeros_like(w).scatter(1, self._place, -bend * u[..., 0])
        return bend * self._slope + (with_moves[:, None] @ self._moves + with_turns[:, None] @ self._turns)[:, 0]
