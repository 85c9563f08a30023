"""Composite search: exchange parts between public records, keep what does not lower the score."""

import math
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field

from seepage.attacks.inversion.blackbox import Found, Oracle, Pool, ScoreAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Modality

Array = np.ndarray


def _windows(length: int, cells: int, feather: float) -> Float[Array, " m n"]:
    """`cells` windows along a side that rise and fall over `feather` of a cell and sum to one everywhere."""
    at = (np.arange(length) + 0.5) / length * cells
    half = max(feather, 1e-6) / 2
    # The share of a place that lies right of an edge, a half cosine across the seam.
    right = [0.5 - 0.5 * np.cos(np.pi * np.clip((at - edge + half) / (2 * half), 0, 1)) for edge in range(cells + 1)]
    right[0], right[-1] = np.ones(length), np.zeros(length)
    return np.stack([right[i] - right[i + 1] for i in range(cells)])


def regions(spec: InputSpec, finest: int, feather: float) -> Float[Array, " r ..."]:
    """The parts that are exchanged, as masks in [0, 1] with soft seams: (r, *shape).

    Pictures are cut into grids of 1, 2, 4, ... cells a side up to `finest` (the published parts are the
    eyes, nose, mouth of aligned faces; cells of several sizes need no landmarks and suit any picture).
    Anything else is cut into as many runs of neighbouring features. The masks of one grid sum to one.
    """
    picture = spec.modality is Modality.IMAGE and len(spec.shape) == 3
    sides = spec.shape[1:] if picture else (spec.size,)
    masks: list[Array] = []
    cells = 1
    while cells <= min(finest, *sides):
        windows = [_windows(side, cells, feather) for side in sides]
        if picture:
            grid = np.einsum("ih,jw->ijhw", *windows).reshape(-1, 1, *sides)
            masks.append(np.broadcast_to(grid, (len(grid), *spec.shape)))
        else:
            masks.append(windows[0].reshape(-1, *spec.shape))
        cells *= 2
    return np.concatenate(masks).astype(np.float32)


def accepted(fitness: Float[Array, " c"], proposed: Float[Array, " c p"]) -> tuple[Array, Array]:
    """Which proposal of each class is best (c,), and whether it replaces what is held (c,): unless it is worse."""
    best = proposed.argmax(axis=1)
    return best, proposed[np.arange(len(best)), best] >= fitness


class Composite(ScoreAttack):
    """Random search over composites of public records (Mansourifar & Shi 2020), for every class at once.

    Each class starts from the public record that the victim takes for it most readily. A step proposes a
    few exchanges of one part for that of another public record, wholly or in part, and takes the best of
    them unless the score falls. Nothing is estimated from differences of scores, so rounding them does
    not stop it: on a plateau of equal scores it walks freely, and the mean of what it held there, which
    is what is returned, lies in the plateau's middle.

    It needs no prior: what it holds is made of public records from beginning to end.
    """

    name: ClassVar[str] = "composite"
    title: ClassVar[str] = "Composites of public records (random search)"
    cites: ClassVar[tuple[str, ...]] = (
        "Mansourifar, Shi 2020, Vulnerability of Face Recognition Systems Against Composite Face Reconstruction "
        "Attack, arXiv:2009.02286",
    )

    finest: int = Field(default=4, ge=1, description="cells a side of the finest grid of parts")
    feather: float = Field(default=0.5, ge=0, le=1, description="width of a seam, as a share of a cell")
    least_share: float = Field(
        default=0.1, gt=0, le=1, description="least share of the donor in an exchange; 1 exchanges whole parts alone"
    )
    proposals: int = Field(default=4, ge=1, description="exchanges proposed a step and class")
    averaged: float = Field(default=0.25, ge=0, lt=1, description="last share of the steps whose mean is returned")

    def _least(self) -> int:
        return 1

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        public = knowledge.public
        if public is None:
            raise ValueError("public records are needed; `obstacle` says so")
        classes = len(knowledge.classes)
        allowed = self.allowed(classes, target.remaining)
        oracle = Oracle(target, knowledge, allowed, lambda x: x, math.inf, rng)
        count = min(self.screening(classes, allowed), len(public))
        x = public.x[rng.permutation(len(public))[:count]].astype(np.float32)
        pool = Pool(x, oracle.ask(x[:, None])[:, 0], public.x.astype(np.float32))
        masks = regions(knowledge.spec, self.finest, self.feather)
        return oracle.result(self._search(oracle, pool, masks, knowledge.spec))

    def _search(self, oracle: Oracle, pool: Pool, masks: Array, spec: InputSpec) -> Found:
        classes = len(oracle.classes)
        top = pool.ranked(oracle, 1)[:, 0]
        rows = np.arange(classes)
        held, fitness = pool.z[top], pool.margins(oracle)[rows, top]
        own = pool.scores[top, oracle.classes].astype(np.float64)
        proposals = min(self.proposals, oracle.left // classes)
        steps = oracle.left // (classes * proposals)
        mean, count = np.zeros(held.shape), 0
        curve, score = [float(fitness.mean())], [float(own.mean())]
        for step in range(steps):
            oracle.show(held)
            proposed = self._propose(held, pool.public, masks, proposals, oracle.rng)
            proposed = spec.bounds.clip(proposed)
            answers = oracle.ask(proposed)
            worth = oracle.margins(answers)
            best, better = accepted(fitness, worth)
            held = np.where(better.reshape(-1, *[1] * (held.ndim - 1)), proposed[rows, best], held)
            fitness = np.where(better, worth[rows, best], fitness)
            own = np.where(better, oracle.own(answers)[rows, best], own)
            curve.append(float(fitness.mean()))
            score.append(float(own.mean()))
            if step >= steps * (1 - self.averaged):
                mean, count = mean + held, count + 1
        shown = spec.bounds.clip((mean / count).astype(np.float32)) if count else held
        return Found(shown, own, {"fitness": np.array(curve), "mean_score": np.array(score)})

    def _propose(self, held: Array, public: Array, masks: Array, count: int, rng: np.random.Generator) -> Array:
        """Exchanges of one part of what is held for that of a public record: (c, count, *shape)."""
        classes = len(held)
        part = masks[rng.integers(len(masks), size=(classes, count))]
        donor = public[rng.integers(len(public), size=(classes, count))]
        share = rng.uniform(self.least_share, 1.0, (classes, count, *[1] * (held.ndim - 1))).astype(np.float32)
        return held[:, None] + share * part * (donor - held[:, None])
