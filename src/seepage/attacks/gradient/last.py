"""The gradient of the last layer of a client's network in an update: what labels are read off."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.victim import Update
from seepage.models.last_layer import LastLayer, last_layer

Array = np.ndarray


@dataclass(frozen=True)
class LastGradient:
    """The gradient of the mean loss in the last layer, as an update tells it.

    For cross-entropy it is made of the residuals r_i = softmax_i - onehot_i of the records and their features z_i:
    `weight` is mean_i r_i z_i^T and `bias` is mean_i r_i.

    Attributes:
        layer: the layer.
        weight: (classes, d).
        bias: (classes,), or None where the layer has no bias.
        steps: local steps that the update is the mean of; 1 for a gradient.
        scaled: whether its scale is right; False when the rate or the number of steps is not known, so that
            only signs and ratios can be used.
    """

    layer: LastLayer
    weight: Float[Array, " c d"]
    bias: Float[Array, " c"] | None
    steps: int = 1
    scaled: bool = True

    def times(self, unit: float) -> "LastGradient":
        """The gradient in another scale."""
        return replace(self, weight=self.weight * unit, bias=None if self.bias is None else self.bias * unit)

    @property
    def classes(self) -> int:
        return len(self.weight)

    @property
    def signs(self) -> Float[Array, " c"]:
        """(classes,) a statistic below zero for classes that are surely in the batch.

        The bias gradient is such a one for any features; the row sums of the weight gradient stand in for it
        where there is no bias, and are sound where features are not negative (Zhao et al. 2020, section 3).
        """
        return self.weight.sum(axis=1) if self.bias is None else self.bias


def last_layer_obstacle(knowledge: Knowledge) -> str | None:
    """Why labels cannot be read off the last layer's gradient, or None when they might be."""
    if not isinstance(knowledge, GradientKnowledge):
        return None
    if knowledge.net is None:
        return "it needs the model that the update is of"
    if last_layer(knowledge.net) is None:
        return "it needs a network whose logits come from a fully connected layer; this one's come from something else"
    return None


def last_gradient(knowledge: GradientKnowledge, update: Update, layer: LastLayer | None = None) -> LastGradient:
    """The mean gradient of the last layer from an update, in float64.

    A difference of weights is divided by minus the learning rate times the number of local steps, which makes
    it the mean of the gradients of its steps; where either is unknown it is left in its own scale.

    Args:
        knowledge: what the adversary holds.
        update: what the client sent.
        layer: the last layer, where it is already known.

    Raises:
        DataError: when a tensor is missing, has another shape, or holds NaN or infinite values.
    """
    layer = layer or last_layer(knowledge.net)
    if layer is None:
        raise ValueError("a fully connected last layer is needed; `obstacle` says so")
    weight = update.tensor(layer.weight, layer.w.shape).astype(np.float64)
    bias = None if layer.bias is None else update.tensor(layer.bias, layer.c.shape).astype(np.float64)
    if update.kind == "gradient":
        return LastGradient(layer, weight, bias)
    rate, steps = knowledge.assumptions.rate.value, knowledge.assumptions.steps.value
    scaled = bool(rate) and bool(steps)
    unit = -1.0 / (float(rate) * int(steps)) if scaled else -1.0
    return LastGradient(layer, weight * unit, None if bias is None else bias * unit, int(steps or 1), scaled)
