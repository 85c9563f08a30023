"""Property inference: the secret is how large a share of the training set a group is.

One victim is one unit, and no interval comes of it. So others are trained by the same recipe on the private records:
half of them at the share that the victim's training set has, half at the share that the public knows. How well these
are told apart is how well the share of such a model is told.
"""

from collections.abc import Sequence
from functools import wraps
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from seepage.cases.group import Group
from seepage.cases.world import World
from seepage.core.case import Case, Training
from seepage.core.errors import ConfigError, ModelError
from seepage.core.guess import Guess, Scores
from seepage.core.knowledge import PropertyKnowledge
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.secrets import PropertySecret
from seepage.core.seeds import derive, stream
from seepage.core.victim import Model, Models
from seepage.core.vocabulary import Leak
from seepage.models.shadows import drawn_at, fit_models

Array = np.ndarray
Rows = Int[Array, " _"]


def obstacle(world: World) -> str | None:
    """Why property inference cannot be audited in this world, or None when it can."""
    if world.group is None:
        return (
            "it needs a group whose share is asked about: [property] column = ... and value = ... (property= in Python)"
        )
    if world.recipe is None:
        return "it needs a recipe, to train shadow models at other shares of the group"
    return None


def _parts(world: World) -> tuple[Group, Recipe, Records]:
    if world.group is None or world.recipe is None or world.public is None:
        raise ConfigError("property inference needs a group, a recipe and public records")
    return world.group, world.recipe, world.public


def knowledge(world: World, form: str = "property") -> PropertyKnowledge:
    """What the adversary holds before the first query; trains nothing yet."""
    group, recipe, public = _parts(world)
    kept = np.nonzero(~group.held)[0]
    return PropertyKnowledge(
        public=public[kept],
        recipe=recipe.on(public[kept]),
        asked=public[np.nonzero(group.held)[0]],
        asked_group=group.public[group.held],
        share=group.share,
        models=group.trials + 1,
        shadows=group.shadows,
    )


def _pool(world: World, group: Group) -> tuple[Records, Bool[Array, " n"]]:
    """The private records, trained on or not, and which are of the group; the members first."""
    if world.nonmembers is None or group.nonmembers is None:
        return world.members, group.members
    return world.members.joined(world.nonmembers), np.concatenate([group.members, group.nonmembers])


def build(world: World, form: str = "property") -> Case:
    """The case of a world. Ask `obstacle` first. Trains the trials: one and a half times as many models.

    The victim stands among the trials at a place that tells nothing. The null model is a set of as many models, all
    of them trained at the public's share, of which half are called by chance what the others are in truth.
    """
    group, recipe, _ = _parts(world)
    pool, flags = _pool(world, group)
    half = group.trials // 2
    truth = group.truth

    def subsets(kind: str, share: float, models: int) -> list[Rows]:
        return [drawn_at(flags, share, group.records, stream(world.seed, "property", kind, i)) for i in range(models)]

    more, plain = subsets("more", truth, half), subsets("plain", group.share, half)
    other = subsets("other", group.share, half + 1)
    own = recipe.on(pool)
    seeds = [derive(world.seed, "property", "seed", i) for i in range(3 * half + 1)]
    made = fit_models(own, [*more, *plain, *other], seeds)
    order = stream(world.seed, "property", "order").permutation(group.trials + 1)

    def shuffled(models: Sequence[Model]) -> Models:
        return Models(tuple(models[i] for i in order))

    victim = shuffled([world.victim, *made[:half], *made[half : 2 * half]])
    null = shuffled([made[3 * half], *made[2 * half : 3 * half], *made[half : 2 * half]])
    kinds = np.array([0, *[1] * half, *[2] * half])[order]
    at = {0: truth, 1: _whole(truth, group.records), 2: _whole(group.share, group.records)}
    known = knowledge(world)
    unmoved = np.full(group.trials + 1, group.share)
    said: Guess = Scores(unmoved, trace={"shares": np.repeat(unmoved[:, None], 3, axis=1)})
    facts: dict[str, float | str | None] = {
        "group": group.name,
        "public_share": group.share,
        "true_share": truth,
        "records_each": float(group.records),
        "records_victim": float(len(world.members)),
        "trial_models": float(group.trials),
        "models_trained": float(len(made) + group.shadows.models),
    }
    members = np.arange(len(world.members))
    return Case(
        leak=Leak.MEMBERSHIP,
        name="property",
        victim=victim,
        knowledge=known,
        secret=PropertySecret(
            shares=np.array([at[int(kind)] for kind in kinds]),
            trial=kinds > 0,
            more=kinds == 1,
            public=group.share,
            victim=truth,
            group=group.name,
        ),
        null=null,
        baselines={"public_share": said},
        training=Training(
            recipe=_panel(own, [members, *more, *plain], [derive(world.seed, "victim"), *seeds[: 2 * half]], order),
            members=np.arange(len(pool)),
            seed=world.seed,
            null_recipe=_panel(
                own,
                [other[half], *other[:half], *plain],
                [seeds[3 * half], *seeds[2 * half : 3 * half], *seeds[half : 2 * half]],
                order,
            ),
            null_members=np.arange(len(pool)),
        ),
        facts=facts,
        seed=world.seed,
    )


def _whole(share: float, records: int) -> float:
    """The share once whole records were drawn."""
    return round(share * records) / records


def _panel(recipe: Recipe, subsets: Sequence[Rows], seeds: Sequence[int], order: Rows) -> Recipe:
    """A recipe whose every fit is the whole set of models, each on its own records: for defenses of training."""

    @wraps(recipe.train)
    def train(records: Records, seed: int, **options: Any) -> Models:
        if len(records) != len(recipe.data):
            raise ModelError("the models of property inference are trained on all of the private records or none")
        own = Recipe(recipe.train, records, recipe.name, options=options, many=recipe.many)
        made = fit_models(own, subsets, seeds)
        return Models(tuple(made[i] for i in order))

    return Recipe(train, recipe.data, recipe.name, options=recipe.options)
