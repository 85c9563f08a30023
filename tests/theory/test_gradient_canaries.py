"""Gradient canaries in DP-SGD: they move by what theory says, sound training is not called broken, broken is."""

import numpy as np
import pytest
import torch

from seepage.core.canaries import Canaries, Claim
from seepage.core.errors import ConfigError
from seepage.core.guess import Scores
from seepage.core.record import Finding
from seepage.core.records import Records
from seepage.core.scorer import Controls
from seepage.core.secrets import CanarySecret
from seepage.models import nets
from seepage.models.accounting import gaussian_epsilon
from seepage.models.gradient_canaries import LENGTH, WithCanaries, losses, with_entries
from seepage.models.private import PerRecord
from seepage.scoring.canaries import score
from seepage.scoring.claims import epsilon_verdict

pytest.importorskip("opacus", reason="Opacus, the extra [dp], is not installed")

from seepage.models.private_training import (
    accounted_epsilon,
    fit_dp_softmax,
    guaranteed,
    multiplier_for,
    train_privately,
)

DELTA = 1e-5


def records(n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.random((n, 1, 4, 4)).astype(np.float32)), torch.from_numpy(rng.integers(3, size=n))


def trained(coins: np.ndarray, noise: float, steps: int, sampled: float = 1.0, seed: int = 0) -> np.ndarray:
    """What the canaries' weights have become."""
    x, y = records()
    net = WithCanaries(nets.softmax_regression((1, 4, 4), 3), len(coins))
    x, y, which = with_entries(x, y, coins.tolist())
    private = PerRecord(1.0, noise)
    train_privately(net, x, y, seed, private=private, sampled=sampled, steps=steps, rate=1.0, which=which)
    return net.gradient_canaries.weight[0].detach().double().numpy() * len(x) * sampled


