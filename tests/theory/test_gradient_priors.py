"""Searches within a prior: what it can draw is found, what it cannot is reached by its weights or its features."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from seepage.attacks.gradient.coordinates import Features, Latents, Tuned
from seepage.attacks.gradient.evolution import Evolution
from seepage.attacks.gradient.fang2023 import GIFD
from seepage.attacks.gradient.gradients import gradients_of
from seepage.attacks.gradient.jeon2021 import GIAS
from seepage.attacks.gradient.latents import normal
from seepage.attacks.gradient.li2022 import LatentMatching
from seepage.attacks.gradient.li2022_ggl import GGL
from seepage.attacks.gradient.objectives import cosine
from seepage.attacks.gradient.through import applied
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.attack import GradientAttack
from seepage.core.defense import Defense
from seepage.core.errors import ConfigError
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge
from seepage.core.records import Records
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Updates
from seepage.core.vocabulary import Access
from seepage.defenses.updates.clip import Clip
from seepage.defenses.updates.gaussian import GaussianNoise
from seepage.defenses.updates.quantise import Quantise
from seepage.defenses.updates.secure_aggregation import SecureAggregation
from seepage.defenses.updates.sign import Sign
from seepage.defenses.updates.topk import TopKUpdate
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining
from seepage.models.priors import PCAPrior, Prior, Shelf, Tunable, own_prior
from seepage.models.priors.gan import GANPrior
from seepage.models.priors.gan_nets import Critic, Generator
from seepage.models.priors.gan_training import Components
from seepage.testing.cases import smooth_pictures

SPEC, CLASSES = InputSpec((1, 8, 8)), 4
NET = ClientNet(client_net("lenet-zhu", SPEC.shape, CLASSES, 0), SPEC, CLASSES)
NAMES = list(NET.weights())
PUBLIC = Records(smooth_pictures(200, stream(5, "public"), 8))
PRIOR = PCAPrior.fit(PUBLIC.x, SPEC, components=12)


def drawable(n: int) -> np.ndarray:
    return PRIOR.sample(n, stream(0, "records"), limit=1.0)


def sent(x: np.ndarray, defense: Defense | None = None) -> Updates:
    local = LocalTraining(mode="eval")
    clients = [NET.round(x[k : k + 1], np.array([k % CLASSES]), local, stream(0, "r")) for k in range(len(x))]
    updates = Updates(tuple(clients))
    if defense is None:
        return updates
    behind = defense.on_victim(updates, stream(0, "defense"))
    assert isinstance(behind, Updates)
    return behind


def knows(clients: int, defenses: tuple[Defense, ...] = (), priors: Shelf | None = None) -> GradientKnowledge:
    labels = np.arange(clients)[:, None] % CLASSES
    ladder = Assumptions(
        **{name: Rung.known(value) for name, value in {"batch": 1, "mode": "eval", "labels": labels}.items()}
    )
    return GradientKnowledge(
        public=PUBLIC,
        spec=SPEC,
        net=NET,
        classes=CLASSES,
        clients=clients,
        assumptions=ladder,
        defenses=defenses,
        priors=priors,
    )


def run(attack: GradientAttack, updates: Updates, knowledge: GradientKnowledge) -> Reconstruction:
    assert attack.obstacle(knowledge, None) is None
    return attack.run(Target(updates, {Access.UPDATES}), knowledge, stream(0, "attack"))


def decibels(x: np.ndarray, truth: np.ndarray) -> np.ndarray:
    error = ((x.astype(float) - truth) ** 2).reshape(len(x), -1).mean(axis=1)
    return -10 * np.log10(np.maximum(error, 1e-20))


def off(x: np.ndarray, updates: Updates) -> np.ndarray:
    """One minus the cosine between the updates of records, one a client, and those sent."""
    soft = torch.nn.functional.one_hot(torch.arange(len(x)) % CLASSES, CLASSES).float()[:, None]
    made = gradients_of(NET, "eval")(NET.prepare(torch.from_numpy(x))[:, None].requires_grad_(True), soft).detach()
    wanted = [np.concatenate([u.tensors[name].reshape(-1) for name in NAMES]) for u in updates.clients]
    return cosine(made, torch.from_numpy(np.stack(wanted)).float()).numpy()


SEARCHES = [
    GIAS(prior="pca", components=12, steps=60, restarts=2, weight_steps=10),
    GIFD(prior="pca", components=12, steps=60, restarts=2, stage_steps=10),
    GGL(prior="pca", components=12, generations=120, population=12),
]


@pytest.mark.parametrize("attack", SEARCHES, ids=lambda a: a.name)
def test_a_record_that_the_prior_can_draw_is_found(attack: GradientAttack) -> None:
    x = drawable(2)
    found = run(attack, sent(x), knows(2))
    assert decibels(found.x, x).min() > 27
    assert found.facts["prior_kind"] == "pca"
    # The update of another record does not give this one.
    assert decibels(run(attack, sent(x[::-1].copy()), knows(2)).x, x).max() < 25


@pytest.mark.parametrize(
    "attack",
    [
        GIAS(prior="pca", components=12, steps=60, restarts=2, weight_steps=150, weight_rate=0.01, tv=0),
        GIFD(prior="pca", components=12, steps=60, restarts=2, stage_steps=150, tv=0),
    ],
    ids=lambda a: a.name,
)
def test_beyond_its_range_weights_and_features_come_nearer_than_latents(attack: GradientAttack) -> None:
    x = smooth_pictures(2, stream(9, "private"), 8) * 0.7 + 0.3 * stream(1, "rough").random((2, 1, 8, 8))
    x = x.astype(np.float32)
    latents = run(LatentMatching(components=12, steps=60, restarts=2), sent(x), knows(2))
    further = run(attack, sent(x), knows(2))
    assert decibels(further.x, x).min() > decibels(latents.x, x).min() + 2
    assert (off(further.x, sent(x)) < 0.5 * off(latents.x, sent(x))).all()
    assert further.facts["kept_after_latents"] == 1
