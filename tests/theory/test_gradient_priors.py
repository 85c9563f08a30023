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
from seepage.core.vocabulary import Access, Modality
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
    GGL(prior="pca", components=12, generations=120, population=12, divergence=1e-5),
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


def own(generator: Any, size: int, spec: InputSpec = SPEC) -> Shelf:
    prior: Prior = own_prior(generator, size, spec)
    return Shelf(own=prior)


class Folded(nn.Module):
    """A generator that is linear but for a fold: pictures of 12 numbers, the mean record in its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.draw = nn.Linear(12, 64)
        with torch.no_grad():
            self.draw.weight.copy_(torch.from_numpy(PRIOR.basis.T))
            self.draw.bias.copy_(torch.from_numpy(PRIOR.mean))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.draw(z).clamp(0, 1).reshape(-1, 1, 8, 8)


def test_gias_searches_the_weights_of_a_generator_of_ones_own_and_refuses_a_function() -> None:
    x = smooth_pictures(1, stream(9, "private"), 8)
    net = Folded()
    attack = GIAS(prior="own", steps=40, restarts=1, weight_steps=60, weight_rate=0.01)
    before = net.draw.weight.clone()
    found = run(attack, sent(x), knows(1, priors=own(net, 12)))
    latents = run(LatentMatching(prior="own", steps=40, restarts=1), sent(x), knows(1, priors=own(net, 12)))
    assert off(found.x, sent(x))[0] < off(latents.x, sent(x))[0]
    assert torch.equal(net.draw.weight, before)
    with pytest.raises(ConfigError, match="bring a torch module"):
        run(attack, sent(x), knows(1, priors=own(lambda z: net(z), 12)))


def test_weights_are_a_record_s_own_and_latents_stay() -> None:
    decode = PRIOR.decoder()
    tuned = Tuned(decode, PRIOR.size)
    z = torch.randn(2, 3, PRIOR.size, generator=torch.Generator().manual_seed(0))
    v = tuned.begin(z).requires_grad_(True)
    torch.testing.assert_close(tuned.records(v), Latents(decode, PRIOR.size).records(z))
    (slope,) = torch.autograd.grad(tuned.records(v)[0, 1].sum(), v)
    assert not slope[..., : PRIOR.size].any()
    assert slope[0, 1].any()
    assert not slope[1].any()
    assert not slope[0, [0, 2]].any()


def small_gan() -> GANPrior:
    torch.manual_seed(0)
    nets = Generator((1, 8, 8), size=6, width=4), Critic((1, 8, 8), 4, 0, normed=False)
    for net in nets:
        net.eval().requires_grad_(False)
    return GANPrior(SPEC, *nets, Components(torch.zeros(1, 64), torch.zeros(6, 64)))


class Branching(nn.Module):
    """A generator that looks at values, as no mapped one may."""

    def __init__(self) -> None:
        super().__init__()
        self.draw = nn.Linear(6, 64)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        drawn = torch.sigmoid(self.draw(z)).reshape(-1, 1, 8, 8)
        return drawn if float(z.detach().sum()) > 0 else drawn + 0


@pytest.mark.parametrize("make", [small_gan, lambda: own_prior(Branching(), 6, SPEC)], ids=["gan", "branching"])
def test_a_generator_draws_each_record_by_its_own_weights(make: Callable[[], Prior]) -> None:
    decode = make().decoder()
    assert isinstance(decode, Tunable)
    z = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    weights = {name: w.expand(3, *w.shape).clone() for name, w in decode.weights.items()}
    torch.testing.assert_close(decode.drawn(weights, z), decode(z))
    for weight in weights.values():
        weight[1] += 0.1
    changed = decode.drawn(weights, z)
    torch.testing.assert_close(changed[[0, 2]], decode(z)[[0, 2]])
    assert float((changed[1] - decode(z)[1]).abs().max()) > 1e-3


def nearest_in_the_ball(x: np.ndarray, radius: float) -> np.ndarray:
    """The projection onto an l1 ball by bisection of its one threshold."""
    if np.abs(x).sum() <= radius:
        return x
    low, high = 0.0, float(np.abs(x).max())
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(np.abs(x) - middle, 0).sum() > radius else (low, middle)
    return np.sign(x) * np.maximum(np.abs(x) - low, 0)


def test_features_are_held_in_the_balls_around_where_they_came_from() -> None:
    draws = torch.Generator().manual_seed(0)
    centre = torch.randn(3, 2, 4, 2, 2, generator=draws)
    features = Features(lambda h: h, centre, 1.5)
    v = centre + 0.4 * torch.randn(3, 2, 4, 2, 2, generator=draws)
    v[0, 0] = centre[0, 0] + 0.01
    held = (features.inside(v) - centre).reshape(6, -1).double().numpy()
    wanted = [nearest_in_the_ball(row, 1.5) for row in (v - centre).reshape(6, -1).double().numpy()]
    np.testing.assert_allclose(held, np.stack(wanted), atol=1e-5)
    assert np.abs(held).sum(axis=1).max() <= 1.5 + 1e-4
    torch.testing.assert_close(features.inside(v)[0, 0], v[0, 0])


@pytest.mark.parametrize("rate", [0.02, 50.0])
def test_gifd_is_never_farther_than_where_it_started(rate: float) -> None:
    """At a rate that leaves the record behind the latents' result is what is kept."""
    x = smooth_pictures(2, stream(9, "private"), 8)
    latents = run(LatentMatching(components=12, steps=30, restarts=2), sent(x), knows(2))
    attack = GIFD(prior="pca", components=12, steps=30, restarts=2, stage_steps=8, stage_rate=rate, radius=1e3)
    found = run(attack, sent(x), knows(2))
    assert latents.confidence is not None
    assert found.confidence is not None
    # The starts are drawn after the features' scale, and so are others: the bound is the search's own first part.
    alone = run(attack.model_copy(update={"stage_steps": 1, "stage_rate": 1e-12}), sent(x), knows(2))
    assert alone.confidence is not None
    assert (found.confidence >= alone.confidence - 1e-6).all()
    if rate > 1:
        assert found.facts["kept_after_latents"] == 0
        np.testing.assert_allclose(found.x, alone.x, atol=1e-5)


