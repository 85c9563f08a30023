"""DP-SGD in the client: the gradient that Opacus would send, the noise that was declared, the epsilon it buys."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import norm

from seepage.core.case import Case
from seepage.core.errors import ConfigError, ModelError
from seepage.core.records import Records
from seepage.core.spec import InputSpec
from seepage.core.victim import Updates
from seepage.defenses.training.dp_sgd import DPSGD
from seepage.models.accounting import (
    gaussian_delta,
    gaussian_epsilon,
    gaussian_multiplier,
    laplace_epsilon,
    stated,
)
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining, round_recipe
from seepage.models.private import PerRecord, clipped_gradients, private_gradient
from seepage.testing.cases import gradient_case, inversion_case

SPEC = InputSpec((1, 8, 8), mean=(0.4,), std=(0.3,))


def _net(name: str = "relu-cnn", **options: int) -> ClientNet:
    return ClientNet(client_net(name, SPEC.shape, 4, 3, **options), SPEC, 4)


def _records(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(20)
    return torch.from_numpy(rng.random((n, *SPEC.shape)).astype(np.float32)), torch.from_numpy(rng.integers(4, size=n))


def _loss(net: ClientNet):
    return lambda x, y, weights: net.loss(x, y, weights)


def _opacus(net: ClientNet, x: torch.Tensor, y: torch.Tensor, clip: float, noise: float, seed: int):
    """p.grad after `optimizer.pre_step()`: what a client trained with Opacus goes along."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opacus = pytest.importorskip("opacus", reason="Opacus, the extra [dp], is not installed")
        from opacus.optimizers import DPOptimizer

        module = opacus.GradSampleModule(net.module.train())
        optimiser = DPOptimizer(
            torch.optim.SGD(module.parameters(), lr=1.0),
            noise_multiplier=noise,
            max_grad_norm=clip,
            expected_batch_size=len(x),
            generator=torch.Generator().manual_seed(seed),
        )
        torch.nn.functional.cross_entropy(module(net.prepare(x)), y).backward()
        assert optimiser.pre_step()
        return {name.removeprefix("_module."): p.grad for name, p in module.named_parameters()}


@pytest.mark.parametrize("name", ["relu-cnn", "relu-mlp"])
@pytest.mark.parametrize("clip", [0.05, 100.0])
def test_the_clipped_gradient_is_that_of_opacus(name, clip) -> None:
    net, (x, y) = _net(name), _records(6)
    theirs = _opacus(net, x, y, clip, 0.0, 0)
    ours = private_gradient(_loss(net), x, y, net.weights(), PerRecord(clip, 0.0), 6, torch.Generator())
    assert set(ours) == set(theirs)
    for tensor in ours:
        torch.testing.assert_close(ours[tensor], theirs[tensor], rtol=1e-4, atol=1e-7)


def test_the_noise_is_that_of_opacus() -> None:
    """Its deviation, over many weights, is multiplier times clip over the batch, in theirs and in ours."""
    net, (x, y) = _net("relu-mlp"), _records(4)
    clean = private_gradient(_loss(net), x, y, net.weights(), PerRecord(0.5, 0.0), 4, torch.Generator())
    theirs = _opacus(net, x, y, 0.5, 2.0, 1)
    ours = private_gradient(_loss(net), x, y, net.weights(), PerRecord(0.5, 2.0), 4, torch.Generator().manual_seed(1))
    for found in (theirs, ours):
        drawn = torch.cat([(found[t] - clean[t]).reshape(-1) for t in clean])
        assert float(drawn.std()) == pytest.approx(2.0 * 0.5 / 4, rel=0.02)
        assert abs(float(drawn.mean())) < 0.01


def test_with_a_wide_clip_and_no_noise_it_is_the_plain_gradient() -> None:
    net, (x, y) = _net(), _records(5)
    plain = net.gradient(x, y)
    found = private_gradient(_loss(net), x, y, net.weights(), PerRecord(1e6, 0.0), 5, torch.Generator())
    for tensor in plain:
        torch.testing.assert_close(found[tensor], plain[tensor], rtol=1e-4, atol=1e-6)


