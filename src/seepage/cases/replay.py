"""The update that records or texts make, held against a captured one."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import nnls
from torch import Tensor

from seepage.core.assumptions import Assumptions
from seepage.core.victim import Update
from seepage.models.federated import ClientNet, Mode
from seepage.models.text_clients import Batch, TextNet

Array = np.ndarray
# Classes are fitted for up to so many pairs of a record and a class: each costs a pass backwards.
_MOST_PAIRS = 512
# Entries of the gradient that the fit of the classes looks at.
_LOOKED_AT = 4096
# Rows that hold each record's classes to a sum of one weigh this much beside the gradient's.
_ONE = 10.0


class UpdateReplay:
    """Makes updates of records as the captured one was made, as far as that is known, and compares directions.

    Scale is left out, for it hangs on the learning rate and on how many of the records were found.

    Args:
        net: the model before the round.
        update: what was captured.
        ladder: what is known of its making.
    """

    def __init__(self, net: ClientNet, update: Update, ladder: Assumptions):
        self._net, self._ladder = net, ladder
        self._round = _Round(update, ladder, list(net.weights()))

    @property
    def _mode(self) -> Mode:
        return "eval" if self._ladder.mode.value == "eval" or not self._net.has_batch_norm else "train"

    @property
    def how(self) -> str:
        """How the update is made anew, in words."""
        return self._round.how

    def distance(self, x: Float[Array, " n ..."], labels: Int[Array, " n"] | None) -> float | None:
        """sqrt(1 - cos^2) between the update these records make and the captured one; 1 for a cosine below 0.

        None where classes are not given and there are too many to fit.
        """
        mode: Mode = self._mode if len(x) > 1 else "eval"
        records = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
        chosen = np.asarray(labels, dtype=np.int64) if labels is not None else self._fitted(records, mode)
        if chosen is None:
            return None
        y = torch.from_numpy(chosen)
        if not self._round.simulates:
            return self._round.apart(self._net.gradient(records, y, mode=mode))
        after = self._net.trained(records, y, self._round.rows(len(x)), self._round.rate, mode)
        return self._round.apart(after, self._net.weights())

    def _fitted(self, x: Tensor, mode: Mode) -> Int[Array, " n"] | None:
        if len(x) * self._net.classes > _MOST_PAIRS:
            return None
        weights = {name: w.requires_grad_(True) for name, w in self._net.weights().items()}
        return self._round.classes(self._net.logits(x, weights, mode), weights)


class TextReplay:
    """The same of texts.

    Without dropout: which values the client dropped is not known. Classes are fitted.

    Args:
        net: the model before the round.
        update: what was captured.
        ladder: what is known of its making.
    """

    def __init__(self, net: TextNet, update: Update, ladder: Assumptions):
        self._net = net
        self._round = _Round(update, ladder, list(net.weights()))
        self._dropped = net.drops and ladder.mode.value != "eval"

    @property
    def how(self) -> str:
        """How the update is made anew, in words."""
        return self._round.how + ("; nothing is dropped, which the client's dropout may have" if self._dropped else "")

    def distance_of_texts(self, texts: Sequence[str]) -> float | None:
        """sqrt(1 - cos^2) between the update these texts make and the captured one; 1 for a cosine below 0.

        None without texts, and where there are too many classes to fit.

        Raises:
            DataError: for texts that the model cannot read.
        """
        kept = [text for text in texts if text.strip()]
        if not kept:
            return None
        batch = self._net.encode(kept)
        causal = self._net.task == "causal-lm"
        if causal and not (batch.mask.sum(axis=1) > 1).any():
            # Texts of one token have no next one, and make no update.
            return None
        chosen = None if causal else self._fitted(batch)
        if chosen is None and not causal:
            return None
        y = None if chosen is None else torch.from_numpy(chosen)
        if not self._round.simulates:
            return self._round.apart(self._net.gradient(batch, y, self._net.weights()))
        rows = self._round.rows(len(kept))
        after = self._net.trained(batch, y, rows, self._round.rate, "eval", torch.float32)
        return self._round.apart(after, self._net.weights())

    def _fitted(self, batch: Batch) -> Int[Array, " n"] | None:
        if len(batch) * self._net.classes > _MOST_PAIRS:
            return None
        weights = {name: w.requires_grad_(True) for name, w in self._net.weights().items()}
        ids, mask = torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)
        return self._round.classes(self._net.logits(ids, mask, weights), weights)


class _Round:
    """The captured update as a direction, and how the client's round is taken again."""

    def __init__(self, update: Update, ladder: Assumptions, names: Sequence[str]):
        self._ladder, self._names = ladder, list(names)
        self._sign = 1.0 if update.kind == "gradient" else -1.0
        self._target = np.concatenate([update.tensor(name).astype(np.float64).reshape(-1) for name in self._names])
        self._steps = 1 if update.kind == "gradient" else ladder.steps.value

    @property
    def simulates(self) -> bool:
        """Whether the client's own steps can be taken: several, at a known rate."""
        return (self._steps or 0) > 1 and self._ladder.rate.value is not None

    @property
    def rate(self) -> float:
        """Of the steps that are taken. Ask `simulates` first."""
        return float(self._ladder.rate.value)

    @property
    def how(self) -> str:
        if self.simulates:
            return (
                f"{self._steps} steps of plain SGD in the order of the reconstructions; the client's order is not known"
            )
        if self._steps == 1:
            return "one gradient, its direction"
        return "one gradient, its direction, for lack of a learning rate or of the number of steps"

    def rows(self, n: int) -> list[Int[Array, " _"]]:
        """The records of each step, in their own order."""
        epochs, size = int(self._ladder.epochs.value or 1), int(self._ladder.local_batch.value or n)
        return [np.arange(i, min(i + size, n)) for i in range(0, n, size)] * epochs

    def apart(self, made: Mapping[str, Tensor], before: Mapping[str, Tensor] | None = None) -> float:
        """The distance of a gradient, or of weights after a round from those before, to the captured update."""
        found = _row([made[name] for name in self._names])
        found = self._sign * found if before is None else found - _row([before[name] for name in self._names])
        lengths = float(np.linalg.norm(found) * np.linalg.norm(self._target))
        cosine = float(found @ self._target) / lengths if lengths > 0 else 0.0
        return float(np.sqrt(max(1 - min(cosine, 1.0) ** 2, 0.0))) if cosine > 0 else 1.0

    @cached_property
    def _looked(self) -> Int[Array, " k"]:
        """The greatest entries of the captured update, by which classes are fitted."""
        return np.argsort(-np.abs(self._target), kind="stable")[:_LOOKED_AT]

    def classes(self, logits: Float[Tensor, " n c"], weights: Mapping[str, Tensor]) -> Int[Array, " n"]:
        """The classes under which the records' gradient comes nearest to the captured one.

        The gradient of cross-entropy is linear in the classes: sum_ic (p_ic - Y_ic) J_ic / n with J_ic the gradient
        of logit c of record i. Y is fitted by least squares over Y >= 0, each row's sum held to one; its greatest
        entry is the class.
        """
        n, c = logits.shape
        held = [weights[name] for name in self._names]
        slopes = np.stack(
            [
                _row(torch.autograd.grad(logit, held, retain_graph=True, materialize_grads=True))[self._looked]
                for logit in logits.reshape(-1)
            ],
            axis=1,
        )
        given = slopes @ logits.detach().softmax(dim=1).double().numpy().reshape(-1) / n
        target = self._sign * self._target[self._looked] * self._scale(given)
        ones = np.kron(np.eye(n), np.ones((1, c))) * _ONE
        size = max(float(np.abs(given - target).max()), 1e-300)
        found, _ = nnls(
            np.concatenate([slopes / n / size, ones]), np.concatenate([(given - target) / size, np.full(n, _ONE)])
        )
        return found.reshape(n, c).argmax(axis=1)

    def _scale(self, given: Float[Array, " k"]) -> float:
        """What turns the captured update into a gradient; where the rate is not known, its size is taken to fit."""
        if self._sign > 0:
            return 1.0
        if self._ladder.rate.value is not None and self._steps:
            return 1.0 / (float(self._ladder.rate.value) * self._steps)
        return float(np.linalg.norm(given) / max(np.linalg.norm(self._target[self._looked]), 1e-300))


def _row(tensors: Sequence[Tensor]) -> Float[Array, " p"]:
    return np.concatenate([tensor.detach().double().numpy().reshape(-1) for tensor in tensors])
