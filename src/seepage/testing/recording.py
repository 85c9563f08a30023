"""Wrappers that count what a victim is really asked, to hold the meter against."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from seepage.core.spec import InputSpec
from seepage.core.victim import (
    Captured,
    GivesEmbeddings,
    GivesLogits,
    GivesWeights,
    LanguageModel,
    Model,
    Models,
    TextEncoder,
    Victim,
)
from seepage.core.vocabulary import Access

Array = np.ndarray


class RecordingModel:
    """A model that answers as the one inside does, and counts every record it is asked.

    It has the optional methods (logits, embeddings, weights) that the model inside has, and no others.
    A network handed out is watched as well: every batch that goes through it counts.

    Args:
        model: answers.
        free: records whose answers were captured: that very array is answered without counting.

    Attributes:
        asked: records asked so far, by method: "predict", "logits", "embeddings", "weights".
    """

    def __init__(self, model: Model, free: Array | None = None):
        self.inside = model
        self._free = free
        self.asked: Counter[str] = Counter()
        self._watched: list[Any] = []
        if isinstance(model, GivesLogits):
            self.logits = self._counted("logits", model.logits)
        if isinstance(model, GivesEmbeddings):
            self.embeddings = self._counted("embeddings", model.embeddings)
        if isinstance(model, GivesWeights):
            self.differentiable = self._watching(model)

    @property
    def spec(self) -> InputSpec:
        return self.inside.spec

    @property
    def classes(self) -> int:
        return self.inside.classes

    @property
    def family(self) -> str:
        return self.inside.family

    @property
    def offers(self) -> frozenset[Access]:
        return self.inside.offers

    @property
    def total(self) -> int:
        """Records asked so far, by whatever method."""
        return self.asked.total()

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        self.asked["predict"] += 0 if x is self._free else len(x)
        return self.inside.predict(x)

    def _counted(self, method: str, ask: Callable[[Array], Array]) -> Callable[[Array], Array]:
        def counted(x: Array) -> Array:
            self.asked[method] += 0 if x is self._free else len(x)
            return ask(x)

        return counted

    def _watching(self, model: GivesWeights) -> Callable[[], Any]:
        depth = [0]

        def count(_module: Any, args: tuple[Any, ...]) -> None:
            # A pass through a layer by hand counts; layers inside a pass that is counted already do not.
            self.asked["weights"] += len(args[0]) if depth[0] == 0 else 0
            depth[0] += 1

        def leave(*_: Any) -> None:
            depth[0] = max(depth[0] - 1, 0)

        def differentiable() -> Any:
            module = model.differentiable()
            # The same network may be handed out twice; watched twice it would count double.
            if not any(module is seen for seen in self._watched):
                for layer in module.modules():
                    layer.register_forward_pre_hook(count)
                    layer.register_forward_hook(leave, always_call=True)
                self._watched.append(module)
            return module

        return differentiable


class RecordingLanguageModel:
    """A language model that answers as the one inside does, and counts every prompt and text it is asked.

    Attributes:
        asked: prompts or texts asked so far, by method: "generate", "logprobs".
    """

    def __init__(self, model: LanguageModel):
        self.inside = model
        self.asked: Counter[str] = Counter()

    @property
    def offers(self) -> frozenset[Access]:
        return self.inside.offers

    @property
    def total(self) -> int:
        """Prompts and texts asked so far."""
        return self.asked.total()

    def generate(self, prompts: Sequence[str], length: int, rng: np.random.Generator | None = None) -> list[str]:
        self.asked["generate"] += len(prompts)
        return self.inside.generate(prompts, length, rng)

    def logprobs(self, texts: Sequence[str]) -> list[Float[Array, " t"]]:
        self.asked["logprobs"] += len(texts)
        return self.inside.logprobs(texts)


class RecordingEncoder:
    """An encoder that answers as the one inside does, and counts every text it is asked but for the `free` ones.

    Attributes:
        asked: texts asked so far.
    """

    def __init__(self, encoder: TextEncoder, free: Captured | None = None):
        self.inside = encoder
        self._free = free
        self.asked: Counter[str] = Counter()

    @property
    def offers(self) -> frozenset[Access]:
        return self.inside.offers

    @property
    def total(self) -> int:
        """Texts asked so far."""
        return self.asked.total()

    def embed(self, texts: Sequence[str]) -> Float[Array, " n d"]:
        self.asked["embed"] += 0 if texts is self._free else len(texts)
        return self.inside.embed(texts)


@dataclass(frozen=True)
class RecordingModels(Models):
    """Several models, each of which counts; what was asked of the one that was asked most is what counts."""

    @property
    def total(self) -> int:
        """Records that the model asked most was asked."""
        return max(model.total for model in self.models if isinstance(model, RecordingModel))


Recording = RecordingModel | RecordingModels | RecordingLanguageModel | RecordingEncoder


def recording(victim: Victim, free: Captured | None = None) -> Recording | None:
    """The victim with its questions counted but for the `free` records, or None for a captured update, never asked."""
    if isinstance(victim, Models):
        return RecordingModels(tuple(RecordingModel(model) for model in victim.models))
    if isinstance(victim, Model):
        return RecordingModel(victim, free if isinstance(free, np.ndarray) else None)
    if isinstance(victim, TextEncoder):
        return RecordingEncoder(victim, free)
    if isinstance(victim, LanguageModel):
        return RecordingLanguageModel(victim)
    return None