def test_no_record_moves_the_sum_by_more_than_the_clip() -> None:
    net, (x, y) = _net(), _records(5)
    for left in range(5):
        rest = [row for row in range(5) if row != left]
        whole = clipped_gradients(_loss(net), x, y, net.weights(), 0.3)
        without = clipped_gradients(_loss(net), x[rest], y[rest], net.weights(), 0.3)
        moved = torch.cat([(whole[t] - without[t]).reshape(-1) for t in whole])
        assert float(moved.norm()) <= 0.3 * (1 + 1e-4)


def test_batch_normalisation_is_refused_with_what_to_do() -> None:
    spec = InputSpec((1, 8, 8))
    net = ClientNet(client_net("cnn", spec.shape, 4, 3), spec, 4)
    x, y = _records(4)
    with pytest.raises(ModelError, match="GroupNorm"):
        net.round(x.numpy(), y.numpy(), LocalTraining(private=PerRecord(1.0, 1.0)), np.random.default_rng(0))


def test_local_steps_are_each_clipped_and_noised() -> None:
    """Two epochs of two steps of size b: the change of weights has the variance of four draws."""
    net, (x, y) = _net("relu-mlp"), _records(4)
    local = LocalTraining("delta", batch=2, epochs=2, rate=0.1, private=PerRecord(1e-6, 1e6))
    sent = net.round(x.numpy(), y.numpy(), local, np.random.default_rng(1))
    drawn = np.concatenate([t.reshape(-1) for t in sent.tensors.values()])
    assert drawn.std() == pytest.approx(0.1 * (1e-6 * 1e6 / 2) * math.sqrt(4), rel=0.02)


def test_a_smaller_last_batch_is_divided_by_the_size_of_a_whole_one() -> None:
    """Else its record would count twice, and so would the noise: what is divided by must not tell who is there."""
    net, (x, y) = _net("relu-mlp"), _records(3)
    local = LocalTraining("delta", batch=2, rate=0.1, private=PerRecord(1e-6, 1e6))
    sent = net.round(x.numpy(), y.numpy(), local, np.random.default_rng(1))
    drawn = np.concatenate([t.reshape(-1) for t in sent.tensors.values()])
    assert drawn.std() == pytest.approx(0.1 * (1 / 2) * math.sqrt(2), rel=0.02)


def _case(local: LocalTraining) -> Case:
    return gradient_case(0, local=local)


def test_the_defense_remakes_the_updates_of_victim_and_twin() -> None:
    bare = _case(LocalTraining())
    case = bare.defended(DPSGD(clip=1.0, multiplier=0.5))
    for before, after in ((bare.victim, case.victim), (bare.null, case.null)):
        assert isinstance(before, Updates)
        assert isinstance(after, Updates)
        assert len(before) == len(after)
        for one, two in zip(before.clients, after.clients, strict=True):
            assert all(np.abs(two.tensors[name] - tensor).max() > 0 for name, tensor in one.tensors.items())
    assert case.knowledge.defenses == (DPSGD(clip=1.0, multiplier=0.5),)


def test_clients_draw_noise_of_their_own() -> None:
    x, y = _records(2)
    twice = Records(np.concatenate([x.numpy(), x.numpy()]), np.concatenate([y.numpy(), y.numpy()]), tuple("abcd"))
    recipe = DPSGD().on_recipe(round_recipe(_net("relu-mlp"), LocalTraining(), twice, 2))
    sent = recipe.fit(np.arange(4), 0)
    assert isinstance(sent, Updates)
    one, two = (np.concatenate([t.reshape(-1) for t in u.tensors.values()]) for u in sent.clients)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.5
    assert (one != two).all()


