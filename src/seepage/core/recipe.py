"""How victims are made: data, trainer and seed. What twins, training defenses and poisons need."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.records import Records
from seepage.core.victim import Victim

Array = np.ndarray
Trainer = Callable[..., Victim]
# Records and a seed for each model to train, and `options` by keyword, to a victim for each.
ManyTrainer = Callable[..., Sequence[Victim]]


@dataclass(frozen=True)
class Recipe:
    """A trainer with the pool of records it may draw on.

    Attributes:
        train: maps records, a seed and (by keyword) `options` to a victim; the same arguments give the
            same victim.
        data: the pool that member indices point into.
        name: for reports and cache keys.
        extra: records that every fit adds to the chosen members (what a poison injects).
        options: keyword arguments of `train`, as a training defense sets them (regularisation, noise, ...).
        many: trains several at once, faster than one after the other; None where nothing can.
    """

    train: Trainer
    data: Records
    name: str = "recipe"
    extra: Records | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    many: ManyTrainer | None = None

    def fit(self, members: Int[Array, " m"], seed: int) -> Victim:
        """A victim trained on the chosen records of the pool (and on `extra`)."""
        return self.train(self._records(members), seed, **self.options)

    def fit_many(self, subsets: Sequence[Int[Array, " _"]], seeds: Sequence[int]) -> list[Victim]:
        """A victim for each subset of the pool: at once where the trainer can (`many`), else one after the other.

        Each is trained as `fit` trains one, up to the order of sums and of random draws: of the same quality, not the
        same to the last digit.

        Raises:
            ValueError: when there are not as many seeds as subsets.
        """
        if len(subsets) != len(seeds):
            raise ValueError(f"as many seeds as subsets were wanted, got {len(seeds)} for {len(subsets)}")
        if self.many is None:
            return [self.fit(members, seed) for members, seed in zip(subsets, seeds, strict=True)]
        return list(self.many([self._records(members) for members in subsets], list(seeds), **self.options))

    def _records(self, members: Int[Array, " m"]) -> Records:
        chosen = self.data[members]
        return chosen if self.extra is None else chosen.joined(self.extra)

    def on(self, data: Records) -> "Recipe":
        """The same trainer on another pool: how a null twin is made."""
        return replace(self, data=data)

    def with_trainer(self, train: Trainer, name: str) -> "Recipe":
        """Another trainer on the same pool: what a defense around the trainer returns.

        A trainer that wraps this one passes the options on (`functools.wraps` keeps them checkable).
        """
        return replace(self, train=train, name=name, many=None)

    def with_options(self, name: str, **options: Any) -> "Recipe":
        """The same trainer with some of its keyword arguments set: what a training defense returns.

        Raises:
            ConfigError: when the trainer takes no such keyword.
        """
        taken = inspect.signature(self.train).parameters
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values()):
            known = list(taken)[2:]
            for option in options:
                if option not in known:
                    raise ConfigError(
                        f"the recipe '{self.name}' was to train with '{option}', which its trainer does not take "
                        f"({did_you_mean(option, known)}); add the keyword to the trainer"
                    )
        return replace(self, name=name, options={**self.options, **options})

    def with_extra(self, extra: Records) -> "Recipe":
        """The same recipe with records injected into every fit: what a poison returns."""
        return replace(self, extra=extra if self.extra is None else self.extra.joined(extra))
