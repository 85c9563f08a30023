"""Counts of classes by class-wise features that the gradient itself gives away, and a linear system."""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.optimize import nnls

from seepage.attacks.gradient.label_parts import Counts, Probed, Reading, posterior, read, scale_outlook, softmax
from seepage.attacks.gradient.last import last_layer, last_layer_obstacle
from seepage.core.attack import LabelAttack
from seepage.core.guess import Posterior
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update

Array = np.ndarray
# The weight of "shares sum to one" against the other equations.
SUM = 10.0


class ILRG(LabelAttack):
    """Solves for the shares with the class-wise mean softmax that the last layer's gradient gives away.

    The row of class k of the weight gradient over its entry of the bias gradient is a weighted mean of the
    features, taken for the mean feature of class k. Through the last layer it gives that class's mean softmax p_k,
    and the shares s solve sum_j s_j p_jk - s_k = g_k for every k, sum s = 1, s >= 0 (non-negative least squares where
    the paper takes a pseudo-inverse and clips).
    """

    name: ClassVar[str] = "ilrg"
    title: ClassVar[str] = "Label counts by class features"
    cites: ClassVar[tuple[str, ...]] = (
        "Ma, Sun, Cui, Li, Guan, Liu 2023, Instance-wise Batch Label Restoration via Gradients in Federated Learning, "
        "ICLR",
    )
    uses: ClassVar[frozenset[str]] = frozenset(
        {"batch", "rate", "local_batch", "steps", "mode", "optimiser", "normalisation"}
    )

    classes: Literal["all", "negative"] = Field(
        default="all",
        description="which classes may have records: 'all', or those alone whose bias gradient is 'negative'",
    )

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return last_layer_obstacle(knowledge) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        found = scale_outlook(knowledge, update)
        if found is not None:
            return found
        steps = knowledge.assumptions.steps.value
        if update.kind == "delta" and (steps or 2) > 1:
            return Outlook(
                prospect="unlikely",
                why=f"{steps or 'several'} local steps: a class's features cannot be read off their sum",
                change="a single local step, or `untrained-counts`, which interpolates",
            )
        return Outlook(
            prospect="possible",
            why="right where the features of a class are much alike and each class has a fair part of the gradient",
            change="an untrained model (then expected)",
        )

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Posterior:
        layer, probed, found = last_layer(knowledge.net), Probed(knowledge, rng), []
        for client in range(knowledge.clients):
            seen = read(knowledge, target.update(client), probed, layer)
            shares = by_features(seen, self.classes == "negative")
            found.append(Counts(shares, seen.batch, seen.guessed, "class features"))
        return posterior(self, knowledge, found)


def by_features(seen: Reading, negative: bool) -> Float[Array, " c"]:
    """Shares (classes,) at least 0, summing to one; even where nothing is to be seen.

    Args:
        seen: what the update tells.
        negative: whether classes of a positive mean residual are taken to be absent.
    """
    layer, slope, classes = seen.given.layer, seen.slope, seen.given.classes
    may = slope < 0 if negative else np.abs(slope) > 1e-12 * max(float(np.abs(slope).max()), 1e-300)
    if not may.any():
        return np.full(classes, 1 / classes)
    features = seen.given.weight[may] / slope[may, None]
    away = softmax(features @ layer.w.T + layer.c) - np.eye(classes)[may]
    system = np.vstack([away.T, SUM * np.ones(len(away))])
    solved, _ = nnls(system, np.append(slope, SUM))
    shares = np.zeros(classes)
    shares[may] = solved
    return shares / shares.sum() if shares.sum() > 0 else np.full(classes, 1 / classes)
