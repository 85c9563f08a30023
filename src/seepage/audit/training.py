"""Recipes made usable: the user's trainer wrapped, what it trains kept on disk where that can be."""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from seepage.core.errors import ConfigError, ModelError, SeepageError, did_you_mean
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.registry import load
from seepage.core.spec import InputSpec
from seepage.core.victim import Model
from seepage.core.vocabulary import Task
from seepage.models.recipes import RECIPES, built_in, untrained
from seepage.store.files import PRIVATE, digest, write_bytes
from seepage.targets import wrap
from seepage.targets.torch import TorchModel

Fit = Callable[..., Any]
# Raised when a change of the training code here makes kept weights worthless.
TRAINING = 1


@dataclass(frozen=True)
class Trainer:
    """How victims are trained, by name or by callable.

    Attributes:
        fit: `(x, y, seed, **options) -> model`.
        options: keyword arguments of `fit`.
        name: of the recipe, for reports.
        identity: what decides its results besides data and seed; None when that cannot be told.
        built_in: name of a built-in recipe, whose trained weights can be kept and read back.
    """

    fit: Fit
    options: Mapping[str, Any]
    name: str
    identity: str | None
    built_in: str | None = None

    @classmethod
    def named(cls, path: str, options: Mapping[str, Any]) -> "Trainer":
        """A built-in recipe, or the callable at "package.module:name".

        Raises:
            ConfigError: when there is none, or it does not take these options.
        """
        fit = built_in(path).fit if path in RECIPES or ":" not in path else load(path)
        if not callable(fit):
            raise ConfigError(f"[recipe] fit: '{path}' cannot be called; a function (x, y, seed) was wanted")
        parameters = inspect.signature(fit).parameters
        free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        for name in options:
            if name not in parameters and not free:
                known = [p for p in parameters if p not in ("x", "y", "seed")]
                raise ConfigError(f"[recipe] options: '{path}' takes no '{name}': {did_you_mean(name, known)}")
        source = source_digest(fit)
        identity = None if source is None else digest([path, dict(options), source, TRAINING])
        return cls(fit, dict(options), path, identity, path if path in RECIPES else None)

    @classmethod
    def of(cls, fit: Fit) -> "Trainer":
        """A trainer from a live callable: its code cannot be told apart for certain, so nothing is kept."""
        return cls(fit, {}, getattr(fit, "__qualname__", type(fit).__name__), None)

    def recipe(self, spec: InputSpec, pool: Records, kept: Path | None) -> Recipe:
        """The recipe over a pool of records; trained weights are kept in `kept` where they can be read back.

        Raises:
            ConfigError: when a built-in recipe is to train on a table in its own form, or to predict no classes.
        """
        if self.built_in is not None and pool.task is not Task.CLASSES:
            raise ConfigError(
                f"[recipe] fit: the built-in recipe '{self.name}' trains classifiers, and the targets are {pool.task}: "
                "give a function of your own, 'package.module:function'"
            )
        if self.built_in is not None and pool.form is not None:
            raise ConfigError(
                f"[recipe] fit: the built-in recipe '{self.name}' takes numbers, and the table is read in its own "
                'form: choose encode = "onehot" or "ordinal", or give a function of your own'
            )

        def train(records: Records, seed: int, **changed: Any) -> Model:
            # What a training defense asks for comes on top of the recipe's own options.
            if changed:
                return replace(self, options={**self.options, **changed})._trained(records, seed, spec, kept)
            return self._trained(records, seed, spec, kept)

        return Recipe(train, pool, self.name)

    def _trained(self, records: Records, seed: int, spec: InputSpec, kept: Path | None) -> Model:
        path = self.kept_at(records, seed, spec, kept)
        if path is not None and path.is_file() and self.built_in is not None:
            shape, classes = tuple(records.x.shape[1:]), int(records.labels().max()) + 1
            known = built_in(self.built_in)
            return wrap(str(path), spec, build=lambda: untrained(known, shape, classes, self.options))
        model = self._fit(records, seed, spec)
        if path is not None:
            _keep(model, path)
        return model

    def kept_at(self, records: Records, seed: int, spec: InputSpec, kept: Path | None) -> Path | None:
        """Where the weights trained on these records lie, or None when they are not kept."""
        if kept is None or self.built_in is None or self.identity is None:
            return None
        decides = [self.identity, dict(self.options), records.digest(), seed, list(spec.shape)]
        return kept / f"{digest(decides)[:24]}.safetensors"

    def _fit(self, records: Records, seed: int, spec: InputSpec) -> Model:
        # 32 bits: as much as NumPy's and scikit-learn's seeds hold.
        seed = seed % 2**32
        before = np.random.get_state()  # noqa: NPY002 - a trainer may draw from the global generators
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                np.random.seed(seed)  # noqa: NPY002
                made = self.fit(*records.given(), seed, **self.options)
        except SeepageError:
            raise
        except Exception as error:
            raise ModelError(
                f"the recipe '{self.name}' failed on {len(records)} records: {type(error).__name__}: {error}"
            ) from error
        finally:
            np.random.set_state(before)  # noqa: NPY002
        if made is None:
            raise ModelError(f"the recipe '{self.name}' returned nothing; it should return the trained model")
        lacking = records.targets is None and len(np.unique(records.labels())) < len(records.class_names)
        # An estimator says which classes it has seen, and not how many there are: it gives the others no score.
        classes = len(records.class_names) if records.targets is None and hasattr(made, "classes_") else None
        model = wrap(made, spec, like=records, task=records.task, classes=classes)
        if lacking:
            _knows_every_class(model, records, self.name)
        return model


def _knows_every_class(model: Model, records: Records, name: str) -> None:
    """Refuse a model that has no place for a class of which it happened to see no record.

    Raises:
        ModelError: saying how many classes there are.
    """
    known, seen = len(records.class_names), len(np.unique(records.labels()))
    if model.classes < known:
        raise ModelError(
            f"the recipe '{name}' was given {len(records)} records of {seen} of the {known} classes and made a model "
            f"of {model.classes}: have it make one of all {known}, whatever it is given (as an option, say), or leave "
            "rare classes out of the data"
        )


def _keep(model: Model, path: Path) -> None:
    if isinstance(model, TorchModel):
        state = model.differentiable().network.state_dict()
        write_bytes(path, save({name: value.contiguous() for name, value in state.items()}), PRIVATE)


def source_digest(thing: Any) -> str | None:
    """SHA-256 of the file that defines a callable or class, so that edited code is other code; None when unknown."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(thing))
    except TypeError:
        file = None
    if file is None or not Path(file).is_file():
        return None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
