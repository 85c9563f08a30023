"""CMA-ES for many problems at once: an optimiser of the searches that asks for costs alone, never for slopes."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from seepage.attacks.gradient.descent import Ask, Found, Within
from seepage.attacks.inversion.cmaes import strategy

# What a candidate without a finite cost costs: more than any other.
WORST = 1e30


@dataclass(frozen=True)
class Evolution:
    """A CMA-ES a problem (Hansen 2016; the package `cma`); the candidates of all problems are asked together.

    What is given back is the best candidate met, or the mean of the last distribution where that costs less.

    Attributes:
        generations: how often every problem's distribution is moved.
        population: candidates a generation and problem.
        radius: the first standard deviation.
        diagonal: whether variances alone are adapted.
        rng: where randomness comes from, a stream a problem.
        at_once: candidates that are asked in one go.
    """

    generations: int
    population: int
    radius: float
    diagonal: bool
    rng: np.random.Generator
    at_once: int = 1024

    def __call__(self, start: Float[Tensor, " p d"], ask: Ask, within: Within) -> Found:
        streams = self.rng.spawn(len(start))
        # The package takes two numbers or more: a single one stands twice, and its second is not looked at.
        sought = max(start.shape[1], 2)
        searches = [
            strategy(np.resize(row, sought), self.radius, self.population, self.diagonal, rng)
            for row, rng in zip(start.double().numpy(), streams, strict=True)
        ]
        best, lowest = start.clone(), torch.full((len(start),), torch.inf, dtype=start.dtype)
        costs: list[Tensor] = []
        for _ in range(self.generations):
            drawn = [np.asarray(search.ask()) for search in searches]
            v = within(torch.from_numpy(np.stack(drawn)[..., : start.shape[1]]).to(start).flatten(0, 1))
            cost = self._asked(ask, v, self.population).unflatten(0, (len(start), -1))
            least = cost.min(dim=1)
            found = v.unflatten(0, cost.shape)[torch.arange(len(start)), least.indices]
            best = torch.where((least.values < lowest)[:, None], found, best)
            lowest = torch.minimum(least.values, lowest)
            costs.append(lowest)
            for search, candidates, mine in zip(searches, drawn, cost.double().numpy(), strict=True):
                search.tell(list(candidates), mine.tolist())
        means = np.stack([search.mean[: start.shape[1]] for search in searches])
        mean = within(torch.from_numpy(means).to(start))
        nearer = self._asked(ask, mean, 1) < lowest
        at = [self.population * (k + 1) for k in range(self.generations)]
        return Found(torch.where(nearer[:, None], mean, best), torch.stack(costs), at)

    def _asked(self, ask: Ask, v: Float[Tensor, " n d"], each: int) -> Float[Tensor, " n"]:
        """The cost of candidates, `each` a problem, problem by problem."""
        rows = torch.arange(len(v)) // each
        parts = [
            ask(v[k : k + self.at_once].requires_grad_(True), rows[k : k + self.at_once]).detach()
            for k in range(0, len(v), self.at_once)
        ]
        cost = torch.cat(parts)
        return torch.where(torch.isfinite(cost), cost, torch.full_like(cost, WORST))
