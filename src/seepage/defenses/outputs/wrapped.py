"""A model whose answers pass through a defense before anyone sees them."""

from collections.abc import Callable
from typing import final

import numpy as np
from jaxtyping import Float

from seepage.core.spec import InputSpec
from seepage.core.victim import Model, task_of
from seepage.core.vocabulary import Access, Task, closure

Array = np.ndarray
Answer = Callable[[Float[Array, " n c"]], Float[Array, " n c"]]

ANSWERS = frozenset({Access.SCORES, Access.TOP_K, Access.LABELS})


@final
class DefendedModel:
    """A `Model` that answers as `answer` says, and answers only.

    The model inside is kept in a closure: there is no attribute to reach it by, and no logits,
    embeddings or weights, whatever the model inside could give. Labels and top-k are read off
    the changed scores.

    A defense may return rows that do not sum to one (rounded scores, say); they are passed on as they
    are, since normalising them would give away what was taken.

    Args:
        model: the model behind.
        answer: maps its scores (n, classes) to what is answered, of the same shape, in [0, 1].
        offers: the accesses left open, at most scores, top-k and labels, and what `model` offers.
    """

    __slots__ = ("_ask", "_classes", "_family", "_offers", "_spec", "_task")

    def __init__(self, model: Model, answer: Answer, offers: frozenset[Access] = ANSWERS):
        def ask(x: Array) -> Array:
            return answer(model.predict(x))

        self._ask = ask
        self._spec = model.spec
        self._classes = model.classes
        self._family = model.family
        self._task = task_of(model)
        self._offers = offers & ANSWERS & closure(model.offers)

    @property
    def spec(self) -> InputSpec:
        return self._spec

    @property
    def task(self) -> Task:
        return self._task

    @property
    def classes(self) -> int:
        return self._classes

    @property
    def family(self) -> str:
        return self._family

    @property
    def offers(self) -> frozenset[Access]:
        return self._offers

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """The defended scores, one a class for every record."""
        return self._ask(x)
