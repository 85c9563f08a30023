"""Membership from labels alone, by copies of a record: what was trained on is still known when it is altered."""

from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field
from scipy.ndimage import rotate

from seepage.attacks.membership import labels_alone
from seepage.core.attack import MembershipAttack
from seepage.core.guess import Scores
from seepage.core.knowledge import Knowledge, MembershipKnowledge
from seepage.core.spec import Bounds
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality

Array = np.ndarray


class Augmentation(MembershipAttack):
    """Score each candidate by the share of altered copies that the victim still gives the right label.

    Pictures: the picture itself, its mirror image, rotations by plus and minus `degrees`, and shifts by i and j
    pixels with |i| + |j| = 1, 2, ... up to `shift`, the least first; then noise. Tables: noise of `noise` standard
    deviations of a column; a column of two values takes the other one with a chance of `flips` instead, as in the
    paper's noise for binary features. The paper learns from a shadow model which answers speak for a member; without
    one, each right answer counts alike. Noise is drawn once for all candidates alike.

    With one query a candidate it is the gap attack.
    """

    name: ClassVar[str] = "augmentation"
    title: ClassVar[str] = "Labels of altered copies"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.LABELS})
    cites: ClassVar[tuple[str, ...]] = (
        "Choquette-Choo, Tramer, Carlini, Papernot 2021, Label-Only Membership Inference Attacks, ICML",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})

    queries_per_record: int = Field(default=32, ge=1, description="queries a candidate at the most, budget permitting")
    shift: int = Field(default=2, ge=0, description="greatest shift of pictures, in pixels along both axes together")
    degrees: float = Field(default=4.0, ge=0, lt=180, description="rotation of pictures; 0: none")
    mirror: bool = Field(default=True, description="whether pictures are mirrored left to right")
    noise: float = Field(default=0.3, ge=0, description="standard deviation of the noise, in those of a column")
    flips: float = Field(default=0.1, ge=0, le=0.5, description="chance that a column of two values takes the other")

    def cost(self, knowledge: MembershipKnowledge, budget: int | None) -> int:
        return labels_alone.allowed(len(knowledge.candidates), self.queries_per_record, budget)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return labels_alone.obstacle(knowledge, budget) or super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: MembershipKnowledge, rng: np.random.Generator) -> Scores:
        """The share of right labels of each candidate, in [0, 1].

        Raises:
            BudgetExceeded: for less than a query a candidate.
            DataError: for classes that the victim lacks.
        """
        x, truth = knowledge.candidates.x, knowledge.candidates.labels()
        copies = labels_alone.allowed(len(x), self.queries_per_record, target.remaining) // max(len(x), 1)
        right = [labels_alone.first(target, knowledge)[1]]
        bounds = target.spec.bounds if target.spec is not None else Bounds.of(x.min(), x.max())
        moves = self._moves() if x.ndim == 4 else []
        for i in range(1, max(copies, 1)):
            altered = moved(x, moves[i - 1]) if i <= len(moves) else self._noisy(x, bounds, rng)
            right.append(labels_alone.labels(target, bounds.clip(altered)) == truth)
        notes = () if copies > 1 else ("One query a candidate: right or wrong, and no copies.",)
        return Scores(np.mean(right, axis=0), notes=notes, facts={"copies": float(len(right))})

    def _moves(self) -> list[tuple[bool, float, int, int]]:
        """Mirror, degrees, and shifts down and to the right, the mildest first."""
        found = [(True, 0.0, 0, 0)] if self.mirror else []
        shifts = [
            (False, 0.0, i, j)
            for far in range(1, self.shift + 1)
            for i in range(-far, far + 1)
            for j in sorted({-(far - abs(i)), far - abs(i)})
        ]
        turns = [(False, sign * self.degrees, 0, 0) for sign in (1, -1)] if self.degrees else []
        return [*found, *shifts[:4], *turns, *shifts[4:]]

    def _noisy(self, x: Float[Array, " n ..."], bounds: Bounds, rng: np.random.Generator) -> Float[Array, " n ..."]:
        """Copies with one draw of noise, the same for every record: none is favoured by its draw."""
        flat = x.reshape(len(x), -1).astype(np.float64)
        binary = two_valued(flat)
        low, high = flat.min(axis=0), flat.max(axis=0)
        noise = self.noise * flat.std(axis=0) * rng.standard_normal(flat.shape[1])
        flipped = binary & (rng.random(flat.shape[1]) < self.flips)
        altered = np.where(binary[None], np.where(flipped[None], low + high - flat, flat), flat + noise)
        return altered.reshape(x.shape).astype(np.float32)


def two_valued(flat: Float[Array, " n d"]) -> Bool[Array, " d"]:
    """Columns that hold two values and no more; a constant one, or one that a single record could tell, is none."""
    ends = (flat == flat.min(axis=0)) | (flat == flat.max(axis=0))
    return ends.all(axis=0) & (flat.min(axis=0) < flat.max(axis=0)) & (len(flat) > 2)


def moved(x: Float[Array, " n c h w"], move: tuple[bool, float, int, int]) -> Float[Array, " n c h w"]:
    """Pictures mirrored, turned and shifted; what comes in from outside repeats the edge."""
    mirror, degrees, down, right = move
    if mirror:
        x = x[..., ::-1]
    if degrees:
        x = rotate(x, degrees, axes=(2, 3), reshape=False, order=1, mode="nearest")
    if down or right:
        rows = np.clip(np.arange(x.shape[2]) - down, 0, x.shape[2] - 1)
        columns = np.clip(np.arange(x.shape[3]) - right, 0, x.shape[3] - 1)
        x = x[:, :, rows][:, :, :, columns]
    return np.ascontiguousarray(x)
