"""What the pre-flight of an audit of updates looks at: the update in gradient's sign, its first and its last layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float

from seepage.attacks.gradient.attention import attention_layers
from seepage.attacks.gradient.entry import Entry, entry
from seepage.attacks.gradient.petrov2024 import Dager
from seepage.attacks.gradient.span import Span
from seepage.audit.spectrum import Grain, Spectrum, grain, spectrum
from seepage.core.assumptions import Assumptions, Standing
from seepage.core.errors import DataError
from seepage.core.knowledge import GradientKnowledge, UpdateKnowledge
from seepage.core.spec import InputSpec
from seepage.core.victim import Update
from seepage.models.federated import ClientNet, Mode
from seepage.models.text_clients import Batch, TextNet

Array = np.ndarray
_SINGLE = 2.0**-23


@dataclass(frozen=True)
class Sighted:
    """One update beside the others of its round, and what the adversary knows of them.

    Attributes:
        knowledge: model, ladder, form of a record; of arrays or of texts.
        updates: all that were sent; figures are of the first.
    """

    knowledge: UpdateKnowledge
    updates: tuple[Update, ...]

    @property
    def update(self) -> Update:
        return self.updates[0]

    @property
    def ladder(self) -> Assumptions:
        return self.knowledge.assumptions

    @property
    def net(self) -> ClientNet | None:
        """The model, where it reads arrays."""
        return self.knowledge.net if isinstance(self.knowledge, GradientKnowledge) else None

    @property
    def text_net(self) -> TextNet | None:
        """The model, where it reads texts."""
        return self.knowledge.net if isinstance(self.knowledge.net, TextNet) else None

    @property
    def spec(self) -> InputSpec | None:
        """What a record looks like; None of texts."""
        return self.knowledge.spec if isinstance(self.knowledge, GradientKnowledge) else None

    @property
    def batch(self) -> int | None:
        """Records in an update, where the adversary knows or guesses it."""
        return None if self.ladder.batch.value is None else int(self.ladder.batch.value)

    @property
    def steps(self) -> int | None:
        """Local steps in an update: one for a gradient."""
        if self.update.kind == "gradient":
            return 1
        return None if self.ladder.steps.value is None else int(self.ladder.steps.value)

    def known(self, rung: str) -> bool:
        return getattr(self.ladder, rung).standing is not Standing.UNKNOWN

    @cached_property
    def tensors(self) -> Mapping[str, Array]:
        return self.update.tensors

    @cached_property
    def broken(self) -> str | None:
        """The first tensor that holds NaN or an infinite value, or None; with several clients, whose it is."""
        for client, sent in enumerate(self.updates):
            for name, tensor in sent.tensors.items():
                if not np.isfinite(tensor).all():
                    return f"'{name}'" + (f" of client {client}" if len(self.updates) > 1 else "")
        return None

    @cached_property
    def norms(self) -> Float[Array, " k"]:
        """(clients,) the Euclidean norm of each whole update."""
        return np.array(
            [
                np.sqrt(sum(float((t.astype(np.float64) ** 2).sum()) for t in sent.tensors.values()))
                for sent in self.updates
            ]
        )

    @cached_property
    def weights(self) -> dict[str, Array]:
        """The weights before the round."""
        net = self.net or self.text_net
        return {} if net is None else {name: w.numpy() for name, w in net.weights().items()}

    @cached_property
    def relative(self) -> float | None:
        """The norm of the first update over that of the weights, for a change of weights."""
        if self.update.kind != "delta" or not self.weights:
            return None
        whole = np.sqrt(sum(float((w.astype(np.float64) ** 2).sum()) for w in self.weights.values()))
        return float(self.norms[0] / whole) if whole > 0 else None

    @cached_property
    def moved(self) -> int:
        """How many parameters the update moves at all."""
        return int(sum(np.count_nonzero(t) for t in self.tensors.values()))

    @cached_property
    def grain(self) -> Grain:
        """The resolution of the largest tensor."""
        return grain(max(self.tensors.values(), key=lambda t: t.size))

    @cached_property
    def first(self) -> Entry | None:
        """The first layer with weights."""
        return None if self.net is None else entry(self.net)

    @cached_property
    def rows(self) -> Float[Array, " m d"] | None:
        """The update of the first layer's weights, one row a neuron or channel; None where there is none."""
        if self.first is None or self.first.weight not in self.tensors:
            return None
        sent = self.tensors[self.first.weight]
        return sent.reshape(len(sent), -1) if sent.ndim >= 2 else None

    @cached_property
    def directions(self) -> Spectrum | None:
        """The spectrum of `rows`, its floor set by how the tensor was rounded; None for a layer that is not linear.

        A change of weights is rounded as the weights are, of which it is the difference.
        """
        if self.rows is None or self.first is None or self.first.kind != "linear" or self.broken is not None:
            return None
        noise = grain(self.rows).noise
        before = self.weights.get(self.first.weight)
        if self.update.kind == "delta" and before is not None and self.rows.dtype != np.float64:
            size = float(np.sqrt(np.mean(before.astype(np.float64) ** 2)))
            noise = max(noise, _SINGLE * size * np.sqrt(self.steps or 1) / np.sqrt(12))
        return spectrum(self.rows, noise)

    @cached_property
    def attention(self) -> tuple[Span, Span] | None:
        """What the gradients of the first two attention layers span; None where the update does not have them."""
        if self.text_net is None or self.broken is not None:
            return None
        if len(attention_layers(self.text_net.module)) < 2:
            return None
        try:
            return Dager().spans(self.text_net, self.update)
        except DataError:
            return None

    @cached_property
    def classes_bias(self) -> Float[Array, " c"] | None:
        """The last bias with one entry a class, in the sign of a gradient; None where the model has none."""
        if self.broken is not None:
            return None
        names = [n for n, t in self.tensors.items() if t.shape == (self.knowledge.classes,) and n.endswith("bias")]
        if not names:
            return None
        return self.tensors[names[-1]].astype(np.float64) * (1 if self.update.kind == "gradient" else -1)

    @cached_property
    def rounding_of_biases(self) -> float:
        """How far the sum of the last bias's entries may lie from zero by the rounding of what they came from.

        Of a gradient: that of softmax values near one, of which residuals are differences. Of a change: that of
        the biases before and after each step.
        """
        if self.classes_bias is None:
            return 0.0
        unit = np.finfo(np.float64).eps if self.grain.name == "float64" else _SINGLE
        if self.update.kind == "gradient":
            return 4 * float(unit)
        names = [n for n, w in self.weights.items() if w.shape == (self.knowledge.classes,) and n.endswith("bias")]
        size = float(np.abs(self.weights[names[-1]]).sum()) if names else 0.0
        return float(unit) * size * (self.steps or 1)

    def turned(self) -> float | None:
        """By how many degrees the gradient of random records turns between the weights before and after the round.

        None for a gradient, and where the model is not known. A sum of steps is a gradient as far as this is small.
        """
        net = self.net or self.text_net
        if net is None or self.update.kind != "delta" or self.broken is not None:
            return None
        before = net.weights()
        after = {name: w + torch.from_numpy(np.asarray(self.tensors[name], np.float32)) for name, w in before.items()}
        one, other = (
            torch.cat([g.detach().reshape(-1) for g in self._probed(weights).values()]).double()
            for weights in (before, after)
        )
        cosine = float(one @ other / (one.norm() * other.norm()).clamp_min(1e-300))
        return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))

    def _probed(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The gradient of random records, always the same, at some weights."""
        rng, n = np.random.default_rng(0), max(2, min(self.batch or 8, 8))
        mode: Mode = "train" if self.ladder.mode.value == "train" else "eval"
        if self.net is not None and self.spec is not None:
            spec = self.spec
            low, high = (np.broadcast_to(b, spec.shape) for b in (spec.bounds.low, spec.bounds.high))
            x = torch.from_numpy((rng.random((n, *spec.shape)) * (high - low) + low).astype(np.float32))
            return self.net.gradient(x, torch.from_numpy(rng.integers(self.knowledge.classes, size=n)), weights, mode)
        net = self.text_net
        if net is None:
            raise ValueError("a model was wanted: ask for it first")
        ids = rng.integers(net.vocabulary, size=(n, min(8, net.length)))
        y = torch.from_numpy(rng.integers(net.classes, size=n)) if net.classes else None
        # Nothing is dropped: two gradients are to differ by their weights alone.
        return net.gradient(Batch(ids, np.ones_like(ids, dtype=bool)), y, weights, "eval")