def test_its_epsilon_counts_rounds_and_local_epochs() -> None:
    delta = LocalTraining("delta", batch=1, epochs=3, rate=0.1)
    facts = _case(delta).defended(DPSGD(multiplier=2.0, rounds=4)).facts
    assert facts["dp_epsilon"] == pytest.approx(gaussian_epsilon(2.0, 1e-5, 12))
    assert facts["dp_local_epochs"] == 3
    once = _case(LocalTraining()).defended(DPSGD(multiplier=2.0, rounds=4)).facts
    assert once["dp_epsilon"] == pytest.approx(gaussian_epsilon(2.0, 1e-5, 4))


def test_a_trainer_that_takes_no_such_keyword_is_named() -> None:
    with pytest.raises(ConfigError, match="'private', which its trainer does not take"):
        inversion_case(0).defended(DPSGD())


# The accountants


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0, 6.0])
def test_delta_is_that_of_the_closed_form(mu, epsilon) -> None:
    """Balle and Wang 2018, theorem 8, computed as it is written."""
    wanted = norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
    assert gaussian_delta(epsilon, mu) == pytest.approx(wanted, rel=1e-6, abs=1e-15)


def test_delta_at_zero_epsilon_is_the_total_variation() -> None:
    assert gaussian_delta(0.0, 1.0) == pytest.approx(2 * norm.cdf(0.5) - 1)


@pytest.mark.parametrize(("multiplier", "rounds"), [(1.0, 1), (2.0, 10), (8.0, 50), (0.7, 3)])
def test_epsilon_and_multiplier_are_each_other_s_inverse(multiplier, rounds) -> None:
    epsilon = gaussian_epsilon(multiplier, 1e-5, rounds)
    assert epsilon is not None
    assert gaussian_multiplier(epsilon, 1e-5, rounds) == pytest.approx(multiplier, rel=1e-6)


def test_rounds_compose_as_the_square_root() -> None:
    assert gaussian_epsilon(1.0, 1e-5) == pytest.approx(gaussian_epsilon(4.0, 1e-5, 16))
    assert gaussian_epsilon(2.0, 1e-5, sensitivity=2.0) == pytest.approx(gaussian_epsilon(1.0, 1e-5))


@pytest.mark.parametrize(("multiplier", "rounds"), [(1.0, 1), (3.0, 20)])
def test_epsilon_lies_just_below_the_bounds_of_opacus(multiplier, rounds) -> None:
    """Opacus' accountants give upper bounds: Renyi's is looser, the numerical one is near."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        accountants = pytest.importorskip("opacus", reason="Opacus, the extra [dp], is not installed").accountants
        bounds = {}
        for name in ("rdp", "prv"):
            accountant = accountants.create_accountant(name)
            for _ in range(rounds):
                accountant.step(noise_multiplier=multiplier, sample_rate=1.0)
            bounds[name] = accountant.get_epsilon(delta=1e-5)
    exact = gaussian_epsilon(multiplier, 1e-5, rounds)
    assert exact is not None
    assert exact <= bounds["rdp"]
    assert bounds["prv"] == pytest.approx(exact, abs=0.05)


def test_laplace_composes_linearly() -> None:
    assert laplace_epsilon(2.0, 1, 1.0) == 0.5
    assert laplace_epsilon(0.5, 7) == pytest.approx(28.0)


def test_no_noise_is_no_guarantee() -> None:
    assert gaussian_epsilon(0.0, 1e-5) is None
    assert gaussian_epsilon(1e-4, 1e-5) is None
    assert laplace_epsilon(0.0) is None
    assert laplace_epsilon(1e-5) is None
    assert "guarantees nothing" in str(stated(None, 1e-5, 1, "client")["dp_epsilon_missing"])
    with pytest.raises(ConfigError, match="a delta"):
        gaussian_epsilon(1.0, 0.0)
    with pytest.raises(ConfigError, match="an epsilon above 0"):
        gaussian_multiplier(0.0, 1e-5)
    with pytest.raises(ConfigError, match="clip above 0"):
        PerRecord(0.0, 1.0)
