"""BREP-MI: inversion from labels alone, by repulsion from the boundary of the class."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field

from seepage.attacks.inversion.labelled import MOVES, Film, Questions, screen, unnamed
from seepage.attacks.inversion.parts import Array, torch_rng
from seepage.attacks.inversion.search import PriorName, facts_of, kind_of, prior_named
from seepage.core.attack import InversionAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge, Knowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality

CHECKS = 8
# No step is longer than this times the mean direction, as published.
LONGEST = 3.0
# Fewer steps than these are no search: the queries are better spent on candidates.
FEW = 5


class BoundaryRepulsion(InversionAttack):
    """Each class's latent moves away from whatever lies around it and is labelled as somebody else.

    From a point that is labelled as the class, `points` neighbours on a sphere are asked for; the point moves
    along minus the mean direction of those that left the class, if it stays inside; when more than `inside` of
    them are inside, the sphere grows. The largest sphere that still fits has its centre deep in the class. A sphere
    that is outside almost altogether shrinks again: its labels tell no direction, and the centre would wander.

    A part of the budget labels candidates first, once for all classes, and each class starts at the mean of the
    candidates labelled as it: the paper starts at the first one met. Pictures are moved a little at random at
    each question. A class that no candidate hits is given the mean record, and said so.
    """

    name: ClassVar[str] = "brep-mi"
    title: ClassVar[str] = "Boundary repulsion (BREP-MI), labels alone"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.LABELS})
    cites: ClassVar[tuple[str, ...]] = (
        "Kahla, Chen, Just, Jia 2022, Label-Only Model Inversion Attacks via Boundary Repulsion, CVPR",
        "An, Tao, Xu, Liu, Zhang 2022, MIRROR, NDSS (candidates asked once for all classes)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True

    queries_per_class: int = Field(default=2500, ge=1, description="queries a class at the most, budget permitting")
    prior: PriorName = Field(default="pca", description="which prior is searched")
    components: int = Field(default=60, ge=1, description="size of a 'pca' prior at the most")
    screening: float = Field(default=0.1, gt=0, lt=1, description="share of the queries that labels candidates")
    points: int = Field(default=32, ge=2, description="neighbours asked for at each step")
    radius: float = Field(default=0.5, gt=0, description="first radius, as a share of the square root of the size")
    step: float = Field(default=1.0, gt=0, description="length of a step, as a share of the radius")
    growth: float = Field(default=1.3, gt=1, description="by what the radius grows")
    inside: float = Field(default=0.75, gt=0, le=1, description="share of neighbours inside above which it grows")
    outside: float = Field(
        default=0.1, ge=0, lt=1, description="share of neighbours inside below which it shrinks; 0: never, as published"
    )
    patience: int = Field(default=1000, ge=1, description="steps without growth after which a class is done")
    limit: float = Field(default=2.0, gt=0, description="greatest latent, in standard deviations")
    moves: float = Field(default=MOVES, ge=0, lt=0.5, description="random move of pictures at each question")

    def _allowed(self, classes: int, budget: int | None) -> int:
        wanted = self.queries_per_class * classes
        return wanted if budget is None else min(wanted, budget)

    def cost(self, knowledge: InversionKnowledge, budget: int | None) -> int:
        return self._allowed(len(knowledge.classes), budget)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, InversionKnowledge) and budget is not None and budget < len(knowledge.classes):
            return f"it needs a query a class at the least: {len(knowledge.classes)}, and the budget is {budget}"
        return super().obstacle(knowledge, budget)

    def _plan(self, classes: int, allowed: int) -> tuple[int, int, int]:
        """Queries for candidates, steps, and questions about each start and each result."""
        # Checks cost a twentieth of the queries at the most; with hardly any queries there are none.
        checks = min(CHECKS, allowed // (40 * classes))
        room = allowed - 2 * checks * classes
        steps = int(room * (1 - self.screening)) // (classes * (self.points + 1))
        return (int(room * self.screening), steps, checks) if steps >= FEW else (room, 0, checks)

    def priors(self, knowledge: InversionKnowledge) -> tuple[str, ...]:
        return (kind_of(knowledge, self.prior, "pca"),)

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        if knowledge.public is None:
            raise ValueError("public records are needed; `obstacle` says so")
        prior = prior_named(knowledge, self.prior, "pca", self.components)
        classes = np.sort(knowledge.classes)
        allowed, begun = self._allowed(len(classes), target.remaining), target.queries
        screened, steps, checks = self._plan(len(classes), allowed)
        questions = Questions(target, prior, torch_rng(rng), self.moves)
        known = np.clip(prior.encode(knowledge.public.x), -self.limit, self.limit)
        ledger = screen(questions, known, classes, screened, self.limit, rng)
        hit = ledger.hit(classes)
        centres = Centres(ledger.centres(classes), np.full(len(classes), self.radius * prior.size**0.5), hit.copy())
        if checks:
            # A start outside its class gives way to the candidate nearest to it that was inside.
            out = hit & (questions.frequency(centres.z, classes, checks) < 0.5)
            centres.z[out] = ledger.nearest(classes, centres.z)[out]
        end = begun + allowed - checks * len(classes)
        film = Film(target, prior, end - target.queries)
        film.show(centres.z)
        # What a class that is done leaves unspent, the others use.
        while steps and 0 < int(centres.active.sum()) * (self.points + 1) <= end - target.queries:
            self._repel(questions, classes, centres, rng)
            if film.due():
                film.show(centres.z)
        sure = questions.frequency(centres.z, classes, checks) if checks else hit.astype(float)
        x = prior.decode(centres.z)
        frames, frame_at = film.arrays(x)
        order = np.argsort(np.argsort(knowledge.classes))
        return Reconstruction(
            x[order],
            knowledge.classes,
            np.where(hit, sure, 0.0)[order],
            notes=(facts_of(prior), *unnamed(classes, hit)),
            trace={"share_inside": np.array(centres.inside), "radius": np.array(centres.radii)},
            frames=frames,
            frame_at=frame_at,
        )

    def _repel(
        self, questions: Questions, classes: Int[Array, " c"], centres: "Centres", rng: np.random.Generator
    ) -> None:
        """One step of every class that is not done: (`points` + 1) queries each."""
        live = np.nonzero(centres.active)[0]
        z, radius, wanted = centres.z[live], centres.radius[live], classes[live]
        around = directions(len(live), self.points, z.shape[1], rng)
        near = np.clip(z[:, None] + radius[:, None, None] * around, -self.limit, self.limit).astype(np.float32)
        said = questions.labels(near.reshape(-1, z.shape[1])).reshape(len(live), -1)
        inside = said == wanted[:, None]
        step = np.minimum(radius * self.step, LONGEST)[:, None]
        moved = np.clip(z + step * repulsion(around, inside), -self.limit, self.limit).astype(np.float32)
        stays = questions.labels(moved) == wanted
        centres.z[live] = np.where(stays[:, None], moved, z)
        share = inside.mean(axis=1)
        grows = share > self.inside
        shrinks = share < self.outside
        centres.radius[live] = radius * np.where(grows, self.growth, np.where(shrinks, 1 / self.growth, 1.0))
        centres.idle[live] = np.where(grows, 0, centres.idle[live] + 1)
        # A sphere wider than the whole box of latents has nothing left to tell.
        widest = 2 * self.limit * z.shape[1] ** 0.5
        centres.active[live] = (centres.idle[live] < self.patience) & (centres.radius[live] <= widest)
        centres.inside.append(float(share.mean()))
        centres.radii.append(float(centres.radius.mean()))


@dataclass
class Centres:
    """Where the search of every class stands.

    Attributes:
        z: (c, k) centres of the spheres.
        radius: (c,) their radii.
        active: (c,) whether the class is still searched; never for one that no candidate hit.
        idle: (c,) steps since the sphere last grew.
        inside, radii: the mean share of neighbours inside, and the mean radius, after each step.
    """

    z: Float[Array, " c k"]
    radius: Float[Array, " c"]
    active: Bool[Array, " c"]
    idle: Int[Array, " c"] = field(init=False)
    inside: list[float] = field(default_factory=list[float])
    radii: list[float] = field(default_factory=list[float])

    def __post_init__(self) -> None:
        self.idle = np.zeros(len(self.z), dtype=np.int64)


def directions(rows: int, points: int, size: int, rng: np.random.Generator) -> Float[Array, " c p k"]:
    """Uniform unit vectors: `points` of them for each of `rows` classes."""
    drawn = rng.standard_normal((rows, points, size))
    return drawn / np.maximum(np.linalg.norm(drawn, axis=2, keepdims=True), 1e-12)


def repulsion(around: Float[Array, " c p k"], inside: Bool[Array, " c p"]) -> Float[Array, " c k"]:
    """Where to move: minus the mean, over all points of the sphere, of the directions that leave the class.

    The rule of Kahla et al. 2022 in its "repulsion only" form. With a plane boundary its expectation is along the
    plane's normal, into the class; with every point inside it is zero.
    """
    return -(around * ~inside[..., None]).mean(axis=1)
