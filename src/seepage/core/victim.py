"""What can be a victim, as small protocols."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from seepage.core.errors import DataError
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Access, Task, closure

Array = np.ndarray


@runtime_checkable
class Model(Protocol):
    """A classifier, or a predictor of numbers or of labels that says so (`HasTask`).

    `predict` always returns a row of `classes` scores a record, each row summing to one (behind a
    defense that rounds, to about one). A victim that gives labels alone returns one-hot rows and offers
    `Access.LABELS` alone; one that gives its top k leaves zeros elsewhere (rows then sum to less) and
    offers `Access.TOP_K` at the most.

    Attributes:
        spec: what one input looks like.
        classes: how many classes there are; of values or labels, how many a record.
        family: architecture family ("cnn", "mlp", "linear", "tree", "kernel", ..., "unknown").
        offers: the accesses this victim can give at all.
    """

    @property
    def spec(self) -> InputSpec: ...
    @property
    def classes(self) -> int: ...
    @property
    def family(self) -> str: ...
    @property
    def offers(self) -> frozenset[Access]: ...
    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]: ...


@runtime_checkable
class HasTask(Protocol):
    """A model that says what it answers; one that does not tells classes apart.

    Of a model of values `predict` gives (n, classes) numbers in the targets' own units; of one of labels, for each of
    `classes` labels the probability that it applies, each on its own. `Access.SCORES` then opens these answers.
    """

    @property
    def task(self) -> Task: ...


def task_of(victim: Any) -> Task:
    """What a victim answers."""
    return victim.task if isinstance(victim, HasTask) else Task.CLASSES


@runtime_checkable
class GivesLogits(Protocol):
    """A model whose unnormalised outputs can be read: (n, classes), any real value."""

    def logits(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]: ...


@runtime_checkable
class GivesEmbeddings(Protocol):
    """A model whose penultimate features can be read: (n, features), any real value."""

    def embeddings(self, x: Float[Array, " n ..."]) -> Float[Array, " n d"]: ...


@runtime_checkable
class GivesWeights(Protocol):
    """A model that can be differentiated.

    `differentiable` returns a torch module from records (n, *spec.shape) in `spec.bounds` to logits
    (n, classes), preprocessing included, in evaluation mode; `core` itself never imports torch.
    """

    def differentiable(self) -> Any: ...


@runtime_checkable
class LanguageModel(Protocol):
    """A model of text."""

    @property
    def offers(self) -> frozenset[Access]: ...
    def generate(self, prompts: Sequence[str], length: int, rng: np.random.Generator | None = None) -> list[str]:
        """`length` further tokens for each prompt: the likeliest ones, or sampled when `rng` is given."""
        ...

    def logprobs(self, texts: Sequence[str]) -> list[Float[Array, " t"]]:
        """The natural log-probability of every token of each text, given those before it."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """A model that answers a feature vector for a text: what a vector database keeps.

    Attributes:
        offers: `Access.EMBEDDINGS`, as long as its vectors can be had.
    """

    @property
    def offers(self) -> frozenset[Access]: ...
    def embed(self, texts: Sequence[str]) -> Float[Array, " n d"]:
        """One finite vector a text, in the order of the texts; equal texts get equal vectors."""
        ...


@dataclass(frozen=True)
class Update:
    """What a client of federated learning sent: named tensors.

    What the adversary knows of their making stands in its knowledge (`core.assumptions`).

    Attributes:
        tensors: gradients of the mean loss, or differences of the weights (after minus before), by parameter.
        kind: "gradient" or "delta".
        buffers: what else it sent: running statistics of batch normalisation after the round, by name.
    """

    tensors: Mapping[str, Array]
    kind: str = "gradient"
    buffers: Mapping[str, Array] = field(default_factory=dict[str, Array])

    @property
    def offers(self) -> frozenset[Access]:
        return frozenset({Access.UPDATES})

    def tensor(self, name: str, shape: tuple[int, ...] | None = None) -> Array:
        """One tensor, looked at before it is computed with.

        Args:
            name: of the parameter.
            shape: of the model's parameter, brought to which it is given; None takes it as it came.

        Raises:
            DataError: when it is missing, of another size, or holds NaN or infinite values.
        """
        if name not in self.tensors:
            known = ", ".join(sorted(self.tensors)) or "none"
            raise DataError(f"the update has no tensor '{name}' of the model; it has {known}")
        found = np.asarray(self.tensors[name])
        if shape is not None and found.size != int(np.prod(shape)):
            raise DataError(
                f"the update's '{name}' has shape {found.shape}, the model's has {shape}: it is of another model"
            )
        if not np.isfinite(found).all():
            raise DataError(f"the update's '{name}' holds NaN or infinite values: nothing can be read of it")
        return found if shape is None else found.reshape(shape)


@dataclass(frozen=True)
class Updates:
    """What several clients sent, one update each: a client is then the unit of an interval.

    Attributes:
        clients: the updates, by client number.
        asked: what the same clients send when they are given another model (`models.federated.ClientNet`) in a
            further round, as an active server does; rounds are numbered from 1, and what clients draw (noise,
            dropout, order) they draw anew in each. None where the round is over.
    """

    clients: tuple[Update, ...]
    asked: "Callable[[Any, int], Updates] | None" = None

    def __len__(self) -> int:
        return len(self.clients)

    @property
    def offers(self) -> frozenset[Access]:
        return frozenset({Access.UPDATES if self.asked is None else Access.ROUNDS})


@dataclass(frozen=True)
class Models:
    """Several classifiers trained the same way on other records: a model is then the unit of an interval.

    Attributes:
        models: the classifiers.
    """

    models: tuple[Model, ...]

    def __len__(self) -> int:
        return len(self.models)

    @property
    def offers(self) -> frozenset[Access]:
        """What every one of them gives."""
        return frozenset(Access).intersection(*(closure(model.offers) for model in self.models))


Victim = Model | LanguageModel | TextEncoder | Update | Updates | Models

# Private records whose answers an adversary holds: (n, ...) values, or texts.
Captured = Array | tuple[str, ...]

Predictor = Callable[[Array], Array]
