"""What searches that see scores alone have in common: the allowance, one screening for all classes, the film.

A search works with latents of a prior, or with records themselves, and asks through an `Oracle`, which
counts. One answer holds the scores of all classes, so what is asked first (the screening) is asked once
for all of them, and everything that is learned from it is learned for every class.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field

from seepage.attacks.inversion.parts import torch_rng
from seepage.attacks.inversion.search import PriorName, kind_of
from seepage.core.attack import InversionAttack, scores_or_top_k
from seepage.core.defense import OutputDefense
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge, Knowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality
from seepage.models.priors import Prior, prior_for
from seepage.models.training import moved as move

Array = np.ndarray
FLOOR = 1e-9
BATCH = 1024
FRAMES = 8
# Greatest shift and change of size of a picture that is moved, as a share of its side.
MOVED = 0.06
TOP = 8
# Lengths at which the linear model's directions are tried, as shares of a public record's usual length.
LENGTHS = (0.3, 0.6, 1.0)


def score_margin(scores: Float[Array, " n c"], wanted: Int[Array, " n"], floor: float) -> Float[Array, " n"]:
    """Log-score of the wanted class minus that of the best other one, scores held at `floor` or above: (n,).

    With one class alone it is the log-score itself.
    """
    logs = np.log(np.maximum(scores, floor))
    own = logs[np.arange(len(logs)), wanted]
    if logs.shape[1] == 1:
        return own
    logs[np.arange(len(logs)), wanted] = -math.inf
    return own - logs.max(axis=1)


def resolution(knowledge: Knowledge) -> float:
    """Step of the grid that scores are known to lie on; 0 when no known defense coarsens them."""
    return max((d.resolution for d in knowledge.defenses if isinstance(d, OutputDefense)), default=0.0)


@dataclass
class Film:
    """What the search held on its way, at `FRAMES` evenly spaced counts of queries.

    Attributes:
        order: (c,) the places of the classes, rising.
        due: counts of queries at which a frame is wanted.
    """

    order: Int[Array, " c"]
    due: list[float]
    frames: list[Array] = field(default_factory=list[Array])
    at: list[int] = field(default_factory=list[int])

    @classmethod
    def over(cls, classes: Int[Array, " c"], queries: int) -> "Film":
        """A film of a search that spends so many queries, its first frame at once."""
        return cls(np.argsort(classes), np.linspace(0, queries, FRAMES + 1)[:-1].tolist())

    def is_due(self, queries: int) -> bool:
        """Whether a frame is wanted at this count."""
        return bool(self.due) and queries >= self.due[0]

    def keep(self, x: Float[Array, " c ..."], queries: int) -> None:
        """Keep what is held now, one record a class; counts that were jumped over are dropped."""
        self.frames.append(x[self.order].astype(np.float32))
        self.at.append(queries)
        self.due = [due for due in self.due if due > queries]


class Oracle:
    """A victim that gives scores, a way to make records, and an allowance of queries.

    Args:
        target: the victim; only its scores are asked.
        knowledge: the classes, and the defenses that are known.
        allowed: how many queries may be spent.
        decode: makes records (n, *shape) of what is searched, (n, ...): a prior's `decode`, say.
        limit: greatest value of what is searched.
        rng: where all randomness comes from.
    """

    def __init__(
        self,
        target: Target,
        knowledge: InversionKnowledge,
        allowed: int,
        decode: Callable[[Array], Array],
        limit: float,
        rng: np.random.Generator,
    ):
        self._target = target
        self._decode = decode
        self._allowed = allowed
        self._begun = target.queries
        self._film = Film.over(knowledge.classes, allowed)
        self._bounds = knowledge.spec.bounds
        self.classes = knowledge.classes
        self.limit = limit
        self.rng = rng
        grid = resolution(knowledge)
        self.coarse = grid > 0
        # A score of zero on a grid means "less than half a step".
        self.floor = max(grid / 2, FLOOR)

    @property
    def spent(self) -> int:
        return self._target.queries - self._begun

    @property
    def left(self) -> int:
        """Queries that may still be spent."""
        return self._allowed - self.spent

    def clip(self, z: Array) -> Array:
        return np.clip(z, -self.limit, self.limit)

    def decode(self, z: Float[Array, " n ..."]) -> Float[Array, " n ..."]:
        """Records of what is searched, in the input's bounds, float32."""
        return self._decode(z.astype(np.float32))

    def ask(self, z: Float[Array, " g a ..."], moved: bool = False) -> Float[Array, " g a c"]:
        """Scores of g groups of a candidates each; one query a candidate.

        With `moved`, pictures are moved a little first, all of one group alike: what is compared is then
        compared fairly, and what is climbed towards survives being moved.
        """
        groups, each = z.shape[:2]
        draws = torch_rng(self.rng) if moved else None
        rows: list[Array] = []
        size = max(BATCH // each, 1)
        for at in range(0, groups, size):
            part = z[at : at + size]
            x = self.decode(part.reshape(-1, *part.shape[2:]))
            if draws is not None and x.ndim == 4:
                x = self._moved(x.reshape(len(part), each, *x.shape[1:]), draws)
            rows.append(self._target.answers(x).reshape(len(part), each, -1))
        return np.concatenate(rows)

    def _moved(self, x: Array, draws: torch.Generator) -> Array:
        before = draws.get_state()
        columns: list[Array] = []
        for i in range(x.shape[1]):
            # The same draws for every column: row by row, a group is moved alike.
            draws.set_state(before)
            column = torch.from_numpy(np.ascontiguousarray(x[:, i]))
            # Never mirrored: a mirrored digit is none.
            columns.append(move(column, draws, shift=MOVED, zoom=MOVED, turn=0.0, mirror=False).numpy())
        return self._bounds.clip(np.stack(columns, axis=1)).reshape(-1, *x.shape[2:])

    def margins(self, scores: Float[Array, " c a C"]) -> Float[Array, " c a"]:
        """The margin of each class at its own candidates."""
        c, each = scores.shape[:2]
        return score_margin(scores.reshape(c * each, -1), np.repeat(self.classes, each), self.floor).reshape(c, each)

    def own(self, scores: Float[Array, " c a C"]) -> Float[Array, " c a"]:
        """The score of each class at its own candidates."""
        return np.take_along_axis(scores, self.classes[:, None, None], axis=2)[..., 0]

    def show(self, z: Float[Array, " c ..."]) -> None:
        """Keep a frame of what is held now, one a class, when one is due."""
        if self._film.is_due(self.spent):
            self._film.keep(self.decode(z), self.spent)

    def result(self, found: "Found") -> Reconstruction:
        """What the search ended with, and its film."""
        film = self._film
        return Reconstruction(
            found.x,
            self.classes,
            found.confidence,
            trace=found.trace,
            notes=found.notes,
            frames=np.stack(film.frames) if film.frames else None,
            frame_at=np.array(film.at, dtype=np.int64) if film.frames else None,
        )


@dataclass(frozen=True)
class Pool:
    """What was asked first, once for all classes.

    Attributes:
        z: (n, ...) candidates: public records (or their latents), then draws of the prior.
        scores: (n, C) the victim's scores.
        public: (m, ...) all public records (or their latents), asked or not.
    """

    z: Float[Array, " n ..."]
    scores: Float[Array, " n C"]
    public: Float[Array, " m ..."]

    def margins(self, oracle: Oracle) -> Float[Array, " c n"]:
        """The margin of every attacked class at every candidate."""
        rows = len(self.z)
        return np.stack([score_margin(self.scores, np.full(rows, c), oracle.floor) for c in oracle.classes])

    def ranked(self, oracle: Oracle, count: int) -> Int[Array, " c m"]:
        """For each attacked class the rows of its best candidates, best first: by score, then by margin."""
        margins = self.margins(oracle)
        order = [np.lexsort((-margins[i], -self.scores[:, c])) for i, c in enumerate(oracle.classes)]
        return np.stack(order)[:, : min(count, len(self.z))]


def screen(oracle: Oracle, prior: Prior, public: Float[Array, " n ..."], count: int) -> Pool:
    """Ask `count` candidates, once for all classes: public records (as the prior holds them), then its draws."""
    known = oracle.clip(prior.encode(public)).astype(np.float32)
    rows = np.arange(len(known)) if len(known) <= count else oracle.rng.permutation(len(known))[:count]
    drawn = oracle.clip(0.8 * oracle.rng.standard_normal((count - len(rows), prior.size)))
    z = np.concatenate([known[rows], drawn]).astype(np.float32)
    return Pool(z, oracle.ask(z[:, None])[:, 0], known)


def linear_directions(z: Float[Array, " n k"], scores: Float[Array, " n c"], floor: float) -> Float[Array, " k c"]:
    """Slopes of the centred log-scores in the latent, by ridge regression: (k, c).

    log p_c - mean_j log p_j is the logit of class c less the mean logit, so that for a linear victim
    behind a linear prior enough answers give its weights. The ridge is the one of least leave-one-out
    error, which is had in closed form (Golub, Heath & Wahba 1979; Allen's PRESS).
    """
    logs = np.log(np.maximum(scores, floor)).astype(np.float64)
    logs -= logs.mean(axis=1, keepdims=True)
    y = logs - logs.mean(axis=0)
    u, s, vt = np.linalg.svd(z.astype(np.float64) - z.mean(axis=0), full_matrices=False)
    s = np.maximum(s, 1e-9)
    best, slopes = math.inf, np.zeros((z.shape[1], scores.shape[1]))
    for ridge in s[0] ** 2 * 10.0 ** np.arange(-5, 3):
        kept = s**2 / (s**2 + ridge)
        leverage = (u**2 * kept).sum(axis=1) + 1 / len(z)
        left_out = (y - (u * kept) @ (u.T @ y)) / np.maximum(1 - leverage, 1e-3)[:, None]
        error = float((left_out**2).mean())
        if error < best:
            best, slopes = error, vt.T @ ((s / (s**2 + ridge))[:, None] * (u.T @ y))
    return slopes


def starts(oracle: Oracle, pool: Pool, pull: float) -> Float[Array, " c k"]:
    """Where each class starts: the best of several candidates, which are asked when the allowance holds them.

    The candidates are the best one screened; the mean of the best few, weighted by their score; steps of
    three lengths along the linear model's slope for the class; and the middles between mean and steps.
    """
    top = pool.ranked(oracle, TOP)
    own = np.take_along_axis(pool.scores[:, oracle.classes].T, top, axis=1) + oracle.floor
    mean = (pool.z[top] * (own / own.sum(axis=1, keepdims=True))[..., None]).sum(axis=1)
    choices = [pool.z[top[:, 0]], mean]
    if len(pool.z) > 2:
        slopes = linear_directions(pool.z, pool.scores, oracle.floor)[:, oracle.classes].T
        length = np.linalg.norm(slopes, axis=1, keepdims=True)
        usual = np.sqrt((pool.z**2).sum(axis=1).mean())
        steps = [share * usual * slopes / np.maximum(length, 1e-12) for share in LENGTHS]
        choices += steps + [(mean + step) / 2 for step in steps]
    tried = oracle.clip(np.stack(choices, axis=1)).astype(np.float32)
    # On a small allowance the best one screened has to do: what is left is for the search.
    if oracle.left < 2 * tried.shape[0] * tried.shape[1]:
        return tried[:, 1] if oracle.coarse else tried[:, 0]
    reward = oracle.margins(oracle.ask(tried)) - pull * (tried**2).sum(axis=2)
    return tried[np.arange(len(tried)), reward.argmax(axis=1)]


@dataclass(frozen=True)
class Found:
    """What a search ends with.

    Attributes:
        x: (c, ...) one record a class, in the order of the attacked classes.
        confidence: (c,) the victim's score of each.
        trace: curves worth keeping.
        notes: remarks for the report.
    """

    x: Float[Array, " c ..."]
    confidence: Float[Array, " c"]
    trace: dict[str, Array] = field(default_factory=dict[str, Array])
    notes: tuple[str, ...] = ()


class ScoreAttack(InversionAttack):
    """Base of the attacks that see scores alone and spend what they are allowed.

    An attack says how many queries a class its smallest step asks (`_least`).
    """

    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES})
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True

    queries_per_class: int = Field(default=3000, ge=1, description="queries a class at the most, budget permitting")
    screened: int = Field(default=2000, ge=1, description="candidates scored first, once for all classes, at the most")

    @abstractmethod
    def _least(self) -> int:
        """Queries a class of the smallest step."""

    def allowed(self, classes: int, budget: int | None) -> int:
        """How many queries it spends at the most on so many classes within `budget`."""
        wanted = max(self.queries_per_class, self._least() + 1) * classes
        return wanted if budget is None else min(wanted, budget)

    def screening(self, classes: int, allowed: int) -> int:
        """How many of them go to the screening: at the most half, since the search has to find what it cannot."""
        return min(self.screened, max(min(allowed // 2, allowed - classes * self._least()), 1))

    def opens(self, granted: frozenset[Access]) -> frozenset[Access]:
        return scores_or_top_k(granted)

    def cost(self, knowledge: InversionKnowledge, budget: int | None) -> int:
        return self.allowed(len(knowledge.classes), budget)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, InversionKnowledge) and budget is not None:
            # One step for every class, after as many candidates as classes.
            least = len(knowledge.classes) * (self._least() + 1)
            if budget < least:
                return f"it needs {least} queries at the least, the budget is {budget}"
        return super().obstacle(knowledge, budget)


class ScoreSearch(ScoreAttack):
    """Base of those that search the latents of a prior: one screening for all classes, then `_search`."""

    prior: PriorName = Field(default="pca", description="which prior is searched")
    components: int = Field(default=60, ge=1, description="size of the prior at the most, where it is pca")
    limit: float = Field(default=2.5, gt=0, description="greatest latent, in standard deviations")

    def priors(self, knowledge: InversionKnowledge) -> tuple[str, ...]:
        return (kind_of(knowledge, self.prior, "pca"),)

    @abstractmethod
    def _search(self, oracle: Oracle, pool: Pool) -> Found:
        """The search itself, within `oracle.left` queries."""

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        if knowledge.public is None:
            raise ValueError("public records are needed; `obstacle` says so")
        kind = kind_of(knowledge, self.prior, "pca")
        options = {"components": self.components, "mirror": False} if kind == "pca" else {}
        prior = prior_for(knowledge, kind, **options)
        classes = len(knowledge.classes)
        allowed = self.allowed(classes, target.remaining)
        oracle = Oracle(target, knowledge, allowed, prior.decode, self.limit, rng)
        pool = screen(oracle, prior, knowledge.public.x, self.screening(classes, allowed))
        return oracle.result(self._search(oracle, pool))
