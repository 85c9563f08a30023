"""Models that give away how large a share of a group they were trained on, by a law that is known.

ShareVictim     every answer moves with the share, and scatters by the seed
property_case   such a victim among trials, with shadow models trained on public records
"""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import expit
from scipy.stats import norm

from seepage.cases.group import Group
from seepage.cases.property import build
from seepage.cases.world import World
from seepage.core.case import Case
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.seeds import derive, stream
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Access, Modality
from seepage.models.shadows import TrainedShadows, drawn_at

Array = np.ndarray


class ShareVictim:
    """Answers every record with the logit gain (share - 1/2) + noise z for its second class of two.

    The share is that of training records whose first value is above 1/2, and z ~ N(0, 1) is drawn by the seed. So two
    such models, trained at shares s and r, are told apart with an AUC of Phi(gain (s - r) / (noise sqrt 2)), and one
    model shows its share with a standard deviation of noise / gain: no attack does better.

    Args:
        records: what it was trained on.
        gain: how far the logit moves from a share of 0 to one of 1; 0 leaves no trace.
        noise: standard deviation of the logit over seeds.
        seed: draws z.
    """

    family = "share"
    offers = frozenset({Access.WEIGHTS})
    classes = 2

    def __init__(self, records: Records, gain: float, noise: float, seed: int):
        self.spec = InputSpec(tuple(records.x.shape[1:]), modality=records.modality)
        self.share = float((records.x[:, 0] > 0.5).mean())
        salt = hashlib.sha256(str(seed).encode()).digest()
        z = float(norm.ppf((int.from_bytes(salt[:6], "big") + 0.5) / 2.0**48))
        self.logit = gain * (self.share - 0.5) + noise * z

    def logits(self, x: Float[Array, " n ..."]) -> Float[Array, " n 2"]:
        return np.repeat([[0.0, self.logit]], len(x), axis=0)

    def embeddings(self, x: Float[Array, " n ..."]) -> Float[Array, " n 1"]:
        return np.ones((len(x), 1))

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n 2"]:
        return np.repeat([[expit(-self.logit), expit(self.logit)]], len(x), axis=0)

    def differentiable(self) -> Any:
        """The same logits as a torch module of two fully connected layers."""
        from seepage.testing.modules import constant_network

        return constant_network(self.spec.size, self.logit)


def share_auc(gain: float, noise: float, apart: float) -> float:
    """The AUC of `ShareVictim`s whose shares lie so far apart."""
    return float(norm.cdf(gain * apart / (noise * np.sqrt(2))))


def property_case(
    seed: int,
    gain: float = 8.0,
    noise: float = 0.5,
    share: float = 0.6,
    public: float = 0.3,
    trials: int = 12,
    shadows: int = 24,
) -> Case:
    """Property inference of a `ShareVictim` trained at a share, where the public knows of another."""
    rng = stream(seed, "testing", "property")
    n, records = 400, 50
    spec = InputSpec((4,), modality=Modality.TABLE)

    def drawn(count: int, of_group: float) -> Records:
        x = rng.random((count, 4)).astype(np.float32)
        x[:, 0] = 0.5 * x[:, 0] + 0.5 * (np.arange(count) < round(of_group * count))
        return Records(x, rng.integers(2, size=count), ("a", "b"), modality=Modality.TABLE)

    def train(given: Records, own: int) -> ShareVictim:
        return ShareVictim(given, gain, noise, own)

    pool, known = drawn(n, 0.5), drawn(n, public)
    inside = pool.x[:, 0] > 0.5
    rows = np.zeros(n, dtype=bool)
    rows[drawn_at(inside, share, 100, rng)] = True
    members, others = pool[rows], pool[~rows]
    flags = known.x[:, 0] > 0.5
    held = rng.random(n) < 0.2
    recipe = Recipe(train, members, "shares")
    levels = np.resize(np.linspace(0.1, 0.9, 9), shadows)
    group = Group(
        name="the first value above 1/2",
        members=inside[rows],
        nonmembers=inside[~rows],
        public=flags,
        share=public,
        held=held,
        records=records,
        trials=trials,
        shadows=TrainedShadows(recipe.on(known[~held]), flags[~held], levels, records, seed),
    )
    world = World(
        open_victim=lambda: train(members, derive(seed, "victim")),
        spec=spec,
        members=members,
        nonmembers=others,
        public=known,
        recipe=recipe,
        group=group,
        seed=seed,
    )
    return replace(build(world), seed=seed)
