"""Training sets with a wanted share of a group, and the shadow models trained on them."""

import json
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from seepage.core.defense import Defense, OutputDefense
from seepage.core.errors import DataError, ModelError
from seepage.core.recipe import Recipe
from seepage.core.seeds import derive, stream
from seepage.core.shadows import Shadows
from seepage.core.victim import Model

Array = np.ndarray

# Models trained in one call: enough to be worth it, few enough to fit.
_AT_ONCE = 16


def most_records(group: Bool[Array, " n"], share: float) -> int:
    """The most records that can be drawn without repeats so that `share` of them are of the group."""
    inside, outside = int(group.sum()), int((~group).sum())
    of_group = math.inf if share <= 0 else inside / share
    of_others = math.inf if share >= 1 else outside / (1 - share)
    return math.floor(min(of_group, of_others) + 1e-9)


def drawn_at(group: Bool[Array, " n"], share: float, records: int, rng: np.random.Generator) -> Int[Array, " m"]:
    """Rows drawn at random, none twice, of which `share` are of the group: the nearest whole number of them.

    Raises:
        DataError: when there are too few of either kind.
    """
    of_group = round(share * records)
    inside, outside = np.nonzero(group)[0], np.nonzero(~group)[0]
    if of_group > len(inside) or records - of_group > len(outside):
        raise DataError(
            f"{records} records with a share of {share:g} were wanted; there are {len(inside)} of the group and "
            f"{len(outside)} others: give more records, or fewer to train on"
        )
    rows = [rng.permutation(inside)[:of_group], rng.permutation(outside)[: records - of_group]]
    return np.sort(np.concatenate(rows))


def fit_models(recipe: Recipe, subsets: Sequence[Int[Array, " _"]], seeds: Sequence[int]) -> tuple[Model, ...]:
    """A classifier for each subset, some at a time.

    Raises:
        ModelError: when the recipe makes something else.
    """
    made: list[Model] = []
    for start in range(0, len(subsets), _AT_ONCE):
        for one in recipe.fit_many(subsets[start : start + _AT_ONCE], seeds[start : start + _AT_ONCE]):
            if not isinstance(one, Model):
                raise ModelError(f"the recipe should return a classifier, it returned a {type(one).__name__}")
            made.append(one)
    return tuple(made)


class TrainedShadows:
    """A `ShadowSource` that trains its models on public records when they are first asked for, and keeps them.

    Behind defenses of answers the same models are used again; a defense of training has them trained anew.

    Args:
        recipe: over the public records, none of them held back for asking.
        group: (n,) which of these are of the group.
        shares: (k,) the share that each model is to be trained at.
        records: how many records each is trained on.
        seed: of the audit.
    """

    def __init__(
        self, recipe: Recipe, group: Bool[Array, " n"], shares: Float[Array, " k"], records: int, seed: int
    ) -> None:
        self._recipe = recipe
        self._group = group
        self._shares = np.asarray(shares, dtype=np.float64)
        self._records = records
        self._seed = seed
        self._kept: dict[str, tuple[Model, ...]] = {}

    @property
    def models(self) -> int:
        return len(self._shares)

    @property
    def drawn(self) -> float:
        """What part of a kind of record a model is trained on: of the kind it has the greater part of, their mean."""
        of_group = np.round(self._shares * self._records)
        parts = (of_group / max(self._group.sum(), 1), (self._records - of_group) / max((~self._group).sum(), 1))
        return float(np.maximum(*parts).mean())

    def get(self, recipe: Recipe, defenses: tuple[Defense, ...]) -> Shadows:
        """The models. The adversary's `recipe` is asked where a defense changes how models are trained."""
        answers = [defense for defense in defenses if isinstance(defense, OutputDefense)]
        models = self._trained(self._recipe if len(answers) == len(defenses) else recipe)
        if len(answers) == len(defenses):
            for defense in answers:
                streams = stream(self._seed, "shadows", "defense", defense.name).spawn(len(models))
                models = tuple(defense.wrap(one, own) for one, own in zip(models, streams, strict=True))
        # Shares as they are after whole records were drawn.
        return Shadows(models, np.round(self._shares * self._records) / self._records, self.drawn)

    def _trained(self, recipe: Recipe) -> tuple[Model, ...]:
        extra = None if recipe.extra is None else recipe.extra.digest()
        key = json.dumps([recipe.name, dict(recipe.options), extra], sort_keys=True, default=str)
        if key not in self._kept:
            subsets = [
                drawn_at(self._group, share, self._records, stream(self._seed, "shadows", "records", i))
                for i, share in enumerate(self._shares)
            ]
            seeds = [derive(self._seed, "shadows", i) for i in range(len(subsets))]
            self._kept[key] = fit_models(recipe.on(self._recipe.data), subsets, seeds)
        return self._kept[key]
