"""Recipes made usable: the user's trainer wrapped, what it trains kept on disk where that can be."""

import hashlib
import inspect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import PicklingError
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

log = logging.getLogger(__name__)
Fit = Callable[..., Any]
# Seconds that several trainings have to take for other processes to be started.
WORTH = 20.0
# Raised when a change of the training code here makes kept weights worthless.
TRAINING = 2


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

    def recipe(self, spec: InputSpec, pool: Records, kept: Path | None, processes: int = 1) -> Recipe:
        """The recipe over a pool of records.

        Args:
            spec: one input.
            pool: the records.
            kept: where trained weights are kept, where they can be read back; None for nowhere.
            processes: in how many processes several models are trained.

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
            return self._changed(changed)._trained(records, seed, spec, kept)

        def many(parts: Sequence[Records], seeds: Sequence[int], **changed: Any) -> list[Model]:
            return self._changed(changed)._several(parts, seeds, spec, processes)

        return Recipe(train, pool, self.name, many=many)

    def _changed(self, options: Mapping[str, Any]) -> "Trainer":
        """With what a training defense asks for on top of the recipe's own options."""
        return replace(self, options={**self.options, **options}) if options else self

    def _several(self, parts: Sequence[Records], seeds: Sequence[int], spec: InputSpec, processes: int) -> list[Model]:
        """A model for each of these records: at once where the recipe can, else in so many processes."""
        known = None if self.built_in is None else built_in(self.built_in)
        if known is not None and known.many is not None:
            seeds = [seed % 2**32 for seed in seeds]
            fit, classes = known.many, len(parts[0].class_names)
            shares = min(processes, len(parts))
            jobs = [
                ([part.x for part in parts[i::shares]], [part.labels() for part in parts[i::shares]], seeds[i::shares])
                for i in range(shares)
            ]
            made = in_processes(lambda job: fit(*job, **{**self.options, "classes": classes}), jobs, processes)
            order = [i for share in range(shares) for i in range(share, len(parts), shares)]
            nets = [net for share in made for net in share]
            return [wrap(nets[order.index(i)], spec) for i in range(len(parts))]
        pairs = list(zip(parts, seeds, strict=True))
        begun = time.monotonic()
        made = [self._made(*pair) for pair in pairs[:1]]
        # Starting processes costs seconds: not where the rest is done by then.
        quick = (time.monotonic() - begun) * (len(pairs) - 1) < WORTH
        made += in_processes(lambda pair: self._made(*pair), pairs[1:], 1 if quick else processes)
        return [self._wrapped(model, part, spec) for model, part in zip(made, parts, strict=True)]

    def _trained(self, records: Records, seed: int, spec: InputSpec, kept: Path | None) -> Model:
        path = self.kept_at(records, seed, spec, kept)
        if path is not None and path.is_file() and self.built_in is not None:
            shape, classes = tuple(records.x.shape[1:]), len(records.class_names)
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
        return self._wrapped(self._made(records, seed), records, spec)

    def _made(self, records: Records, seed: int) -> Any:
        """What the trainer makes of these records."""
        # 32 bits: as much as NumPy's and scikit-learn's seeds hold.
        seed = seed % 2**32
        before = np.random.get_state()  # noqa: NPY002 - a trainer may draw from the global generators
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                np.random.seed(seed)  # noqa: NPY002
                made = self.fit(*records.given(), seed, **self._all_options(records))
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
        return made

    def _wrapped(self, made: Any, records: Records, spec: InputSpec) -> Model:
        lacking = records.targets is None and len(np.unique(records.labels())) < len(records.class_names)
        # An estimator says which classes it has seen, and not how many there are: it gives the others no score.
        classes = len(records.class_names) if records.targets is None and hasattr(made, "classes_") else None
        model = wrap(made, spec, like=records, task=records.task, classes=classes)
        if lacking:
            _knows_every_class(model, records, self.name)
        return model

    def _all_options(self, records: Records) -> Mapping[str, Any]:
        """The options, and for a built-in recipe how many classes there are: records may lack some."""
        return self.options if self.built_in is None else {"classes": len(records.class_names), **self.options}


def in_processes(do: Callable[[Any], Any], jobs: Sequence[Any], processes: int) -> list[Any]:
    """What `do` gives for each job, in order: in so many processes, or here where it cannot be sent to another one."""
    if processes == 1 or len(jobs) < 2:
        return [do(job) for job in jobs]
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    def alone(job: Any) -> Any:
        torch.set_num_threads(1)
        return do(job)

    try:
        return list(Parallel(n_jobs=min(processes, len(jobs)), backend="loky")(delayed(alone)(job) for job in jobs))
    except (PicklingError, TypeError, AttributeError, TerminatedWorkerError) as error:
        log.info("models are trained one after the other: the recipe cannot be sent to other processes (%s)", error)
        return [do(job) for job in jobs]


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
