"""Membership from labels alone, by distance: what was trained on lies further inside its class."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field

from seepage.attacks.membership import labels_alone
from seepage.core.attack import MembershipAttack
from seepage.core.guess import Scores
from seepage.core.knowledge import Knowledge, MembershipKnowledge
from seepage.core.spec import Bounds
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality

Array = np.ndarray

# Halvings of a line: the first is as long as the way to another record, the later ones are short.
FIRST, LATER = 12, 8
# Halvings of a step along the boundary before it is given up.
SHORTER = 4
# Probes lie within this share of the distance, at the least and at the most.
NEAREST, FURTHEST = 0.01, 0.1


class BoundaryDistance(MembershipAttack):
    """Score each candidate by an upper bound on its distance to the nearest record with another label.

    HopSkipJump (Chen, Jordan, Wainwright 2020) for all candidates at once. From the nearest candidate that is
    labelled as another class, the line to the record is halved until the boundary; labels of `probes` records around
    that point, more at each turn, give the boundary's normal; a step along it, and the line back to the record is
    halved anew. Distances are Euclidean, every value in units of its bounds. A candidate that is labelled wrongly is at
    distance 0; what it leaves unspent goes to the others. For a linear classifier the distance is |w x + b| / |w|.

    With less than a first search a candidate it is the gap attack.
    """

    name: ClassVar[str] = "boundary-distance"
    title: ClassVar[str] = "Distance to the boundary, labels alone"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.LABELS})
    cites: ClassVar[tuple[str, ...]] = (
        "Choquette-Choo, Tramer, Carlini, Papernot 2021, Label-Only Membership Inference Attacks, ICML",
        "Chen, Jordan, Wainwright 2020, HopSkipJumpAttack: A Query-Efficient Decision-Based Attack, IEEE S&P",
        "Li, Zhang 2021, Membership Leakage in Label-Only Exposures, CCS",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})

    queries_per_record: int = Field(default=300, ge=1, description="queries a candidate at the most, budget permitting")
    probes: int = Field(default=24, ge=2, description="labels around a point of the boundary at the first turn")
    chunk: int = Field(default=2**24, ge=1, description="numbers held at a time: memory, not results")

    def cost(self, knowledge: MembershipKnowledge, budget: int | None) -> int:
        return labels_alone.allowed(len(knowledge.candidates), self.queries_per_record, budget)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return labels_alone.obstacle(knowledge, budget) or super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: MembershipKnowledge, rng: np.random.Generator) -> Scores:
        """The distance of each candidate, zero or more; where no other label was met, that across the bounds.

        Raises:
            BudgetExceeded: for less than a query a candidate.
            DataError: for classes that the victim lacks.
        """
        x, n = knowledge.candidates.x, len(knowledge.candidates)
        allowed = labels_alone.allowed(n, self.queries_per_record, target.remaining)
        said, right = labels_alone.first(target, knowledge)
        bounds = target.spec.bounds if target.spec is not None else Bounds.of(x.min(), x.max())
        unit = bounds.to_unit(x).reshape(n, -1)
        far = float(np.sqrt(unit.shape[1]))
        distance = np.where(right, far, 0.0)
        rows, starts = nearest_others(unit, said, right)
        each = min((allowed - n) // max(len(rows), 1), self.queries_per_record - 1)
        if each < FIRST or not len(rows):
            return Scores(right.astype(np.float64), notes=("Too few queries for distances: right or wrong.",))
        at_once = max(1, self.chunk // (unit.shape[1] * self.probes * 2))
        for i in range(0, len(rows), at_once):
            part = rows[i : i + at_once]
            line = Line(target, bounds, x.shape[1:], unit[part], said[part])
            distance[part] = self._search(line, unit[starts[i : i + at_once]], each, rng)
        facts = {"queries_per_right_candidate": float(each), "labelled_wrongly": float((~right).sum())}
        return Scores(distance, facts=facts)

    def _search(self, line: "Line", start: Float[Array, " b d"], left: int, rng: np.random.Generator) -> Array:
        """Distances of a line's records, `left` queries each at the most."""
        point = line.halved(start, FIRST)
        left -= FIRST
        best = line.far(point)
        turn = 1
        while True:
            probes = int(self.probes * np.sqrt(turn))
            if left < probes + SHORTER + LATER:
                # The last turn takes what is left, where that still tells a direction.
                probes = left - SHORTER - LATER
                if probes < max(self.probes // 2, 2):
                    return best
            direction = line.normal(point, probes, rng)
            stepped, outside = line.stepped(point, direction, best / np.sqrt(turn))
            # Where no step stayed outside, the point stays, and halving towards the record changes nothing.
            found = line.halved(np.where(outside[:, None], stepped, point), LATER)
            nearer = line.far(found) < best
            point = np.where(nearer[:, None], found, point)
            best = np.minimum(best, line.far(found))
            left -= probes + SHORTER + LATER
            turn += 1


def nearest_others(
    unit: Float[Array, " n d"], said: Int[Array, " n"], right: Bool[Array, " n"]
) -> tuple[Int[Array, " b"], Int[Array, " b"]]:
    """The rows of candidates labelled rightly, and for each the nearest candidate with another label.

    None at all where every candidate has the same label.
    """
    rows = np.nonzero(right)[0]
    if len(np.unique(said)) < 2 or not len(rows):
        return rows[:0], rows[:0]
    squares = (unit.astype(np.float64) ** 2).sum(axis=1)
    starts = np.empty(len(rows), dtype=np.int64)
    for i, row in enumerate(rows):
        apart = squares - 2 * (unit @ unit[row])
        starts[i] = np.where(said == said[row], np.inf, apart).argmin()
    return rows, starts


@dataclass(frozen=True)
class Line:
    """Records in unit values (b, d) with their labels, and questions about points around them.

    "Outside" is a point whose label is another than the record's.
    """

    target: Target
    bounds: Bounds
    shape: tuple[int, ...]
    record: Float[Array, " b d"]
    label: Int[Array, " b"]

    def outside(self, points: Float[Array, " b d"]) -> Bool[Array, " b"]:
        x = self.bounds.clip(self.bounds.from_unit(points.reshape(len(points), *self.shape)))
        return labels_alone.labels(self.target, x) != self.label

    def far(self, points: Float[Array, " b d"]) -> Float[Array, " b"]:
        return np.linalg.norm((points - self.record).astype(np.float64), axis=1)

    def halved(self, outer: Float[Array, " b d"], times: int) -> Float[Array, " b d"]:
        """The nearest point to each record known to be outside, on the line from `outer`, which is; `times` queries."""
        low, high = np.zeros(len(outer)), np.ones(len(outer))
        for _ in range(times):
            middle = (low + high) / 2
            out = self.outside(self._between(outer, middle))
            high, low = np.where(out, middle, high), np.where(out, low, middle)
        return self._between(outer, high)

    def _between(self, outer: Float[Array, " b d"], share: Float[Array, " b"]) -> Float[Array, " b d"]:
        return (self.record + share[:, None] * (outer - self.record)).astype(np.float32)

    def normal(self, point: Float[Array, " b d"], probes: int, rng: np.random.Generator) -> Float[Array, " b d"]:
        """Unit vectors out of the class, by the labels around a point of its boundary (the paper's equation 16)."""
        size = self.far(point) * np.clip(1 / point.shape[1], NEAREST, FURTHEST)
        total, held = np.zeros(point.shape), np.zeros(point.shape)
        signs = np.zeros(len(point))
        for _ in range(probes):
            draw = rng.standard_normal(point.shape)
            draw /= np.linalg.norm(draw, axis=1, keepdims=True)
            probe = np.clip(point + size[:, None] * draw, 0.0, 1.0)
            draw = probe - point
            sign = np.where(self.outside(probe.astype(np.float32)), 1.0, -1.0)
            total, held, signs = total + sign[:, None] * draw, held + draw, signs + sign
        # The mean of the signs is taken off, except where all are the same and it would leave nothing.
        mean = signs / probes
        same = np.abs(mean) == 1.0
        direction = np.where(same[:, None], total, total - mean[:, None] * held)
        return direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-12)

    def stepped(
        self, point: Float[Array, " b d"], direction: Float[Array, " b d"], step: Float[Array, " b"]
    ) -> tuple[Float[Array, " b d"], Bool[Array, " b"]]:
        """Points a step along `direction`, halved until outside, and whether they are; `SHORTER` queries."""
        step, out = step.copy(), np.zeros(len(point), dtype=bool)
        moved = point
        for _ in range(SHORTER):
            tried = np.clip(point + step[:, None] * direction, 0.0, 1.0).astype(np.float32)
            now = self.outside(np.where(out[:, None], moved, tried))
            moved = np.where(out[:, None], moved, tried)
            out, step = out | now, np.where(out | now, step, step / 2)
        return moved, out
