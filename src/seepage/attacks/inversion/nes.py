"""Inversion from scores alone: natural evolution strategies in a latent space, under a query budget."""

from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy.stats import rankdata

from seepage.attacks.inversion.blackbox import Found, Oracle, Pool, ScoreSearch, starts
from seepage.attacks.inversion.blackbox import score_margin as _margin

Array = np.ndarray
# Steps that a small allowance is divided into, at the least, before the population shrinks.
STEPS = 8


class ScoreNES(ScoreSearch):
    """Climbs the wanted class's score by antithetic random perturbations of a latent, all classes at once.

    A first share of the budget scores public records and prior draws; one answer holds the scores of
    all classes, so this part is asked once for all, and a linear model of all scores is fitted to it.
    Each class then starts at the best of the candidates that these suggest and moves along the
    score-weighted mean of its perturbations (Wierstra et al. 2014, eq. for the mean of a Gaussian search
    distribution; antithetic pairs as in Salimans et al. 2017), scores taken as the margin of
    log-probabilities. Both pictures of a pair are moved alike before they are asked, so that the search
    climbs towards records that survive being moved without paying for it in noise, and what is returned
    is the mean of the path's last part (Polyak & Juditsky 1992).

    Against an adversary-known defense that coarsens scores (one that declares its `resolution`, the
    step of the grid that answers lie on) two things change: log-scores are floored at half a step and
    ranks take the place of values, and every antithetic pair is mixed with one public record, so that
    scores stay off the flat parts of the grid and small differences show up in the average.
    """

    name: ClassVar[str] = "nes"
    title: ClassVar[str] = "Score search (NES) in a prior's latent space"
    version: ClassVar[int] = 2
    cites: ClassVar[tuple[str, ...]] = (
        "Wierstra, Schaul, Glasmachers, Sun, Peters, Schmidhuber 2014, Natural Evolution Strategies, JMLR 15",
        "Ilyas, Engstrom, Athalye, Lin 2018, Black-box Adversarial Attacks with Limited Queries and "
        "Information, ICML (antithetic NES on a classifier's scores)",
        "An, Tao, Xu, Liu, Zhang 2022, MIRROR, NDSS (first candidates scored once for all classes)",
        "Polyak, Juditsky 1992, Acceleration of Stochastic Approximation by Averaging, SIAM J. Control Optim. 30",
    )

    population: int = Field(default=40, ge=2, multiple_of=2, description="perturbations a step, in antithetic pairs")
    radius: float = Field(default=0.3, gt=0, description="first size of a perturbation, in standard deviations")
    last_radius: float = Field(default=0.1, gt=0, description="last size of a perturbation")
    rate: float = Field(default=0.15, gt=0, description="first length of a step, in standard deviations")
    prior_weight: float = Field(default=0.03, ge=0, description="pull of each latent towards the mean record")
    augment: bool = Field(default=True, description="move pictures at random, both of a pair alike")
    averaged: float = Field(default=0.25, ge=0, lt=1, description="last share of the path whose mean is returned")

    def _least(self) -> int:
        return 2

    def _search(self, oracle: Oracle, pool: Pool) -> Found:
        z = starts(oracle, pool, self.prior_weight).astype(np.float64)
        each = oracle.left // len(oracle.classes)
        population = int(np.clip(each // STEPS // 2 * 2, 2, self.population))
        return _Climb(self, oracle, pool, population).run(z, each // population)


class _Climb:
    """The climb: what is fixed during it, and its steps."""

    def __init__(self, attack: ScoreNES, oracle: Oracle, pool: Pool, population: int):
        self._a = attack
        self._oracle = oracle
        self._public = pool.public
        self._population = population
        self._first = 2 * attack.radius if oracle.coarse else attack.radius
        self._last = 3 * attack.last_radius if oracle.coarse else attack.last_radius
        self._rate = attack.rate / 2 if oracle.coarse else attack.rate
        self._pull = attack.prior_weight / 10 if oracle.coarse else attack.prior_weight
        self._mix = np.full((len(oracle.classes), 1, 1), 0.3)

    def run(self, z: Array, steps: int) -> Found:
        """The mean latents of the last steps, decoded, and the victim's last mean score of each class."""
        oracle = self._oracle
        momentum, square = np.zeros_like(z), np.zeros_like(z)
        mean, count = np.zeros_like(z), 0
        confidence = np.zeros(len(z))
        scores: list[float] = []
        for step in range(steps):
            done = step / steps
            noise, reward, confidence = self._ask(z, self._first * (self._last / self._first) ** done)
            scores.append(float(confidence.mean()))
            slope = (reward[..., None] * noise).mean(axis=1)
            momentum = 0.8 * momentum + 0.2 * slope
            square = 0.95 * square + 0.05 * slope**2
            size = np.sqrt((square / (1 - 0.95 ** (step + 1))).mean(axis=1, keepdims=True)) + 1e-8
            move = momentum / (1 - 0.8 ** (step + 1)) / size
            z = oracle.clip(z + self._rate * (1 - 0.9 * done) * move)
            if step >= steps * (1 - self._a.averaged):
                mean, count = mean + z, count + 1
            oracle.show(z)
        held = mean / count if count else z
        return Found(oracle.decode(held), confidence, {"mean_score": np.array(scores, dtype=np.float64)})

    def _ask(self, z: Array, radius: float) -> tuple[Array, Array, Array]:
        """Perturbations (c, p, k), what each is worth (c, p), and the mean score of each wanted class (c,)."""
        oracle = self._oracle
        c, k = z.shape
        half = self._population // 2
        noise = oracle.rng.standard_normal((c, half, k))
        noise = np.concatenate([noise, -noise], axis=1)
        tried = oracle.clip(z[:, None] + radius * noise)
        asked = tried
        if oracle.coarse:
            partner = self._public[oracle.rng.integers(len(self._public), size=(c, half))]
            asked = (1 - self._mix) * tried + self._mix * np.concatenate([partner, partner], axis=1)
        pairs = np.stack([asked[:, :half], asked[:, half:]], axis=2).reshape(c * half, 2, k)
        answers = oracle.ask(pairs, moved=self._a.augment).reshape(c, half, 2, -1)
        scores = np.concatenate([answers[:, :, 0], answers[:, :, 1]], axis=1)
        wanted = np.repeat(oracle.classes, self._population)
        margins = _margin(scores.reshape(len(wanted), -1), wanted, oracle.floor).reshape(c, -1)
        reward = margins - self._pull * (tried**2).sum(axis=2)
        confidence = oracle.own(scores).mean(axis=1)
        if oracle.coarse:
            # Keep the mean score near one half, where rounding hides least.
            self._mix = np.clip(self._mix + 0.05 * (confidence - 0.5)[:, None, None], 0, 0.8)
            # Equal rewards share one rank: their order says nothing.
            return noise, (rankdata(reward, axis=1) - 1) / max(self._population - 1, 1) - 0.5, confidence
        spread = reward.std(axis=1, keepdims=True) + 1e-3
        return noise, (reward - reward.mean(axis=1, keepdims=True)) / spread, confidence
