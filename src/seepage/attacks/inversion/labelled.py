"""What the attacks that see labels alone share: questions with random moves, candidates, and first points.

One label says on which side of every boundary a record lies, and no more. Numbers come from many: a picture
moved a little at random at each question turns labels into frequencies, and one answer about a record that is
nobody's in particular serves every class at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from seepage.attacks.inversion.parts import Array, jittered
from seepage.attacks.inversion.search import FRAMES
from seepage.core.target import Target
from seepage.models.priors import Prior

MOVES = 0.06
BATCH = 1024
# Scales of the draws that are labelled first: real records are more varied than the middle of the prior.
LEAST, MOST = 0.7, 1.3
# How much further out each wave looks for classes that no answer has named yet.
WIDER = 1.3


@dataclass(frozen=True)
class Questions:
    """Asks a target for the labels of latents' records, every picture moved a little at random first.

    Attributes:
        target: what is asked.
        prior: makes records of latents.
        draws: where the moves come from.
        moves: greatest move, as a share of the side; 0 asks pictures as they are.
        heard: told of the records as they were asked, with their labels; None when nobody keeps them.
    """

    target: Target
    prior: Prior
    draws: torch.Generator
    moves: float = MOVES
    heard: Callable[[Array, Array], None] | None = None

    def moved(self, x: Float[Array, " n ..."]) -> Float[Array, " n ..."]:
        """Records (n, *shape) as they are asked: in the input's bounds."""
        if self.moves <= 0 or x.ndim != 4:
            return x
        return self.prior.spec.bounds.clip(jittered(torch.from_numpy(x), self.draws, self.moves).numpy())

    def labels(self, z: Float[Array, " n k"]) -> Int[Array, " n"]:
        """The label of each latent's record; n queries."""
        said = [np.zeros(0, dtype=np.int64)]
        for at in range(0, len(z), BATCH):
            x = self.moved(self.prior.decode(z[at : at + BATCH]))
            said.append(self.target.labels(x))
            if self.heard is not None:
                self.heard(x, said[-1])
        return np.concatenate(said)

    def frequency(self, z: Float[Array, " n k"], wanted: Int[Array, " n"], times: int) -> Float[Array, " n"]:
        """How often each latent's record is labelled as the class it should be, over `times` questions.

        With no question it is 0. n * times queries.
        """
        if times < 1:
            return np.zeros(len(z))
        said = self.labels(np.repeat(z, times, axis=0)).reshape(len(z), times)
        return (said == wanted[:, None]).mean(axis=1)


def draws_of(
    prior: Prior, count: int, rng: np.random.Generator, limit: float, wider: float = 1.0
) -> Float[Array, " n k"]:
    """`count` latents: draws of the prior, each scaled by a number between `LEAST` and `MOST` times `wider`."""
    scale = wider * rng.uniform(LEAST, MOST, size=(count, 1))
    return np.clip(scale * rng.standard_normal((count, prior.size)), -limit, limit).astype(np.float32)


def blends_of(known: Float[Array, " m k"], count: int, rng: np.random.Generator) -> Float[Array, " n k"]:
    """`count` latents, each a convex blend of two of the `known` ones: in linear priors a blend of two pictures."""
    pair = known[rng.integers(len(known), size=(2, count))]
    share = rng.random((count, 1), dtype=np.float32)
    return (share * pair[0] + (1 - share) * pair[1]).astype(np.float32)


