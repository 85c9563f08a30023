"""Inversion from scores by CMA-ES: one search a class in the latent space of a prior, asked in batches."""

import warnings
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from seepage.attacks.inversion.blackbox import Found, Oracle, Pool, ScoreSearch, starts

with warnings.catch_warnings():
    # It says on import that it cannot plot where matplotlib is not installed; nothing is plotted here.
    warnings.filterwarnings("ignore", message="Could not import matplotlib")
    import cma

Array = np.ndarray
# Generations that a small allowance is divided into, at the least, before the population shrinks.
GENERATIONS = 8


def strategy(
    start: Float[Array, " k"], radius: float, population: int, diagonal: bool, rng: np.random.Generator
) -> Any:
    """A CMA-ES (Hansen 2016; as in the package `cma`) that draws from `rng` alone and writes no files.

    Args:
        start: the first mean.
        radius: the first standard deviation.
        population: candidates a generation.
        diagonal: adapt variances alone (Ros & Hansen 2008), which takes k/3 times fewer generations than
            the whole matrix.
        rng: where randomness comes from; numpy's global generator is neither used nor seeded.
    """
    # verbose -10: no messages, and no commands read from a file in the working directory.
    return cma.CMAEvolutionStrategy(
        start.astype(np.float64),
        radius,
        {
            "popsize": population,
            "CMA_diagonal": diagonal,
            "randn": lambda *shape: rng.standard_normal(shape),
            "seed": np.nan,
            "verbose": -10,
            "verb_log": 0,
        },
    )


class CMAES(ScoreSearch):
    """Covariance matrix adaptation for every class at once: what all searches want to ask goes out as one batch.

    Each class starts where the shared screening and its linear model point to. With some 3,000 queries a
    class there is no time to learn a whole covariance matrix of 60 latents, so variances alone are
    adapted by default. Candidates of one generation and class are moved alike before they are asked, so
    that their ranks compare like with like. What is returned is the mean of the last distribution, which
    is surer than the best candidate met.

    It uses ranks only, so that coarse scores change nothing but the floor of their logarithm.
    """

    name: ClassVar[str] = "cma-es"
    title: ClassVar[str] = "CMA-ES in a prior's latent space"
    cites: ClassVar[tuple[str, ...]] = (
        "Hansen 2016, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772",
        "Ros, Hansen 2008, A Simple Modification in CMA-ES Achieving Linear Time and Space Complexity, PPSN X",
        "Hansen, Akimoto, Baudis 2019, CMA-ES/pycma on Github, doi:10.5281/zenodo.2559634",
    )

    population: int = Field(default=20, ge=4, description="candidates a generation and class")
    radius: float = Field(default=0.3, gt=0, description="first standard deviation, in the prior's")
    covariance: Literal["diagonal", "full"] = Field(default="diagonal", description="what is adapted")
    searched: int = Field(default=60, ge=1, description="how many of the first latents are searched")
    prior_weight: float = Field(default=0.03, ge=0, description="pull of each latent towards the mean record")
    augment: bool = Field(default=True, description="move pictures at random, those of a generation and class alike")

    def _least(self) -> int:
        return 4

    def _search(self, oracle: Oracle, pool: Pool) -> Found:
        z = starts(oracle, pool, self.prior_weight).astype(np.float64)
        classes, searched = len(z), min(self.searched, z.shape[1])
        each = oracle.left // classes
        population = int(np.clip(each // GENERATIONS, 4, self.population))
        # The package takes two dimensions or more: with one latent the second is a dummy.
        sought = max(searched, 2)
        searches = [
            strategy(np.resize(row[:searched], sought), self.radius, population, self.covariance == "diagonal", rng)
            for row, rng in zip(z, oracle.rng.spawn(classes), strict=True)
        ]
        confidence = np.zeros(classes)
        curve: list[float] = []
        for _ in range(each // population):
            asked = [np.array(search.ask()) for search in searches]
            tried = np.repeat(z[:, None], population, axis=1)
            tried[..., :searched] = np.stack(asked)[..., :searched]
            tried = oracle.clip(tried)
            scores = oracle.ask(tried, moved=self.augment)
            cost = self.prior_weight * (tried**2).sum(axis=2) - oracle.margins(scores)
            for search, candidates, costs in zip(searches, asked, cost, strict=True):
                search.tell(list(candidates), costs.tolist())
            z[:, :searched] = oracle.clip(np.stack([search.mean[:searched] for search in searches]))
            confidence = oracle.own(scores).mean(axis=1)
            curve.append(float(confidence.mean()))
            oracle.show(z)
        return Found(oracle.decode(z), confidence, {"mean_score": np.array(curve, dtype=np.float64)})
