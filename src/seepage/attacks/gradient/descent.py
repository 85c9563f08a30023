"""Optimisers for many problems at once: each row of a matrix is a problem, and no row moves another.

`ask(v, rows)` gives each row's cost, differentiable in that row alone. An evaluation is one call of it on a row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from seepage.attacks.gradient.lbfgs import LBFGS

Ask = Callable[[Tensor, Tensor], Tensor]
Within = Callable[[Tensor], Tensor]
Schedule = Literal["steps", "cosine", "constant"]
Signs = Literal["hard", "none"]


@dataclass(frozen=True)
class Found:
    """Where a descent ended.

    Attributes:
        v: (p, d) the values.
        cost: (s, p) the cost of each row at `s` moments on the way.
        at: the evaluations spent at each of these moments.
    """

    v: Float[Tensor, " p d"]
    cost: Float[Tensor, " s p"]
    at: list[int]


@runtime_checkable
class Optimiser(Protocol):
    """Lowers the cost of every row."""

    def __call__(self, start: Float[Tensor, " p d"], ask: Ask, within: Within) -> Found: ...


def scale_at(step: int, steps: int, schedule: Schedule) -> float:
    """The share of the rate at a step: "steps" divides it by ten after 3/8, 5/8 and 7/8 of them."""
    if schedule == "steps":
        return 0.1 ** sum(step >= steps * part for part in (3 / 8, 5 / 8, 7 / 8))
    if schedule == "cosine":
        return 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * step / steps))))
    return 1.0


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015), on the sign of the slope where `signs` is "hard" (Geiping et al. 2020, section 5).

    With `blend` b the norm of the slope is lowered too: of cost + w |slope| the slope is slope + w H n, with H the
    second derivatives and n the direction of the slope; by a finite difference over `reach` r, and with b = w / r, it
    is (1 - b) slope(v) + b slope(v + r n) (Zhao, Zhang & Hu 2022, Penalizing Gradient Norm for Efficiently Improving
    Generalization in Deep Learning, ICML, equation 9). A step then takes two evaluations.
    """

    steps: int
    rate: float
    signs: Signs = "hard"
    schedule: Schedule = "steps"
    betas: tuple[float, float] = (0.9, 0.999)
    blend: float = 0.0
    reach: float = 0.01

    def __call__(self, start: Float[Tensor, " p d"], ask: Ask, within: Within) -> Found:
        v, rows = within(start.detach()), torch.arange(len(start))
        first, second = torch.zeros_like(v), torch.zeros_like(v)
        early, late = self.betas
        kept, costs, at = _moments(self.steps), list[Tensor](), list[int]()
        for step in range(self.steps):
            here = v.detach().requires_grad_(True)
            cost = ask(here, rows)
            (slope,) = torch.autograd.grad(cost.sum(), here)
            if step in kept:
                costs.append(cost.detach())
                at.append((step + 1) * (2 if self.blend else 1))
            if self.blend:
                onward = slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-30)
                there = (v.detach() + self.reach * onward).requires_grad_(True)
                (beyond,) = torch.autograd.grad(ask(there, rows).sum(), there)
                slope = torch.lerp(slope, beyond, self.blend)
            slope = slope.sign() if self.signs == "hard" else slope
            first.mul_(early).add_(slope, alpha=1 - early)
            second.mul_(late).addcmul_(slope, slope, value=1 - late)
            rate = self.rate * scale_at(step, self.steps, self.schedule) / (1 - early ** (step + 1))
            spread = (second / (1 - late ** (step + 1))).sqrt_().add_(1e-8)
            v = within(v.addcdiv(first, spread, value=-rate))
        return Found(v, torch.stack(costs), at)


@dataclass(frozen=True)
class QuasiNewton:
    """Limited-memory BFGS (`lbfgs.LBFGS`): `steps` evaluations of every row."""

    steps: int
    rate: float = 1.0
    memory: int = 100

    def __call__(self, start: Float[Tensor, " p d"], ask: Ask, within: Within) -> Found:
        search = LBFGS(start, ask, self.rate, self.memory)
        kept, costs, at, spent = _moments(self.steps), list[Tensor](), list[int](), 0
        while spent < self.steps and not search.done:
            search.step()
            if spent in kept:
                costs.append(search.cost.clone())
                at.append(spent + 1)
            spent += 1
        if not at or at[-1] != spent:
            costs.append(search.cost.clone())
            at.append(spent)
        return Found(within(search.best), torch.stack(costs), at)


def _moments(steps: int, most: int = 100) -> frozenset[int]:
    """At which steps the cost is kept: the first, the last, and evenly between."""
    return frozenset(round(k * (steps - 1) / max(most - 1, 1)) for k in range(most))