@dataclass
class Ledger:
    """Latents that were asked about, with their labels.

    Attributes:
        z: (n, k) latents.
        y: (n,) labels.
    """

    z: Float[Array, " n k"]
    y: Int[Array, " n"]

    def add(self, z: Float[Array, " n k"], y: Int[Array, " n"]) -> None:
        """Enter answers."""
        self.z, self.y = np.concatenate([self.z, z]), np.concatenate([self.y, y])

    def hit(self, classes: Int[Array, " c"]) -> Bool[Array, " c"]:
        """Which of the classes some answer has named."""
        return np.isin(classes, self.y)

    def centres(self, classes: Int[Array, " c"]) -> Float[Array, " c k"]:
        """The mean latent of all that was labelled as each class; zeros, the mean record, for one never named.

        Draws of the prior that fall into the half-space w.z > b have their mean along w: with a linear boundary
        this mean points straight into the class, the more exactly the more answers there are.
        """
        rows = [self.z[self.y == c].mean(axis=0) if (self.y == c).any() else np.zeros(self.z.shape[1]) for c in classes]
        return np.stack(rows).astype(np.float32)

    def first(self, count: int) -> "Ledger":
        """The `count` answers that were entered first."""
        return Ledger(self.z[:count], self.y[:count])

    def nearest(self, classes: Int[Array, " c"], points: Float[Array, " c k"]) -> Float[Array, " c k"]:
        """For each class the latent labelled as it that lies nearest to its point; the point where there is none."""
        out = points.copy()
        for i, c in enumerate(classes):
            rows = self.z[self.y == c]
            if len(rows):
                out[i] = rows[np.square(rows - points[i]).sum(axis=1).argmin()]
        return out


def screen(
    questions: Questions,
    known: Float[Array, " m k"],
    classes: Int[Array, " c"],
    count: int,
    limit: float,
    rng: np.random.Generator,
) -> Ledger:
    """Labels of `count` candidates, asked once for all classes.

    Public records come first, then blends of them (an eighth), then draws of the prior. Draws go in waves: while
    some class has not been named, each wave is taken further from the middle than the one before.

    Args:
        questions: asks.
        known: latents of the public records.
        classes: the classes wanted.
        count: queries to spend.
        limit: greatest latent.
        rng: draws the candidates.
    """
    taken = known if len(known) <= count // 2 else known[rng.permutation(len(known))[: count // 2]]
    pool = np.concatenate([taken, blends_of(known, (count - len(taken)) // 8, rng)])
    ledger = Ledger(pool, questions.labels(pool))
    left, wider = count - len(pool), 1.0
    for wave in range(4, 0, -1):
        part = draws_of(questions.prior, left // wave, rng, limit, wider)
        ledger.add(part, questions.labels(part))
        left -= len(part)
        wider = wider * WIDER if not ledger.hit(classes).all() else wider
    return ledger


class Film:
    """What a search held on its way, at about eight moments of its spending.

    Args:
        target: whose queries are counted.
        prior: shows latents as records.
        queries: how many the search may still spend.
    """

    def __init__(self, target: Target, prior: Prior, queries: int):
        self._target = target
        self._prior = prior
        self._begun = target.queries
        self._queries = max(queries, 1)
        self._frames: list[Array] = []
        self._at: list[int] = []

    def due(self) -> bool:
        """Whether so much has been spent that another frame is wanted."""
        spent = self._target.queries - self._begun
        return spent * (FRAMES - 2) >= self._queries * len(self._frames)

    def show(self, z: Float[Array, " c k"], at: int | None = None) -> None:
        """Keep a frame: the latents held now (or after `at` queries), the classes rising."""
        self._frames.append(self._prior.decode(z))
        self._at.append(self._target.queries if at is None else at)

    def arrays(self, last: Float[Array, " c ..."]) -> tuple[Float[Array, " f c ..."], Int[Array, " f"]]:
        """All frames with the records `last` as the last one, and the queries spent at each."""
        return np.stack([*self._frames, last]).astype(np.float32), np.array([*self._at, self._target.queries])


def unnamed(classes: Int[Array, " c"], hit: Bool[Array, " c"]) -> tuple[str, ...]:
    """A note that says which classes no answer ever named; nothing when all were."""
    if hit.all():
        return ()
    rows = ", ".join(str(int(c)) for c in classes[~hit])
    return (f"classes that no answer ever named: {rows}; what is given for them is a guess without evidence",)
