"""Inversion from scores alone: natural evolution strategies in a latent space, under a query budget."""

import math
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy.stats import rankdata

from seepage.attacks.inversion.parts import jittered, torch_rng
from seepage.core.attack import InversionAttack
from seepage.core.defense import OutputDefense
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge, Knowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality
from seepage.models.priors import Prior, prior_for

Array = np.ndarray
FLOOR = 1e-6
BATCH = 1024


class ScoreNES(InversionAttack):
    """Climbs the wanted class's score by antithetic random perturbations of a latent, all classes at once.

    A first share of the budget scores public records and prior draws; one answer holds the scores of
    all classes, so this part is asked once for all. Each class then starts at its best candidate and
    moves along the score-weighted mean of its perturbations (Wierstra et al. 2014, eq. for the mean of
    a Gaussian search distribution; antithetic pairs as in Salimans et al. 2017), scores taken as the
    margin of log-probabilities.

    Against an adversary-known defense that coarsens scores (one that declares its `resolution`, the
    step of the grid that answers lie on) three things change: log-scores are floored at half a step,
    ranks take the place of values, and every antithetic pair is mixed with one public record, so that
    scores stay off the flat parts of the grid and small differences show up in the average.
    """

    name: ClassVar[str] = "nes"
    title: ClassVar[str] = "Score search (NES), principal-component prior"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES})
    cites: ClassVar[tuple[str, ...]] = (
        "Wierstra, Schaul, Glasmachers, Sun, Peters, Schmidhuber 2014, Natural Evolution Strategies, JMLR 15",
        "Ilyas, Engstrom, Athalye, Lin 2018, Black-box Adversarial Attacks with Limited Queries and "
        "Information, ICML (antithetic NES on a classifier's scores)",
        "An, Tao, Xu, Liu, Zhang 2022, MIRROR, NDSS (first candidates scored once for all classes)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True

    queries_per_class: int = Field(default=3000, ge=1, description="queries a class at the most, budget permitting")
    components: int = Field(default=60, ge=1, description="size of the prior at the most")
    population: int = Field(default=40, ge=2, multiple_of=2, description="perturbations a step, in antithetic pairs")
    screened: int = Field(default=600, ge=1, description="public records and prior draws scored first, for all classes")
    radius: float = Field(default=0.3, gt=0, description="first size of a perturbation, in standard deviations")
    last_radius: float = Field(default=0.1, gt=0, description="last size of a perturbation")
    rate: float = Field(default=0.15, gt=0, description="first length of a step, in standard deviations")
    prior_weight: float = Field(default=0.03, ge=0, description="pull of each latent towards the mean record")
    limit: float = Field(default=2.5, gt=0, description="greatest latent, in standard deviations")

    def _allowed(self, classes: int, budget: int | None) -> int:
        wanted = self.queries_per_class * classes
        return wanted if budget is None else min(wanted, budget)

    def cost(self, knowledge: InversionKnowledge, budget: int | None) -> int:
        return self._allowed(len(knowledge.classes), budget)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, InversionKnowledge) and budget is not None and budget < self._least(knowledge):
            return f"it needs {self._least(knowledge)} queries at the least, the budget is {budget}"
        return super().obstacle(knowledge, budget)

    def _least(self, knowledge: InversionKnowledge) -> int:
        """One step for every class, after as many candidates as classes."""
        return len(knowledge.classes) * (self.population + 1)

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        public = knowledge.public
        if public is None:
            raise ValueError("public records are needed; `obstacle` says so")
        prior = prior_for(knowledge, "pca", components=self.components, mirror=False)
        classes = knowledge.classes
        allowed = self._allowed(len(classes), target.remaining)
        grid = max((d.resolution for d in knowledge.defenses if isinstance(d, OutputDefense)), default=0.0)
        search = _Search(self, target, prior, classes, grid, rng)
        known = np.clip(prior.encode(public.x), -self.limit, self.limit)
        room = max(allowed - len(classes) * self.population, 1)
        screened = min(self.screened, max(room // 2, 1))
        best = search.screen(known, screened)
        steps = (allowed - target.queries) // (len(classes) * self.population)
        z, confidence = search.climb(best, known, steps)
        return Reconstruction(
            prior.decode(z), classes, confidence, trace={"mean_score": np.asarray(search.trace, dtype=np.float64)}
        )


class _Search:
    """One search: what is fixed during it, and its two phases."""

    def __init__(
        self,
        attack: ScoreNES,
        target: Target,
        prior: Prior,
        classes: Array,
        grid: float,
        rng: np.random.Generator,
    ):
        self._a = attack
        self._target = target
        self._prior = prior
        self._classes = classes
        self._coarse = grid > 0
        self._floor = max(grid / 2, FLOOR)
        self._rng = rng
        self._torch = torch_rng(rng)
        self.trace: list[float] = []

    def _scores(self, z: Array, moved: bool) -> Array:
        rows: list[Array] = []
        for at in range(0, len(z), BATCH):
            x = self._prior.decode(z[at : at + BATCH])
            if moved and x.ndim == 4:
                # Moved pictures turn a step of the grid into a slope that shows up in the average.
                x = self._prior.spec.bounds.clip(jittered(torch.from_numpy(x), self._torch).numpy())
            rows.append(self._target.scores(x))
        return np.concatenate(rows)

    def screen(self, known: Array, count: int) -> Array:
        """The best candidate for each class (or, on a coarse grid, the mean of the best): (c, k)."""
        take = known if len(known) <= count else known[self._rng.permutation(len(known))[:count]]
        drawn = 0.8 * self._rng.standard_normal((count - len(take), self._prior.size))
        pool = np.concatenate([take, np.clip(drawn, -self._a.limit, self._a.limit)]).astype(np.float32)
        logs = np.log(np.maximum(self._scores(pool, moved=False)[:, self._classes], self._floor))
        if not self._coarse:
            return pool[logs.argmax(axis=0)]
        count = min(8, len(pool))
        top = np.argsort(-logs, axis=0, kind="stable")[:count].T
        weights = np.exp(np.take_along_axis(logs.T, top, axis=1))
        weights /= weights.sum(axis=1, keepdims=True)
        return (pool[top] * weights[..., None]).sum(axis=1)

    def climb(self, z: Array, known: Array, steps: int) -> tuple[Array, Array]:
        """Latents after `steps` steps, and the victim's last mean score of each wanted class."""
        a, c, k = self._a, len(self._classes), self._prior.size
        half = a.population // 2
        first, last = (2 * a.radius, 3 * a.last_radius) if self._coarse else (a.radius, a.last_radius)
        rate = a.rate / 2 if self._coarse else a.rate
        pull = a.prior_weight / 10 if self._coarse else a.prior_weight
        wanted = np.repeat(self._classes, a.population)
        mix = np.full((c, 1, 1), 0.3)
        momentum, square = np.zeros((c, k)), np.zeros((c, k))
        confidence = np.zeros(c)
        for step in range(steps):
            radius = first * (last / first) ** (step / max(steps, 1))
            noise = self._rng.standard_normal((c, half, k))
            noise = np.concatenate([noise, -noise], axis=1)
            tried = np.clip(z[:, None] + radius * noise, -a.limit, a.limit)
            asked = tried
            if self._coarse:
                partner = known[self._rng.integers(len(known), size=(c, half))]
                asked = (1 - mix) * tried + mix * np.concatenate([partner, partner], axis=1)
            scores = self._scores(asked.reshape(-1, k), moved=self._coarse)
            reward = _margin(scores, wanted, self._floor).reshape(c, -1) - pull * (tried**2).sum(axis=2)
            own = np.take_along_axis(scores, wanted[:, None], axis=1).reshape(c, -1)
            confidence = own.mean(axis=1)
            self.trace.append(float(confidence.mean()))
            if self._coarse:
                # Keep the mean score near one half, where rounding hides least.
                mix = np.clip(mix + 0.05 * (confidence - 0.5)[:, None, None], 0, 0.8)
                # Equal rewards share one rank: their order says nothing.
                use = (rankdata(reward, axis=1) - 1) / (a.population - 1) - 0.5
            else:
                use = (reward - reward.mean(axis=1, keepdims=True)) / (reward.std(axis=1, keepdims=True) + 1e-3)
            slope = (use[..., None] * noise).mean(axis=1)
            momentum = 0.8 * momentum + 0.2 * slope
            square = 0.95 * square + 0.05 * slope**2
            size = np.sqrt((square / (1 - 0.95 ** (step + 1))).mean(axis=1, keepdims=True)) + 1e-8
            move = momentum / (1 - 0.8 ** (step + 1)) / size
            z = np.clip(z + rate * (1 - 0.9 * step / max(steps, 1)) * move, -a.limit, a.limit)
        return z.astype(np.float32), confidence


def _margin(scores: Array, wanted: Array, floor: float) -> Array:
    """Log-score of the wanted class minus that of the best other one: (n,)."""
    logs = np.log(np.maximum(scores, floor))
    own = logs[np.arange(len(logs)), wanted]
    if logs.shape[1] == 1:
        return own
    logs[np.arange(len(logs)), wanted] = -math.inf
    return own - logs.max(axis=1)
