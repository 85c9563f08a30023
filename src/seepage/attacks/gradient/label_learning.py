"""Counts of classes from a model that has learned: by regression on batches that the adversary makes up itself.

A trained model is nearly sure of most records, so that its gradient is that of the few it gets wrong, and no closed
form tells how often each class was right. What the gradient of a batch looks like can still be learned: the
adversary draws batches of public records, takes labels for them from the model's own answers, computes the last
layer's gradient of each, and fits trees from figures of a class to its share.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field
from sklearn.ensemble import ExtraTreesRegressor

from seepage.attacks.gradient.label_parts import (
    BLIND,
    Counts,
    Path,
    Probed,
    Reading,
    on_simplex,
    passed,
    posterior,
    public_records,
    read,
    scale_outlook,
    softmax,
    spread_of,
)
from seepage.attacks.gradient.last import LastLayer, last_layer, last_layer_obstacle
from seepage.core.attack import LabelAttack
from seepage.core.guess import Posterior
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update

Array = np.ndarray
TINY = 1e-300
# Rows that trees are fitted to, at the most: a batch gives one for each class.
ROWS = 60_000


@dataclass(frozen=True)
class Model:
    """What public records show of a model, for one update.

    Attributes:
        layer: the last layer.
        features: (n, d) of public records, over the client's path.
        answers: (n, classes) their softmax; also the odds of each class that labels are drawn by.
        parts: (d, classes) takes a weight gradient (classes, d) apart: entry (k, j) of the product is about the
            mean over the batch of the residuals k of the records of class j.
        unsure: (classes,) the mean residual, 1 - softmax, that a record of a class has in its own class.
    """

    layer: LastLayer
    features: Float[Array, " n d"]
    answers: Float[Array, " n c"]
    parts: Float[Array, " d c"]
    unsure: Float[Array, " c"]

    @classmethod
    def of(cls, seen: Reading) -> "Model":
        """From public records that were passed through the model (`Reading.features`)."""
        z = seen.path.mean(list(seen.features))
        p = seen.path.mean(list(seen.answers))
        odds = p / np.maximum(p.sum(axis=0), TINY)
        centres = odds.T @ z
        # Whitened by the spread within classes, the feature means of the classes are told apart best.
        apart = z - p @ centres
        spread = apart.T @ apart / len(z)
        spread += (1e-2 * np.trace(spread) / len(spread) + TINY) * np.eye(len(spread))
        turned = np.linalg.solve(spread, centres.T)
        gram = centres @ turned
        gram += (1e-3 * np.trace(gram) / len(gram) + TINY) * np.eye(len(gram))
        unsure = np.maximum((odds * (1 - p)).sum(axis=0), 1e-6)
        return cls(seen.given.layer, z, p, turned @ np.linalg.inv(gram), unsure)

    def figures(self, weight: Float[Array, " c d"], slope: Float[Array, " c"], n: int) -> Float[Array, " c f"]:
        """Figures of each class from the gradient of `n` records: the same ones for every class."""
        classes, total = len(slope), float(np.abs(slope).sum()) + TINY
        parts = weight @ self.parts
        own = -np.diag(parts)
        mean = self.answers.mean(axis=0)
        alike = weight.T @ slope / max(float(slope @ slope), TINY)
        alike_mean = softmax(self.layer.w @ alike + self.layer.c)
        lengths = np.linalg.norm(weight, axis=1)
        ranks = np.argsort(np.argsort(-own, kind="stable"), kind="stable")
        columns = (
            slope / total,
            _squeezed(slope),
            own / (np.abs(own).sum() + TINY),
            _squeezed(own),
            _squeezed(own / self.unsure),
            (parts.sum(axis=1) + own) / total,
            (parts.sum(axis=0) + own) / total,
            lengths / (lengths.sum() + TINY),
            mean - slope,
            alike_mean - slope,
            self.unsure,
            mean,
            np.full(classes, np.log(total)),
            ranks / classes,
            own / (self.unsure * n),
        )
        return np.stack(columns, axis=1)


def _squeezed(values: Float[Array, " c"]) -> Float[Array, " c"]:
    """Logarithms on both sides of zero: residuals of a trained model span many sizes."""
    return np.sign(values) * np.log1p(1e4 * np.abs(values))


class Lessons:
    """What an adversary has learned of batches of one size; made when first asked for, then kept.

    Args:
        knowledge: what the adversary holds, with public records.
        rng: draws the batches.
        batches: how many batches it learns from.
    """

    def __init__(self, knowledge: GradientKnowledge, rng: np.random.Generator, batches: int = 600):
        if public_records(knowledge) is None:
            raise ValueError("public records are needed; `obstacle` says so")
        self._knowledge, self._rng, self._batches = knowledge, rng, batches
        self._probed = Probed(knowledge, rng)
        self._kept: dict[int, tuple[Model, ExtraTreesRegressor]] = {}

    def counts(self, update: Update, layer: LastLayer | None = None) -> Counts:
        """The counts behind an update."""
        seen = read(self._knowledge, update, self._probed, layer)
        # After several steps the model that came back is another one for each client.
        kept = self._kept.get(seen.batch) if len(seen.path.ends) == 1 else None
        model, trees = kept or self._learned(seen)
        self._kept[seen.batch] = (model, trees)
        told = trees.predict(model.figures(seen.given.weight, seen.slope, seen.batch))
        return Counts(on_simplex(told), seen.batch, seen.guessed, "regression on made-up batches")

    def _learned(self, seen: Reading) -> tuple[Model, ExtraTreesRegressor]:
        model = Model.of(seen)
        figures: list[Array] = []
        shares: list[Array] = []
        for _ in range(min(self._batches, max(ROWS // model.answers.shape[1], 20))):
            y = drawn_labels(model.answers.shape[1], seen.batch, self._rng)
            rows, y = self._records(model, y)
            z, p = self._passed(model, seen.path, rows)
            y = y[: len(z)]
            residual = p.copy()
            residual[np.arange(len(y)), y] -= 1
            slope, weight = residual.mean(axis=0), residual.T @ z / len(z)
            if seen.given.bias is None:
                centre = model.features.mean(axis=0)
                slope = weight @ centre / max(float(centre @ centre), TINY)
            figures.append(model.figures(weight, slope, len(y)))
            shares.append(np.bincount(y, minlength=p.shape[1]) / len(y))
        trees = ExtraTreesRegressor(
            100, min_samples_leaf=3, max_features=0.5, random_state=int(self._rng.integers(2**31))
        )
        return model, trees.fit(np.concatenate(figures), np.concatenate(shares))

    def _records(self, model: Model, y: Int[Array, " b"]) -> tuple[Int[Array, " b"], Int[Array, " b"]]:
        """For each label a public record, drawn by the odds the model gives it of that class; shuffled."""
        rows = np.empty(len(y), dtype=np.int64)
        for k in np.unique(y):
            odds = model.answers[:, k] / max(float(model.answers[:, k].sum()), TINY)
            rows[y == k] = _drawn(odds, int((y == k).sum()), self._rng)
        order = self._rng.permutation(len(y))
        return rows[order], y[order]

    def _passed(self, model: Model, path: Path, rows: Int[Array, " b"]) -> tuple[Array, Array]:
        """Features and answers of a batch: anew where they depend on the batch."""
        if path.mode == "eval" or not self._knowledge.net.has_batch_norm or len(rows) < 2:
            return model.features[rows], model.answers[rows]
        net, x, seed = self._knowledge.net, self._probed.x[rows], int(self._rng.integers(2**62))
        z, p = zip(*(passed(net, model.layer.name, x, path, held, seed) for held in path.ends), strict=True)
        return path.mean(list(z)), path.mean(list(p))


def _drawn(odds: Float[Array, " n"], size: int, rng: np.random.Generator) -> Int[Array, " s"]:
    """Rows by their odds; the odds of a class that no record has any of are even."""
    total = float(odds.sum())
    if total <= 0:
        return rng.integers(len(odds), size=size)
    return rng.choice(len(odds), size=size, p=odds / total)


def drawn_labels(classes: int, batch: int, rng: np.random.Generator) -> Int[Array, " b"]:
    """Labels of a made-up batch: of all classes or of some, evenly or with a few that prevail."""
    some = classes if rng.random() < 0.5 else int(rng.integers(1, classes + 1))
    there = rng.permutation(classes)[:some]
    share = rng.dirichlet(np.full(some, rng.choice([0.1, 0.3, 1.0, 10.0])))
    return np.repeat(there, rng.multinomial(batch, share))


class LearnedCounts(LabelAttack):
    """Regression from the last layer's gradient to the share of each class, learned on made-up batches.

    Batches are public records, their labels drawn by the odds that the model itself gives (so that public
    records need no classes), with shares from even to a single class. The figures of a class are its entries of
    the gradient, and the gradient taken apart by the whitened mean features of the classes; all classes share one
    set of trees. Takes a second or two for all clients together.
    """

    name: ClassVar[str] = "learned-counts"
    title: ClassVar[str] = "Label counts, learned"
    cites: ClassVar[tuple[str, ...]] = (
        "Wainakh et al. 2022, User-Level Label Leakage from Gradients in Federated Learning, PETS (impact from "
        "auxiliary data, of which this is a learned form)",
    )
    needs_public: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset(
        {"batch", "rate", "local_batch", "steps", "mode", "optimiser", "normalisation", "prior"}
    )

    batches: int = Field(default=600, ge=10, description="made-up batches it learns from")

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return last_layer_obstacle(knowledge) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        found = scale_outlook(knowledge, update)
        if found is not None:
            return found
        if public_records(knowledge) is None:
            return Outlook(prospect="impossible", why="there are no public records to learn from", change="public ones")
        spread, _ = spread_of(knowledge)
        if spread < BLIND:
            return Outlook(
                prospect="expected",
                why=f"the model answers much the same to any record (spread of its softmax: {spread:.2f}); "
                "`untrained-counts` is exact then, and faster",
                change="a trained model",
            )
        return Outlook(
            prospect="possible",
            why="the model has learned: records it is sure of leave next to nothing in the gradient",
            change="an earlier round, or smaller batches",
        )

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Posterior:
        lessons, layer = Lessons(knowledge, rng, self.batches), last_layer(knowledge.net)
        found = [lessons.counts(target.update(client), layer) for client in range(knowledge.clients)]
        return posterior(self, knowledge, found)
