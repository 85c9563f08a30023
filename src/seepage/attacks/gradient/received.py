"""What clients sent, ready to be matched: one row of numbers a client, and what is taken for granted of its making."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from seepage.attacks.gradient.kept import kept, left_out
from seepage.attacks.gradient.label_counts import recovered_labels
from seepage.attacks.gradient.last import last_gradient, last_layer_obstacle
from seepage.attacks.gradient.through import Applied, Through, applied, through
from seepage.core.errors import DataError
from seepage.core.knowledge import GradientKnowledge
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.models.federated import ClientNet, Mode

Array = np.ndarray
LabelsFrom = Literal["auto", "joint"]


@dataclass(frozen=True)
class Received:
    """What clients sent.

    Attributes:
        wanted: (k, d) each client's tensors, one after another in the order of the model's parameters.
        labels: (k, b) the class of each record; None where labels are to be found with the records.
        batch: records a client.
        mode: which statistics batch normalisation computed with.
        guessed: rungs of the ladder that were not told, with what was taken for them.
        notes: what a reader should know of it.
        kept: (d,) 1 for the numbers that are matched, 0 for those that are zero in `wanted` because a defense made
            them worthless; None where all are matched.
        through: how a simulated update is compared with the one sent, behind the defenses known of.
        applied: the same for a search that needs no slopes, which then takes the place of `through`.
    """

    wanted: Float[Tensor, " k d"]
    labels: Int[Array, " k b"] | None
    batch: int
    mode: Mode
    guessed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: tuple[str, ...] = ()
    kept: Float[Tensor, " d"] | None = None
    through: Through = field(default_factory=Through)
    applied: Applied | None = None

    @property
    def clients(self) -> int:
        return len(self.wanted)


def received(
    target: Target,
    knowledge: GradientKnowledge,
    rng: np.random.Generator,
    dtype: torch.dtype,
    labels: LabelsFrom = "auto",
    whole: bool = False,
    sloped: bool = True,
) -> Received:
    """Read every client's update once.

    Labels that are told are used. Else, for one record, the class whose row of the last layer's gradient points
    down (Zhao, Mopuri & Bilen 2020, iDLG); for several, the counts of `label_counts`; with `labels` "joint", or
    where the last layer tells nothing, none: they are then to be found with the records. A difference of weights
    is turned into the gradient that one local step at the weights sent would have, unless it is wanted `whole`.
    What known defenses did to the updates is done to simulated ones too: in a form that has slopes (`through`), or as
    it is where none are wanted (`applied`).

    Raises:
        DataError: for an update that does not fit the model, or is not finite.
    """
    told, net = knowledge.assumptions, knowledge.net
    updates = [target.update(client) for client in range(knowledge.clients)]
    guessed: dict[str, Any] = {}
    known = _known_labels(knowledge)
    batch = told.batch.value if known is None else known.shape[1]
    if batch is None:
        batch = guessed["batch"] = 1
    mode: Mode = told.mode.value or "eval"
    if told.mode.value is None:
        mode = guessed["mode"] = "train" if net.has_batch_norm and batch > 1 else "eval"
    notes: list[str] = []
    scale = 1.0
    if updates[0].kind == "delta" and not whole:
        scale, said = _as_gradient(knowledge)
        notes.append(said)
    rows = torch.stack([flat(net, update, client).to(dtype) * scale for client, update in enumerate(updates)])
    names = list(net.weights())
    passed = through(knowledge.defenses, updates, names, scale, dtype)
    done = None if sloped else applied(knowledge.defenses, updates, names, scale)
    if done is not None and done.said:
        notes.append(f"done to each simulated update as the client does it: {', then '.join(done.said)}")
    if done is None and passed.said:
        notes.append(f"the update is matched as the defense left it: {' and '.join(passed.said)} taken into account")
    silent = [str(k) for k, row in enumerate(rows) if not bool(row.any())]
    if silent:
        notes.append(f"the updates of clients {', '.join(silent)} are zero throughout: there is nothing to match")
    if known is None and labels == "auto" and last_layer_obstacle(knowledge) is None:
        known = np.stack(_read_labels(knowledge, updates, int(batch), rng))
        guessed["labels"] = known
    elif known is None:
        guessed["labels"] = "found with the records"
    mask = kept(knowledge, dtype)
    if mask is not None:
        rows = rows * mask
        names = ", ".join(sorted(left_out(knowledge)))
        notes.append(f"left out of the match, for a defense makes them worthless: {names}")
    return Received(rows, known, int(batch), mode, guessed, tuple(notes), mask, passed, done)


def flat(net: ClientNet, update: Update, client: int) -> Float[Tensor, " d"]:
    """The tensors of an update, one after another in the order of the model's parameters, in double precision.

    Raises:
        DataError: naming the first tensor that is missing, of another shape, or not finite.
    """
    parts: list[Tensor] = []
    for name, weight in net.weights().items():
        try:
            sent = update.tensor(name, tuple(weight.shape))
        except DataError as error:
            raise DataError(f"client {client}: {error}") from error
        parts.append(torch.from_numpy(sent.astype(np.float64).reshape(-1)))
    return torch.cat(parts)


def _as_gradient(knowledge: GradientKnowledge) -> tuple[float, str]:
    """What turns a difference of weights into a mean gradient, and how true that is."""
    told = knowledge.assumptions
    steps, rate = told.steps.value, told.rate.value
    scale = -1.0 / (float(rate) * int(steps)) if rate and steps else -1.0
    sized = "" if rate and steps else "; its scale is not known, so that only its direction is"
    if steps == 1:
        return scale, f"a difference of weights after one step: its gradient{sized}"
    return scale, (
        "a difference of weights after several local steps, matched as if it were one: 'fedavg-matching' "
        f"simulates the steps{sized}"
    )


def _known_labels(knowledge: GradientKnowledge) -> Int[Array, " k b"] | None:
    told = knowledge.assumptions
    if told.labels.value is not None:
        return np.asarray(told.labels.value, dtype=np.int64).reshape(knowledge.clients, -1)
    if told.counts.value is not None:
        classes = np.arange(knowledge.classes)
        return np.stack([np.repeat(classes, counts) for counts in np.asarray(told.counts.value)])
    return None


def _read_labels(
    knowledge: GradientKnowledge, updates: list[Update], batch: int, rng: np.random.Generator
) -> list[Int[Array, " b"]]:
    if batch == 1:
        return [np.array([int(last_gradient(knowledge, update).signs.argmin())]) for update in updates]
    return recovered_labels(knowledge, updates, rng)
