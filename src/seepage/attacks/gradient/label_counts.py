"""How many records of each class a client trained on, from the mean residual in the last layer's gradient.

For cross-entropy the gradient of the last layer's biases is g_k = mean softmax_k - n_k / b, so that the shares of
the classes are `mean softmax - g`: all that is to be guessed is the mean softmax of the client's records. A net that
has learned nothing answers much the same to anything, so that the answers to noise will do.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from seepage.attacks.gradient.label_learning import Lessons
from seepage.attacks.gradient.label_parts import (
    BLIND,
    Counts,
    Probed,
    Reading,
    noise,
    offness,
    on_simplex,
    posterior,
    public_records,
    read,
    scale_outlook,
    softmax,
    spread_of,
)
from seepage.attacks.gradient.last import LastGradient, LastLayer, last_layer, last_layer_obstacle
from seepage.attacks.gradient.zhao2020 import by_sign
from seepage.core.attack import LabelAttack
from seepage.core.guess import Posterior
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update

Array = np.ndarray
Source = Literal["auto", "public", "noise", "update"]


def recovered_labels(
    knowledge: GradientKnowledge, updates: Sequence[Update], rng: np.random.Generator
) -> list[Int[Array, " n"]]:
    """The classes of the records behind each update, with repeats, rising: (n,) each, n the batch.

    For attacks that need labels and have not been told any; they then stand "guessed" on the ladder. n is the
    batch of the ladder, or a guess where that is not known. Which record has which class is not said.

    Raises:
        DataError: for an update that is not of the model, or not finite.
        ValueError: where `last.last_layer_obstacle` has something to say.
    """
    return [found.labels for found in recovered_counts(knowledge, updates, rng)]


def recovered_counts(knowledge: GradientKnowledge, updates: Sequence[Update], rng: np.random.Generator) -> list[Counts]:
    """The same as counts, by the strongest rule that fits the model.

    The closed form for a model whose answers depend little on the record (milliseconds); for one that has
    learned, regression on batches of public records (`label_learning`, a second or two), or the signs, each class
    there with an even share, where there are no public records: better on trained models than counting by impact.
    """
    layer, probed = last_layer(knowledge.net), Probed(knowledge, rng)
    seen = [read(knowledge, update, probed, layer) for update in updates]
    if seen and seen[0].spread < BLIND:
        return ClosedForm(knowledge, rng).counts(updates, layer)
    if public_records(knowledge) is not None:
        lessons = Lessons(knowledge, rng)
        return [lessons.counts(update, layer) for update in updates]
    return [Counts(by_sign(s.given, one=s.batch == 1), s.batch, s.for_batch, "sign") for s in seen]


class ClosedForm:
    """The closed form `shares = mean softmax - g`, its mean softmax from `source`.

    "auto" takes public records where the adversary holds them; else, of noise and of the update's own features,
    what brings the counts nearest to whole numbers.
    """

    def __init__(self, knowledge: GradientKnowledge, rng: np.random.Generator, source: Source = "auto"):
        if source == "public" and public_records(knowledge) is None:
            raise ValueError("public records are needed; `obstacle` says so")
        self._tried: tuple[Source, ...] = (source,)
        if source == "auto":
            self._tried = ("noise", "update") if public_records(knowledge) is None else ("public",)
        self._knowledge = knowledge
        self._probed = Probed(knowledge, rng, None if self._tried[0] == "public" else noise(knowledge, rng))

    def counts(self, updates: Sequence[Update], layer: LastLayer | None = None) -> list[Counts]:
        """The counts behind each update."""
        return [self._one(read(self._knowledge, update, self._probed, layer)) for update in updates]

    def _one(self, seen: Reading) -> Counts:
        found: list[tuple[float, Counts]] = []
        for name in self._tried:
            shares = (own_mean(seen) if name == "update" else seen.mean) - seen.slope
            counts = Counts(on_simplex(shares), seen.batch, seen.guessed, f"closed form, {name}")
            found.append((offness(shares, seen.batch), counts))
        return min(found, key=lambda pair: pair[0])[1]


def own_feature(given: LastGradient, slope: Float[Array, " c"]) -> Float[Array, " d"]:
    """The mean feature z of the client's own records, were all alike: the z nearest to G = slope z^T."""
    return given.weight.T @ slope / max(float(slope @ slope), 1e-300)


def own_mean(seen: Reading) -> Float[Array, " c"]:
    """The mean softmax of a client's records, by the mean feature that its update gives away."""
    layer = seen.given.layer
    return softmax(layer.w @ own_feature(seen.given, seen.slope) + layer.c)


class UntrainedCounts(LabelAttack):
    """The closed form for the counts: mean softmax less the gradient of the biases, times the batch.

    The mean softmax over the client's records is taken from records that the adversary passes through the model
    itself: exact for a model whose answers do not depend on the record, which an untrained one comes near to.
    Batch normalisation in "train" mode is given batches of the client's size. For differences of weights after
    several local steps the mean softmax is interpolated between the model sent and the model that came back.
    """

    name: ClassVar[str] = "untrained-counts"
    title: ClassVar[str] = "Label counts, closed form"
    cites: ClassVar[tuple[str, ...]] = (
        "Wainakh et al. 2022, User-Level Label Leakage from Gradients in Federated Learning, PETS (the gradient of "
        "the last biases)",
        "Dimitrov, Balunovic, Konstantinov, Vechev 2022, Data Leakage in Federated Averaging, TMLR (interpolation)",
    )
    uses: ClassVar[frozenset[str]] = frozenset(
        {"batch", "rate", "local_batch", "steps", "mode", "optimiser", "normalisation", "prior"}
    )

    source: Source = Field(
        default="auto",
        description="what stands in for the client's records: 'public' ones, 'noise', the features that the 'update' "
        "itself gives away, or 'auto': public ones if there are any, else the better of the others by its whole counts",
    )

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if why := last_layer_obstacle(knowledge):
            return why
        if self.source == "public" and isinstance(knowledge, GradientKnowledge) and public_records(knowledge) is None:
            return "source = 'public' needs public records; none were given"
        return super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        found = scale_outlook(knowledge, update)
        if found is not None:
            return found
        spread, asked = spread_of(knowledge)
        if spread < BLIND:
            return Outlook(
                prospect="expected",
                why=f"the model answers much the same to any record (spread of its softmax over {asked}: "
                f"{spread:.2f}): the counts follow in closed form",
                change="a trained model",
            )
        return Outlook(
            prospect="possible",
            why=f"the model tells records apart (spread of its softmax over {asked}: {spread:.2f}): its mean softmax "
            "on the client's records has to be guessed",
            change="an earlier round, before the model has learned (the counts are then exact)",
        )

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Posterior:
        updates = [target.update(client) for client in range(knowledge.clients)]
        found = ClosedForm(knowledge, rng, self.source).counts(updates, last_layer(knowledge.net))
        return posterior(self, knowledge, found)