def coins_of(m: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(m) < 0.5


def test_without_noise_an_included_canary_moves_by_the_clip_a_step_and_no_other_moves() -> None:
    coins = coins_of(40)
    moved = trained(coins, 0.0, steps=3)
    np.testing.assert_allclose(moved[coins], 3.0, rtol=1e-3)
    np.testing.assert_allclose(moved[~coins], 0.0, atol=1e-6)


def test_with_noise_they_are_as_far_apart_as_a_gaussian_mechanism_s() -> None:
    """T steps of noise sigma: mu = sqrt(T) / sigma, whatever else is trained on."""
    coins = coins_of(2000)
    moved = trained(coins, 4.0, steps=9)
    spread = moved[~coins].std()
    assert spread == pytest.approx(4.0 * 3, rel=0.06)
    mu = (moved[coins].mean() - moved[~coins].mean()) / spread
    # Four standard errors of a difference of means.
    assert mu == pytest.approx(3 / 4, abs=4 * 2 / np.sqrt(2000))


def test_canaries_do_not_move_the_model_nor_the_model_them() -> None:
    x, y = records(20)
    net = WithCanaries(nets.softmax_regression((1, 4, 4), 3), 5)
    which = torch.tensor([-1] * 15 + [0, 1, 2, 3, 4])
    losses(net(x, which), y, which)[:15].sum().backward()
    assert float(net.gradient_canaries.weight.grad.abs().max()) == 0
    net.zero_grad()
    losses(net(x, which), y, which)[15:].sum().backward()
    assert all(float(weight.grad.abs().max()) == 0 for weight in net.net.parameters())
    np.testing.assert_allclose(net.gradient_canaries.weight.grad[0].numpy(), -LENGTH)
    torch.testing.assert_close(net(x), net.net(x))


def finding(values: np.ndarray, coins: np.ndarray, claim: Claim | None, seed: int = 0, name: str = "a") -> Finding:
    blank = Records(np.zeros((len(coins), 1), np.float32), np.zeros(len(coins), np.int64), ("a", "b"))
    Canaries(blank, coins, "gradient", seed)
    found = score(Scores(values), CanarySecret(is_member=coins, candidates=blank, claim=claim, seed=seed), Controls())
    known = {"title": name, "version": 1, "cites": [], "params": {}, "needs": [], "access": [], "budget": None}
    known |= {"queries": 0, "seconds": 0.0, "seed": 0, "victim": "v", "defenses": [], "adversary": "adaptive"}
    return Finding(
        id=name,
        key=name,
        leak="membership",
        attack=name,
        case="canaries",
        status="done",
        headline=found.headline,
        scores=dict(found.scores),
        facts={**found.facts, "canaries": float(len(coins)), "canaries_included": float(coins.sum())},
        **known,
    )


def ruled(values: np.ndarray, coins: np.ndarray, claim: Claim, seed: int = 0):
    told = epsilon_verdict([finding(values, coins, claim, seed)], claim)
    assert told is not None
    return told


def test_noise_that_was_forgotten_is_called_and_noise_that_was_not_is_not() -> None:
    claim = Claim(2.0, DELTA, "gaussian")
    noise = multiplier_for(2.0, DELTA, 0.25, 40)
    coins = coins_of(600, 1)
    sound = ruled(trained(coins, noise, 40, 0.25), coins, claim)
    broken = ruled(trained(coins, 0.0, 40, 0.25), coins, claim)
    assert (sound.standing, broken.standing) == ("consistent", "violated")
    # Without supposing a Gaussian mechanism either.
    assert ruled(trained(coins, 0.0, 40, 0.25), coins, Claim(2.0, DELTA)).standing == "violated"


@pytest.mark.slow
def test_a_claim_that_holds_is_called_violated_in_five_of_a_hundred_audits_at_the_most() -> None:
    """Four attacks on a mechanism whose epsilon is just what is claimed, 200 audits: the correction holds."""
    rng, mu, wrong = np.random.default_rng(5), 1.0, 0
    truth = gaussian_epsilon(1 / mu, DELTA)
    assert truth is not None
    claim = Claim(truth, DELTA, "gaussian")
    for audit in range(200):
        coins = rng.random(80) < 0.5
        seen = rng.normal(size=80) + mu * coins
        attacks = [finding(seen + 0.5 * rng.normal(size=80), coins, claim, audit, f"a{k}") for k in range(3)]
        told = epsilon_verdict([finding(seen, coins, claim, audit), *attacks], claim)
        assert told is not None
        wrong += told.standing == "violated"
    # At 5 % of 200, more than 18 come about once in 200 times.
    assert wrong <= 18


def test_of_null_canaries_a_claim_of_nothing_is_rarely_violated() -> None:
    """Scores that know nothing of the coins against a claim of epsilon 0, in either family."""
    for family in ("any", "gaussian"):
        rng, wrong = np.random.default_rng(6), 0
        for audit in range(100):
            coins = rng.random(40) < 0.5
            wrong += ruled(rng.normal(size=40), coins, Claim(0.0, DELTA, family), audit).standing == "violated"
        # At 5 % of 100, more than 11 come about once in 250 times.
        assert wrong <= 11


def test_the_accountant_s_epsilon_is_that_of_the_recipe_s_noise() -> None:
    noise = multiplier_for(4.0, DELTA, 0.2, 100)
    assert accounted_epsilon(noise, DELTA, 0.2, 100) == pytest.approx(4.0, abs=0.02)
    assert guaranteed(1000, {"epsilon": 3.0, "delta": 1e-6}) == (3.0, 1e-6)
    told, delta = guaranteed(1000, {"noise": noise, "batch": 200, "epochs": 20})
    assert (told, delta) == (pytest.approx(4.0, abs=0.02), DELTA)
    with pytest.raises(ConfigError, match="without noise"):
        guaranteed(1000, {"noise": 0.0})


def test_the_recipe_is_deterministic_under_its_seed_and_learns() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=300)
    x = np.clip(0.5 + 0.3 * (np.arange(6) % 3 == y[:, None]) + 0.1 * rng.normal(size=(300, 6)), 0, 1).astype(np.float32)
    first, again, other = (fit_dp_softmax(x, y, seed, epsilon=8.0, batch=100) for seed in (1, 1, 2))
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    said = first(torch.from_numpy(x)).argmax(1).numpy()
    assert (said == y).mean() > 0.8


def test_an_empty_step_still_sends_its_noise() -> None:
    x, y = records(5)
    net = nets.softmax_regression((1, 4, 4), 3)
    before = [weight.clone() for weight in net.parameters()]
    train_privately(net, x, y, 0, private=PerRecord(1.0, 1.0), sampled=1e-9, steps=1, rate=1.0)
    assert all(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
