"""MIRROR's black-box search: an elitist genetic algorithm over latents, seeded by one scored cache."""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from seepage.attacks.inversion.blackbox import Found, Oracle, Pool, ScoreSearch

Array = np.ndarray
# Generations that a small allowance is divided into, at the least, before the population shrinks.
GENERATIONS = 10


def selection_weights(fitness: Float[Array, " c p"]) -> Float[Array, " c p"]:
    """How likely each individual is to be a parent: softmax of its standardised fitness, rows sum to one.

    The published weights are the softmax of log p_c. Fitness is divided by its spread here, so that the
    pressure is the same for margins of any size.
    """
    spread = fitness.std(axis=1, keepdims=True) + 1e-9
    raised = np.exp((fitness - fitness.max(axis=1, keepdims=True)) / spread)
    return raised / raised.sum(axis=1, keepdims=True)


def offspring(
    population: Float[Array, " c p k"],
    fitness: Float[Array, " c p"],
    count: int,
    share: float,
    size: float,
    rng: np.random.Generator,
) -> Float[Array, " c n k"]:
    """`count` children a class: two parents drawn by weight, crossed coordinate by coordinate, then mutated.

    A coordinate comes from the first parent with probability w_1 / (w_1 + w_2), w being the selection
    weights. (The published code takes the ratio of the log-probabilities themselves, which are negative:
    the worse parent then gives more.) Each coordinate is moved with probability `share` by uniform noise
    within `size` standard deviations, drawn anew for every child.
    """
    c, p, k = population.shape
    weights = selection_weights(fitness)
    edges = weights.cumsum(axis=1)
    drawn = rng.random((c, 2 * count)) * edges[:, -1:]
    parents = np.minimum((drawn[:, :, None] > edges[:, None]).sum(axis=2), p - 1)
    first, second = parents[:, :count], parents[:, count:]
    rows = np.arange(c)[:, None]
    better = weights[rows, first] / (weights[rows, first] + weights[rows, second])
    from_first = rng.random((c, count, k)) < better[..., None]
    children = np.where(from_first, population[rows, first], population[rows, second])
    mutated = rng.random((c, count, k)) < share
    return children + mutated * rng.uniform(-size, size, (c, count, k))


class Mirror(ScoreSearch):
    """The genetic algorithm of MIRROR for victims that give scores, in the latent space of any prior.

    The first population of each class are the best of one scored cache (public records and draws of the
    prior, asked once for all classes). Each generation keeps its elite unchanged and fills up with
    mutated children of parents drawn by fitness; latents are kept within the prior's usual range. All
    classes breed in one batch. Fitness is the margin of log-probabilities less the pull to the mean
    record; the published one, log p_c, stands still once the victim is sure.
    """

    name: ClassVar[str] = "mirror"
    title: ClassVar[str] = "MIRROR: genetic search in a prior's latent space"
    cites: ClassVar[tuple[str, ...]] = (
        "An, Tao, Xu, Liu, Shen, Yao, Xu, Zhang 2022, MIRROR: Model Inversion for Deep Learning Network with High "
        "Fidelity, NDSS",
    )

    population: int = Field(default=60, ge=3, description="individuals a class")
    mutation_share: float = Field(default=0.1, ge=0, le=1, description="chance of each coordinate to be mutated")
    mutation_size: float = Field(default=0.5, gt=0, description="greatest mutation, in standard deviations")
    fitness: Literal["margin", "log-probability"] = Field(default="margin", description="what is bred for")
    prior_weight: float = Field(default=0.03, ge=0, description="pull of each latent towards the mean record")
    returned: Literal["mean", "elite"] = Field(
        default="mean",
        description="the last generation's weighted mean, or its best as published",
    )

    def _least(self) -> int:
        return 2

    def _search(self, oracle: Oracle, pool: Pool) -> Found:
        classes = len(oracle.classes)
        each = oracle.left // classes
        size = int(np.clip(each // GENERATIONS + 1, 3, self.population))
        population, fitness = self._first(oracle, pool, size)
        rows = np.arange(classes)
        elites: list[float] = []
        while oracle.left >= classes * (size - 1):
            best = fitness.argmax(axis=1)
            elites.append(float(fitness[rows, best].mean()))
            oracle.show(population[rows, best])
            children = oracle.clip(
                offspring(population, fitness, size - 1, self.mutation_share, self.mutation_size, oracle.rng)
            )
            worth = self._worth(oracle, children, oracle.ask(children))
            population = np.concatenate([population[rows, best][:, None], children], axis=1)
            fitness = np.concatenate([fitness[rows, best][:, None], worth], axis=1)
        best = fitness.argmax(axis=1)
        held = population[rows, best]
        if self.returned == "mean":
            held = (population * selection_weights(fitness)[..., None]).sum(axis=1)
        confidence = 1 / (1 + np.exp(-np.clip(fitness[rows, best], -30, 30)))
        elites.append(float(fitness[rows, best].mean()))
        return Found(oracle.decode(held), confidence, {"elite_fitness": np.array(elites, dtype=np.float64)})

    def _worth(self, oracle: Oracle, z: Array, scores: Array) -> Array:
        """The fitness (c, p) of latents (c, p, k) with these scores (c, p, C)."""
        gained = oracle.margins(scores)
        if self.fitness == "log-probability":
            gained = np.log(np.maximum(oracle.own(scores), oracle.floor))
        return gained - self.prior_weight * (z**2).sum(axis=2)

    def _first(self, oracle: Oracle, pool: Pool, size: int) -> tuple[Array, Array]:
        """The `size` fittest of the cache for each class; from the start again when the cache holds fewer."""
        worth = self._worth(
            oracle,
            np.broadcast_to(pool.z, (len(oracle.classes), *pool.z.shape)),
            np.broadcast_to(pool.scores, (len(oracle.classes), *pool.scores.shape)),
        )
        order = np.argsort(-worth, axis=1, kind="stable")
        rows = order[:, np.arange(size) % order.shape[1]]
        return pool.z[rows].astype(np.float64), np.take_along_axis(worth, rows, axis=1)
