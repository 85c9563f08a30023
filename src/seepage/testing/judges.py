"""A judge that knows the private templates, for cases whose truth is known."""

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax

Array = np.ndarray


class TemplateJudge:
    """Recognises a record as the class of its nearest private template.

    Its probabilities are a softmax of the negative distances, in tenths of the least distance between
    templates of different classes.

    Args:
        templates: (k, *shape) private records.
        labels: (k,) their classes; one class each by default.
    """

    family = "nearest template"

    def __init__(self, templates: Float[Array, " k ..."], labels: Int[Array, " k"] | None = None):
        self._given = templates
        self._templates = templates.reshape(len(templates), -1).astype(np.float64)
        self._labels = np.arange(len(templates)) if labels is None else labels
        self.classes = int(self._labels.max()) + 1
        other = self._labels[:, None] != self._labels[None]
        self._scale = float(self._apart(self._templates)[other].min()) / 10 if other.any() else 1.0

    def _apart(self, flat: Float[Array, " n d"]) -> Float[Array, " n k"]:
        return np.sqrt(np.square(flat[:, None] - self._templates[None]).sum(-1))

    @property
    def facts(self) -> dict[str, float | str | None]:
        """It is right about every private template."""
        return {"accuracy": float((self.predict(self._given).argmax(axis=1) == self._labels).mean())}

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """Probabilities over the private classes."""
        apart = self._apart(x.reshape(len(x), -1).astype(np.float64))
        nearest = np.stack([apart[:, self._labels == c].min(axis=1) for c in range(self.classes)], axis=1)
        return softmax(-nearest / self._scale, axis=1)

    def features(self, x: Float[Array, " n ..."]) -> Float[Array, " n d"]:
        """The values themselves: the space in which it measures distance."""
        return x.reshape(len(x), -1).astype(np.float64)
