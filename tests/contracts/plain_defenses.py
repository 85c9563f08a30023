"""Small defenses that keep every contract."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field

from seepage.core.defense import CorpusDefense, OutputDefense, TrainingDefense, UpdateDefense
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.spec import InputSpec
from seepage.core.victim import Model, Update
from seepage.core.vocabulary import Access, closure

SOURCE = ("Tramer et al., 2016, Stealing machine learning models via prediction APIs, USENIX Security",)


class OneHot:
    """A model that gives labels alone."""

    def __init__(self, inside: Model):
        self._inside = inside
        self.offers = frozenset({Access.LABELS})

    @property
    def spec(self) -> InputSpec:
        return self._inside.spec

    @property
    def classes(self) -> int:
        return self._inside.classes

    @property
    def family(self) -> str:
        return self._inside.family

    def predict(self, x: Float[np.ndarray, " n ..."]) -> Float[np.ndarray, " n c"]:
        return np.eye(self.classes)[self._inside.predict(x).argmax(axis=1)]


class LabelsOnly(OutputDefense):
    """Answers the predicted class and nothing else."""

    name: ClassVar[str] = "labels-only"
    title: ClassVar[str] = "Labels only"
    cites: ClassVar[tuple[str, ...]] = SOURCE
    leaves: ClassVar[frozenset[Access]] = frozenset({Access.LABELS})

    def wrap(self, model: Model, rng: np.random.Generator) -> Model:
        return OneHot(model)


class Blurred:
    """A model whose scores are mixed with fixed noise of the record."""

    def __init__(self, inside: Model, level: float, rng: np.random.Generator):
        self._inside = inside
        self._level = level
        self._noise = rng.dirichlet(np.ones(inside.classes), size=64)
        self.offers = closure(inside.offers) & frozenset({Access.SCORES, Access.TOP_K, Access.LABELS})

    @property
    def spec(self) -> InputSpec:
        return self._inside.spec

    @property
    def classes(self) -> int:
        return self._inside.classes

    @property
    def family(self) -> str:
        return self._inside.family

    def predict(self, x: Float[np.ndarray, " n ..."]) -> Float[np.ndarray, " n c"]:
        which = (x.reshape(len(x), -1).sum(axis=1) * 1000).astype(int) % len(self._noise)
        return (1 - self._level) * self._inside.predict(x) + self._level * self._noise[which]


class Blur(OutputDefense):
    """Mixes `level` parts of noise into the scores."""

    name: ClassVar[str] = "blur"
    title: ClassVar[str] = "Noise in the scores"
    cites: ClassVar[tuple[str, ...]] = SOURCE

    level: float = Field(default=0.2, gt=0, le=1)

    def wrap(self, model: Model, rng: np.random.Generator) -> Model:
        return Blurred(model, self.level, rng)


class NoisyUpdate(UpdateDefense):
    """Adds Gaussian noise of standard deviation `sigma` to every tensor."""

    name: ClassVar[str] = "noisy-update"
    title: ClassVar[str] = "Noise in the update"
    cites: ClassVar[tuple[str, ...]] = ("Wei et al., 2020, Federated learning with differential privacy, TIFS",)

    sigma: float = Field(default=0.1, gt=0)

    def apply(self, update: Update, rng: np.random.Generator) -> Update:
        noisy = {name: t + rng.normal(scale=self.sigma, size=t.shape) for name, t in update.tensors.items()}
        return Update(noisy, update.kind, update.buffers)


class Wide(TrainingDefense):
    """Trains with the keyword `width` set: a smoother victim."""

    name: ClassVar[str] = "wide"
    title: ClassVar[str] = "Wider kernel"
    cites: ClassVar[tuple[str, ...]] = ("Yeom et al., 2018, Privacy risk in machine learning, CSF",)

    width: float = Field(default=1.0, gt=0)

    def on_recipe(self, recipe: Recipe) -> Recipe:
        return recipe.with_options(f"{recipe.name}+{self.name}", width=self.width)


class Halve(CorpusDefense):
    """Trains on every other record."""

    name: ClassVar[str] = "halve"
    title: ClassVar[str] = "Half of the records"
    cites: ClassVar[tuple[str, ...]] = ("Cormode et al., 2012, Sampling for big data, KDD",)

    def clean(self, records: Records, seed: int) -> Records:
        return records[np.arange(0, len(records), 2)]


class LargeLeaves(TrainingDefense):
    """Grows no leaf of a tree smaller than `records`."""

    name: ClassVar[str] = "large-leaves"
    title: ClassVar[str] = "Large leaves"
    cites: ClassVar[tuple[str, ...]] = ("Breiman, Friedman, Olshen, Stone, 1984, Classification and regression trees",)

    records: int = Field(default=20, ge=1)

    def on_recipe(self, recipe: Recipe) -> Recipe:
        return recipe.with_options(f"{recipe.name}+{self.name}", min_samples_leaf=self.records)
