"""Robbing the Fed: an imprint layer before the model sorts the records of a batch into bins."""

from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field

from seepage.core.attack import GradientAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Access, Modality
from seepage.models.planted import BIAS, WEIGHT, with_imprint

Array = np.ndarray


class RobbingTheFed(GradientAttack):
    """A malicious server plants an imprint layer before the model and reads the records out of its gradient.

    Bin j is passed by the records whose measured value lies above threshold j; the gradient of its row minus that of
    the next one holds the records in between alone. A bin with one record gives it back exactly by
    division, one with several a mixture of them. The thresholds are quantiles of the measurement over public
    records. With k bins of equal mass, b (1 - 1/k)^(b-1) of b records are expected to be alone.
    """

    name: ClassVar[str] = "imprint"
    title: ClassVar[str] = "Imprint layer (malicious server)"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.ROUNDS})
    cites: ClassVar[tuple[str, ...]] = (
        "Fowl, Geiping, Czaja, Goldblum, Goldstein 2022, Robbing the Fed: Directly Obtaining Private Data in Federated "
        "Learning with Modified Models, ICLR",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset({"prior", "normalisation"})

    bins: int = Field(default=256, ge=2, description="bins k of the imprint")
    gain: float = Field(default=1e-3, gt=0, description="how much a bin adds to each value of the record")
    least: float = Field(
        default=1e-6, gt=0, description="share of the greatest bias gradient below which a bin counts as empty"
    )

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, GradientKnowledge) and knowledge.net is None:
            return "it needs the model that clients train"
        return super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        b, k = knowledge.assumptions.batch.value, self.bins
        if (knowledge.assumptions.steps.value or 1) > 1:
            return Outlook(
                prospect="possible",
                why="several local steps move the thresholds between them: bins mix",
                change="a single local step, or a smaller learning rate",
            )
        if b is None:
            return Outlook(prospect="possible", why=f"{k} bins, an unknown number of records", change="more bins")
        alone = b * (1 - 1 / k) ** (b - 1)
        return Outlook(
            prospect="expected" if alone >= b / 2 else "possible",
            why=f"with {k} bins {alone:.1f} of {b} records are expected to be alone in theirs",
            change="more bins; a client that looks at the model it receives (identical rows, rising biases)",
        )

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        if knowledge.public is None:
            raise ValueError("public records are needed; `obstacle` says so")
        seen = knowledge.net.prepare(torch.from_numpy(knowledge.public.x)).numpy().reshape(len(knowledge.public), -1)
        measure = np.full(seen.shape[1], 1 / seen.shape[1])
        thresholds = np.quantile(seen @ measure, np.arange(self.bins) / self.bins)
        # The first bin takes in everything below: records may be darker than any public one.
        thresholds[0] = float((seen @ measure).min() - 3 * (seen @ measure).std() - 1)
        net = with_imprint(knowledge.net, measure, _rising(thresholds), self.gain)
        rows: list[Array] = []
        owner: list[int] = []
        for client, update in enumerate(target.round(net)):
            found = self._sorted(update)
            rows.extend(found)
            owner.extend([client] * len(found))
        prepared = np.stack(rows) if rows else np.zeros((0, seen.shape[1]))
        x = self._records(knowledge, prepared)
        return Reconstruction(x, client=np.array(owner, dtype=np.int64), facts=self.assumed(knowledge))

    def _sorted(self, update: Update) -> list[Float[Array, " d"]]:
        """What each bin that is not empty holds."""
        weight, bias = update.tensor(WEIGHT).astype(np.float64), update.tensor(BIAS).astype(np.float64)
        # Row j minus row j + 1; the last bin has none above it.
        weight = weight - np.vstack([weight[1:], np.zeros((1, weight.shape[1]))])
        bias = bias - np.append(bias[1:], 0.0)
        live = np.abs(bias) > self.least * max(float(np.abs(update.tensor(BIAS)).max()), 1e-300)
        return [weight[j] / bias[j] for j in np.nonzero(live)[0] if np.isfinite(weight[j] / bias[j]).all()]

    def _records(self, knowledge: GradientKnowledge, prepared: Float[Array, " n d"]) -> Float[Array, " n ..."]:
        """Prepared values back in the records' own range."""
        spec = knowledge.spec
        x = prepared.reshape(len(prepared), *spec.shape)
        sides = (-1,) + (1,) * (len(spec.shape) - 1)
        if spec.mean or spec.std:
            x = x * np.asarray(spec.std or (1.0,)).reshape(sides) + np.asarray(spec.mean or (0.0,)).reshape(sides)
        return spec.bounds.clip(x)


def _rising(thresholds: Float[Array, " k"]) -> Float[Array, " k"]:
    """Thresholds strictly rising: equal quantiles (of few public records) moved apart."""
    gap = 1e-7 * max(float(thresholds[-1] - thresholds[1]), 1e-6)
    return np.maximum.accumulate(thresholds + gap * np.arange(len(thresholds)))
