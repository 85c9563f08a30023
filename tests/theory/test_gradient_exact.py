"""Exact batches from one gradient: SPEAR against batches that the tests hold, and its parts against closed forms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from seepage.attacks.gradient.dimitrov2024 import Spear
from seepage.attacks.gradient.entry import entry, rectified
from seepage.attacks.gradient.low_rank import factorise, numerical_rank
from seepage.attacks.gradient.row_sets import TESTED, candidates, unseen
from seepage.attacks.gradient.solving import Layer, Solution, solve
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.errors import DataError
from seepage.core.knowledge import GradientKnowledge
from seepage.core.scorer import Controls
from seepage.core.secrets import GradientSecret
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Update, Updates
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining
from seepage.models.training import seeded
from seepage.scoring.gradient import score
from seepage.testing.cases import gradient_case, smooth_pictures

Array = np.ndarray
SPEC = InputSpec((1, 12, 12))


def _net(hidden: int = 200, classes: int = 5, seed: int = 0, activation: type[nn.Module] = nn.ReLU) -> ClientNet:
    with seeded(seed):
        made = nn.Sequential(nn.Flatten(), nn.Linear(144, hidden), activation(), nn.Linear(hidden, classes))
    return ClientNet(made, SPEC, classes)


def _sent(
    net: ClientNet, batch: int, seed: int, dtype: torch.dtype = torch.float64, local: LocalTraining | None = None
) -> tuple[Array, Update]:
    rng = np.random.default_rng(seed)
    x = smooth_pictures(batch, rng, 12)
    return x, net.round(x, rng.integers(net.classes, size=batch), local or LocalTraining(), rng, dtype)


def _solved(net: ClientNet, update: Update, batch: int | None) -> tuple[Solution, Array]:
    first = entry(net)
    assert first is not None
    found = solve(Layer.read(net, first, update), batch, 20_000, np.random.default_rng(0))
    return found, first.records(found.inputs, SPEC.shape)


def _worst(found: Array, x: Array) -> float:
    """The least PSNR (dB) over the records, each against the reconstruction nearest to it."""
    apart = ((found[:, None].astype(float) - x[None]) ** 2).reshape(len(found), len(x), -1).mean(axis=2)
    return float(-10 * np.log10(apart.min(axis=0).max() + 1e-40))


@pytest.mark.parametrize(("batch", "classes"), [(1, 5), (2, 5), (3, 2), (5, 5), (8, 2), (8, 5), (12, 10)])
def test_a_batch_is_recovered_exactly(batch: int, classes: int) -> None:
    net = _net(classes=classes, seed=batch)
    x, update = _sent(net, batch, batch)
    found, records = _solved(net, update, None)
    assert found.rank == batch
    assert found.agreement.min() == 1
    assert _worst(records, x) > 200


def test_single_precision_costs_no_more_than_its_own_digits() -> None:
    net = _net()
    x, update = _sent(net, 8, 1, torch.float32)
    assert update.tensors["1.weight"].dtype == np.float32
    assert _worst(_solved(net, update, 8)[1], x) > 110


def test_one_local_step_is_a_gradient_at_an_unknown_rate() -> None:
    net = _net()
    x, update = _sent(net, 4, 2, local=LocalTraining(kind="delta", rate=0.37))
    assert _worst(_solved(net, update, 4)[1], x) > 200


@pytest.mark.parametrize("noise", [1e-3, 0.01])
def test_noise_far_below_the_signal_does_not_stop_it_and_rules_no_more_than_it_must(noise: float) -> None:
    net = _net(hidden=400)
    x, update = _sent(net, 4, 3)
    rng = np.random.default_rng(0)
    noisy = {k: g + noise * g.std() * rng.normal(size=g.shape) for k, g in update.tensors.items()}
    worst = _worst(_solved(net, Update(noisy), 4)[1], x)
    assert -20 * np.log10(noise) - 30 < worst < -20 * np.log10(noise) + 40


def test_a_record_sent_twice_is_found_once() -> None:
    net, rng = _net(), np.random.default_rng(4)
    x = smooth_pictures(5, rng, 12)
    x[4] = x[0]
    update = net.round(x, rng.integers(5, size=5), LocalTraining(), rng, torch.float64)
    found, records = _solved(net, update, 5)
    assert found.rank == 4
    assert _worst(records, x) > 200


def test_a_missing_direction_is_closed_by_the_record_that_it_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """All directions but one determine the last record; the neurons that it leaves off then give its direction."""
    import seepage.attacks.gradient.solving as module

    class Forgetful(module.Search):
        def run(self, samples: int, rng: np.random.Generator) -> None:
            super().run(samples, rng)
            assert self.complete
            self.found.pop(2)
            self.zeros.pop(2)

    monkeypatch.setattr(module, "Search", Forgetful)
    net = _net()
    x, update = _sent(net, 5, 5)
    found, records = _solved(net, update, 5)
    assert (found.found, found.rank) == (5, 5)
    assert found.agreement.min() == 1
    assert _worst(records, x) > 200


# --- its parts


def test_the_rank_is_cut_where_singular_values_fall_to_rounding() -> None:
    falling = np.array([4.0, 1.0, 0.05, 3e-15, 2e-15, 1e-15])
    assert numerical_rank(falling, (100, 80), 2.2e-16) == 3
    assert numerical_rank(np.array([4.0, 1.0, 0.05, 2e-7, 1e-7]), (100, 80), 1.2e-7) == 3
    assert numerical_rank(np.zeros(4), (100, 80), 2.2e-16) == 0
    assert numerical_rank(np.array([3.0, 2.0, 1.0]), (3, 3), 2.2e-16) == 3


def test_factors_give_the_gradient_back_without_its_dead_rows() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(size=(60, 3))
    d[10:20] = 0
    factors = factorise(d @ rng.normal(size=(3, 90)))
    assert factors.rank == 3
    assert factors.live.tolist() == [*range(10), *range(20, 60)]
    np.testing.assert_allclose(factors.left.T @ factors.left, np.eye(3), atol=1e-12)
    assert factors.noise < 1e-14


def test_noise_is_measured_by_what_the_rank_does_not_explain() -> None:
    rng = np.random.default_rng(0)
    g = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 200)) + 1e-3 * rng.normal(size=(300, 200))
    assert factorise(g, 4).noise == pytest.approx(1e-3, rel=0.02)


def _sparse(m: int, b: int, seed: int, off: float = 0.5) -> tuple[Array, Array]:
    """Unit rows of D M for a sparse D and a random M, and the inverse of M: its columns are the directions."""
    rng = np.random.default_rng(seed)
    d = rng.normal(size=(m, b)) * (rng.random((m, b)) > off)
    d = d[np.abs(d).sum(axis=1) > 0]
    mix = rng.normal(size=(b, b))
    rows = d @ mix
    inverse = np.linalg.inv(mix)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), inverse / np.linalg.norm(inverse, axis=0)


def test_a_set_with_two_rows_too_many_still_gives_the_direction() -> None:
    """Of six rows four are zero for record 0, and two of those set aside: the pair test has to find it."""
    unit, true = _sparse(400, 6, 0)
    off, on = (np.nonzero((np.abs(unit @ true[:, 0]) < 1e-12) == zero)[0] for zero in (True, False))
    rows = np.concatenate([off[:4], on[:2], off[4:6], on[2:TESTED]])
    found = candidates(torch.from_numpy(unit), rows[None], 1e-6)
    assert np.abs(found @ true[:, 0]).max() > 1 - 1e-10


def test_three_rows_too_many_are_no_hit() -> None:
    unit, true = _sparse(400, 6, 1)
    off, on = (np.nonzero((np.abs(unit @ true[:, 0]) < 1e-12) == zero)[0] for zero in (True, False))
    found = candidates(torch.from_numpy(unit), np.concatenate([off[:3], on[:3], off[3:9]])[None], 1e-6)
    assert not len(found) or np.abs(found @ true[:, 0]).max() < 1 - 1e-6


def test_rows_that_one_record_leaves_off_give_its_direction_whole() -> None:
    unit, true = _sparse(900, 6, 2)
    off = np.nonzero(np.abs(unit @ true[:, 3]) < 1e-12)[0][:30]
    every = np.arange(30)
    found = unseen(torch.from_numpy(unit), np.stack([off, every]), 1e-6)
    assert len(found) == 1
    assert np.abs(found[0] @ true[:, 3]) > 1 - 1e-10


# --- as an attack


def _knowledge(net: ClientNet, batch: int | None, clients: int = 1, **told: Rung) -> GradientKnowledge:
    known = Assumptions(**({} if batch is None else {"batch": Rung.known(batch)}), **told)
    return GradientKnowledge(spec=net.spec, net=net, classes=net.classes, clients=clients, assumptions=known)


def test_clients_are_told_apart_and_an_unknown_batch_is_said_to_be_guessed() -> None:
    net = _net()
    sent = [_sent(net, 4, seed) for seed in (6, 7)]
    attack = Spear()
    target = Target(Updates(tuple(update for _, update in sent)), attack.needs)
    guess = attack.run(target, _knowledge(net, None, 2), stream(0, "spear"))
    assert target.queries == 2
    assert guess.client is not None
    assert guess.client.tolist() == [0] * 4 + [1] * 4
    assert all(_worst(guess.x[guess.client == k], x) > 200 for k, (x, _) in enumerate(sent))
    assert guess.facts["assumptions_guessed"] == "batch 4"
    assert guess.facts["clients_solved"] == 2


def test_the_same_stream_gives_the_same_records() -> None:
    net = _net(hidden=300)
    update = _sent(net, 12, 8)[1]
    runs = [Spear().run(Target(update, Spear.needs), _knowledge(net, 12), stream(0, "same")).x for _ in range(2)]
    np.testing.assert_array_equal(*runs)


def test_the_update_of_another_batch_shows_nothing() -> None:
    case = gradient_case(3)
    assert isinstance(case.secret, GradientSecret)
    assert case.null is not None
    attack = Spear()

    def guess(victim: Updates) -> object:
        return attack.run(Target(victim, attack.needs), case.knowledge, stream(0, "null"))

    assert isinstance(case.victim, Updates)
    assert isinstance(case.null, Updates)
    found = score(guess(case.victim), case.secret, Controls(null_model=guess(case.null)))
    assert found.scores["exact"].value == 1
    null = found.scores["exact"].controls["null_model"]
    assert null is not None
    assert null.value == 0


def test_an_update_of_zeros_gives_no_record() -> None:
    net = _net()
    zeros = {name: np.zeros_like(g) for name, g in _sent(net, 3, 9)[1].tensors.items()}
    guess = Spear().run(Target(Update(zeros), Spear.needs), _knowledge(net, 3), stream(0, "zeros"))
    assert len(guess.x) == 0
    said = Spear().outlook(_knowledge(net, 3), Update(zeros))
    assert said is not None
    assert said.prospect == "impossible"


def test_noise_as_great_as_the_gradient_is_said_to_have_stopped_it() -> None:
    net = _net(hidden=60)
    rng = np.random.default_rng(0)
    noisy = {k: rng.normal(size=g.shape) for k, g in _sent(net, 4, 10)[1].tensors.items()}
    guess = Spear(samples=1280).run(Target(Update(noisy), Spear.needs), _knowledge(net, 4), stream(0, "noise"))
    assert guess.facts["clients_solved"] == 0
    assert "1 of 1 updates were not solved" in guess.notes[0]


@pytest.mark.parametrize("what", ["nan", "missing", "shape"])
def test_tensors_that_cannot_be_used_are_named(what: str) -> None:
    net = _net()
    sent = dict(_sent(net, 2, 11)[1].tensors)
    if what == "nan":
        sent["1.weight"] = np.full_like(sent["1.weight"], np.nan)
    elif what == "missing":
        del sent["1.weight"]
    else:
        sent["1.weight"] = sent["1.weight"][:3]
    with pytest.raises(DataError, match=r"1\.weight"):
        Spear().run(Target(Update(sent), Spear.needs), _knowledge(net, 2), stream(0, "bad"))


def test_half_precision_is_coped_with() -> None:
    net = _net(hidden=300)
    x, update = _sent(net, 4, 12)
    half = Update({name: g.astype(np.float16) for name, g in update.tensors.items()})
    assert _worst(_solved(net, half, 4)[1], x) > 40


@pytest.mark.parametrize("activation", [nn.LeakyReLU, nn.Sigmoid, nn.GELU])
def test_neurons_that_are_never_off_are_an_obstacle(activation: type[nn.Module]) -> None:
    net = _net(activation=activation)
    first = entry(net)
    assert first is not None
    assert not rectified(net, first)
    said = Spear().obstacle(_knowledge(net, 2), None)
    assert said is not None
    assert "ReLU" in said


def test_a_convolution_is_an_obstacle_and_a_relu_layer_is_none() -> None:
    net = ClientNet(client_net("relu-cnn", SPEC.shape, 5, 0), SPEC, 5)
    assert "fully connected" in (Spear().obstacle(_knowledge(net, 2), None) or "")
    assert Spear().obstacle(_knowledge(_net(), 2), None) is None


def test_outlooks_say_what_decides() -> None:
    net = _net(hidden=300)
    rng = np.random.default_rng(13)
    small, alike = _sent(net, 4, 13)[1], _sent(net, 40, 13)[1]
    large = net.round(rng.random((130, 1, 12, 12), dtype=np.float32), rng.integers(5, size=130), LocalTraining(), rng)
    good = Spear().outlook(_knowledge(net, 4), small)
    full = Spear().outlook(_knowledge(net, 130), large)
    fewer = Spear().outlook(_knowledge(net, 40), alike)
    steps = Spear().outlook(_knowledge(net, 4, steps=Rung.known(5)), replace(small, kind="delta"))
    assert good is not None
    assert full is not None
    assert fewer is not None
    assert steps is not None
    assert (full.prospect, fewer.prospect) == ("unlikely", "unlikely")
    assert "no room" in full.why
    assert "fewer than the 40 records" in fewer.why
    assert (good.prospect, steps.prospect) == ("expected", "unlikely")
    assert "rank 4 of a gradient of 300 neurons" in good.why
    assert "5 local steps" in steps.why