@pytest.mark.parametrize("defense", [Sign(), Quantise(format="int4"), TopKUpdate(keep=0.1), Clip(norm=0.1)], ids=str)
def test_what_a_defense_does_is_done_to_simulated_updates(defense: Defense) -> None:
    x = drawable(2)
    bare, behind = sent(x), sent(x, defense)
    done = applied([defense], behind.clients, NAMES, scale=-2.0)

    def flat(updates: Updates) -> torch.Tensor:
        rows = [np.concatenate([u.tensors[name].reshape(-1) for name in NAMES]) for u in updates.clients]
        return -2.0 * torch.from_numpy(np.stack(rows)).double()

    found, wanted = done(flat(bare), flat(behind), torch.arange(2))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)


def test_noise_is_not_done_and_nothing_is_taken_off_a_sum() -> None:
    updates = sent(drawable(2))
    noisy = applied([GaussianNoise(clip=0.1), Sign()], updates.clients, NAMES)
    assert [step if isinstance(step, tuple) else step.name for step in noisy.steps] == [(0.1, 2), "sign"]
    chance = applied([Quantise(format="int4", stochastic=True)], updates.clients, NAMES)
    assert chance.steps == ()
    assert applied([TopKUpdate(keep=0.1), SecureAggregation()], updates.clients, NAMES).steps == ()


def test_ggl_finds_latents_behind_signs() -> None:
    """Signs have no slope; a search without slopes finds what made them."""
    x = drawable(1)
    found = run(SEARCHES[2], sent(x, Sign()), knows(1, (Sign(),)))
    assert decibels(found.x, x).min() > 22
    assert any("'sign'" in note for note in found.notes)
    unaware = run(SEARCHES[2], sent(x, Sign()), knows(1))
    assert decibels(found.x, x).min() > decibels(unaware.x, x).max() + 3


def test_evolution_finds_the_minimum_of_every_row_and_no_row_moves_another() -> None:
    lowest = torch.tensor([[0.3, -0.5, 0.2], [-0.1, 0.4, 0.6]])
    bends = torch.tensor([1.0, 4.0, 9.0])

    def ask(v: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return ((v - lowest[rows]).pow(2) * bends).sum(1)

    def search(at_once: int) -> Evolution:
        return Evolution(60, 8, 0.5, False, stream(0, "evolution"), at_once)

    both = search(1024)(torch.zeros(2, 3), ask, lambda v: v)
    torch.testing.assert_close(both.v, lowest, rtol=0, atol=1e-2)
    alone = search(5)(torch.zeros(1, 3), ask, lambda v: v)
    torch.testing.assert_close(alone.v[0], both.v[0], rtol=0, atol=1e-6)
    assert bool((both.cost[1:] <= both.cost[:-1]).all())
    single = search(1024)(torch.zeros(1, 1), lambda v, rows: (v[:, 0] - 0.4).pow(2), lambda v: v)
    assert float(single.v[0, 0]) == pytest.approx(0.4, abs=1e-2)


def test_the_divergence_is_that_of_two_normal_distributions() -> None:
    numbers = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 + 0.5
    found = normal(1.0)(numbers, numbers, torch.arange(2))
    standard = torch.distributions.Normal(0.0, 1.0)
    fitted = torch.distributions.Normal(numbers.mean(dim=2), numbers.std(dim=2, unbiased=False))
    torch.testing.assert_close(found, torch.distributions.kl_divergence(fitted, standard).sum(dim=1))


def test_double_precision_goes_through_a_prior_too() -> None:
    x = drawable(1)
    found = run(LatentMatching(components=12, steps=40, restarts=1, precision="double"), sent(x), knows(1))
    assert decibels(found.x, x).min() > 25


def test_what_to_expect_is_said_beforehand() -> None:
    update = sent(drawable(1)).clients[0]
    for attack in SEARCHES:
        outlook = attack.outlook(knows(1), update)
        assert outlook is not None
        assert outlook.prospect == "possible"
        assert "200 public records" in outlook.why
        assert outlook.seconds is not None
    bare = GradientKnowledge(spec=SPEC, net=NET, classes=CLASSES, clients=1)
    assert "public records" in str(GIAS().obstacle(bare, None))
    table = GradientKnowledge(
        public=PUBLIC, spec=InputSpec((5,), modality=Modality.TABLE), net=NET, classes=CLASSES, clients=1
    )
    assert "take prior = 'pca'" in str(GIFD().obstacle(table, None))
    assert GIFD(prior="pca").obstacle(table, None) is None
