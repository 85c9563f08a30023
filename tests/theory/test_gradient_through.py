"""Updates matched as a defense left them: the true records explain what was sent, whatever the defense did to it."""

from typing import Any

import numpy as np
import pytest
import torch

from seepage.attacks.gradient import matching
from seepage.attacks.gradient.descent import Adam
from seepage.attacks.gradient.fan2025 import FedLeak
from seepage.attacks.gradient.geiping2020 import InvertingGradients
from seepage.attacks.gradient.objectives import cosine, relative
from seepage.attacks.gradient.through import Through, through
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.defense import Defense
from seepage.core.errors import ConfigError
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge
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
from seepage.testing.cases import smooth_pictures

SPEC, CLASSES = InputSpec((1, 8, 8)), 4
NET = ClientNet(client_net("lenet-zhu", SPEC.shape, CLASSES, 0), SPEC, CLASSES)
NAMES = list(NET.weights())
COARSE = [Quantise(format="int4"), TopKUpdate(keep=0.1)]


def plain(n: int = 2, seed: int = 0) -> tuple[np.ndarray, Updates]:
    x = smooth_pictures(n, stream(seed, "through"), 8)
    local = LocalTraining(mode="eval")
    sent = [NET.round(x[k : k + 1], np.array([k % CLASSES]), local, stream(0, "r")) for k in range(n)]
    return x, Updates(tuple(sent))


def flat(updates: Updates) -> torch.Tensor:
    rows = [np.concatenate([u.tensors[name].reshape(-1) for name in NAMES]) for u in updates.clients]
    return torch.from_numpy(np.stack(rows)).double()


def behind(defense: Defense, sent: Updates) -> Updates:
    found = defense.on_victim(sent, np.random.default_rng(0))
    assert isinstance(found, Updates)
    return found


def passed(defense: Defense, sent: Updates) -> Through:
    return through([defense], sent.clients, NAMES, dtype=torch.float64)


@pytest.mark.parametrize("defense", COARSE, ids=str)
def test_the_true_update_is_as_near_as_can_be(defense: Defense) -> None:
    _, bare = plain()
    sent, clients = behind(defense, bare), torch.arange(2)
    found, wanted = passed(defense, sent)(flat(bare), flat(sent), clients)
    assert float(relative(found, wanted).max()) < 1e-9
    # Another client's update is not excused.
    crossed, other = passed(defense, sent)(flat(bare).flip(0), flat(sent), clients)
    assert float(relative(crossed, other).min()) > 1e-3


@pytest.mark.parametrize("form", ["fp16", "int8"])
def test_fine_rounding_is_matched_as_it_is(form: Any) -> None:
    """Within ranges nothing pulls: where they are narrow, the middle says more."""
    _, bare = plain()
    sent = behind(Quantise(format=form), bare)
    assert passed(Quantise(format=form), sent).low is None


def test_a_shortened_update_is_compared_with_shortened_ones() -> None:
    _, bare = plain()
    defense = Clip(norm=0.1)
    sent = behind(defense, bare)
    found, wanted = passed(defense, sent)(flat(bare), flat(sent), torch.arange(2))
    assert float(relative(found, wanted).max()) < 1e-9
    assert float(relative(flat(bare), flat(sent)).min()) > 1e-2


def test_signs_are_compared_with_soft_signs() -> None:
    _, bare = plain()
    sent = behind(Sign(), bare)
    found, wanted = passed(Sign(), sent)(flat(bare), flat(sent), torch.arange(2))
    assert bool((cosine(found, wanted) < cosine(flat(bare), flat(sent))).all())


def test_nothing_is_taken_off_a_sum() -> None:
    _, bare = plain()
    found = through([TopKUpdate(keep=0.1), SecureAggregation()], bare.clients, NAMES)
    assert found.said == ()
    assert found.low is None


def test_a_gradient_scaled_by_the_other_sign_keeps_its_ranges() -> None:
    _, bare = plain(1)
    sent = behind(Quantise(format="int4"), bare)
    found = through([Quantise(format="int4")], sent.clients, NAMES, scale=-2.0, dtype=torch.float64)
    assert found.low is not None
    assert found.high is not None
    truth = -2.0 * flat(bare)
    assert bool(((found.low <= truth + 1e-12) & (truth <= found.high + 1e-12)).all())


def test_the_greatest_numbers_are_matched_and_zeros_never() -> None:
    wanted = torch.tensor([[0.0, 3.0, -1.0, 0.5, 0.0, 0.0]])
    kept = Through(sizes=(4, 2)).largest(wanted, 0.5).matched
    assert kept is not None
    assert kept.tolist() == [[False, True, True, False, False, False]]
    without = Through(sizes=(4, 2)).largest(wanted, 0.5, [0]).matched
    assert without is not None
    assert not without.any()


def test_the_penalised_slope_is_that_of_the_cost_and_its_slope() -> None:
    """One step of plain slopes on a quadratic: (1 - b) A v + b A (v + r n), n the direction of A v."""
    a = torch.diag(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64))
    start = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)

    def cost(v: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return 0.5 * ((v @ a) * v).sum(1)

    blend, reach = 0.3, 0.2
    slope = start @ a
    wanted = slope + blend * reach * (slope / slope.norm()) @ a
    found = Adam(1, 0.1, "none", "constant", blend=blend, reach=reach)(start, cost, lambda v: v).v
    # Adam's first step is the rate along the sign of every number, whatever its size.
    assert torch.allclose(found, start - 0.1 * wanted.sign(), atol=1e-6)


def known(defenses: tuple[Defense, ...], clients: int, **rungs: Any) -> GradientKnowledge:
    ladder = {"batch": 1, "mode": "eval", "labels": np.arange(clients)[:, None] % CLASSES, **rungs}
    return GradientKnowledge(
        spec=SPEC,
        net=NET,
        classes=CLASSES,
        clients=clients,
        assumptions=Assumptions(**{name: Rung.known(value) for name, value in ladder.items()}),
        defenses=defenses,
    )


def decibels(found: Reconstruction, x: np.ndarray) -> float:
    error = ((found.x - x) ** 2).reshape(len(x), -1).mean(axis=1)
    return float(np.median(-10 * np.log10(error)))


def test_knowing_the_defense_helps() -> None:
    x, bare = plain(3)
    defense = TopKUpdate(keep=0.05)
    sent = behind(defense, bare)
    attack = InvertingGradients(steps=300)

    def played(defenses: tuple[Defense, ...], update: Updates) -> Reconstruction:
        return attack.run(Target(update, {Access.UPDATES}), known(defenses, 3), stream(0, "a"))

    aware, unaware = played((defense,), sent), played((), sent)
    assert decibels(aware, x) > decibels(unaware, x) + 1
    assert any("as the defense left it" in note for note in aware.notes)


def test_fedleak_finds_records_that_others_do_not_make() -> None:
    x, bare = plain(3)
    _, other = plain(3, seed=1)
    attack = FedLeak(steps=200)

    def played(update: Updates) -> Reconstruction:
        return attack.run(Target(update, {Access.UPDATES}), known((), 3), stream(0, "a"))

    found = played(bare)
    assert decibels(found, x) > decibels(played(other), x) + 5
    assert 0.3 < float(found.facts["numbers_matched"] or 0) <= 0.51


def test_tensors_left_out_are_named_rightly() -> None:
    _, bare = plain(1)
    target = Target(bare, {Access.UPDATES})
    with pytest.raises(ConfigError, match="did you mean"):
        FedLeak(steps=1, without=["1.0.wieght"]).run(target, known((), 1), stream(0, "a"))
    with pytest.raises(ConfigError, match="name fewer"):
        FedLeak(steps=1, without=NAMES).run(Target(bare, {Access.UPDATES}), known((), 1), stream(0, "a"))


def test_noise_is_matched_as_it_is() -> None:
    _, bare = plain(1)
    assert through([GaussianNoise(clip=1e9)], bare.clients, NAMES).low is None


@pytest.mark.parametrize(
    "told",
    [
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 400000000000000 bytes. Error code 12 (Cannot allocate memory)",
        "CUDA out of memory",
    ],
)
def test_where_memory_runs_out_groups_are_halved(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, bare = plain(4)
    solve, sizes = matching._solve, []

    def short(net: Any, got: Any, search: Any, starts: torch.Tensor, clients: torch.Tensor) -> Any:
        sizes.append(len(clients))
        if len(clients) > 1:
            raise RuntimeError(told)
        return solve(net, got, search, starts, clients)

    attack = InvertingGradients(steps=20)
    whole = attack.run(Target(bare, {Access.UPDATES}), known((), 4), stream(0, "a"))
    monkeypatch.setattr(matching, "_solve", short)
    halved = attack.run(Target(bare, {Access.UPDATES}), known((), 4), stream(0, "a"))
    assert sizes == [4, 2, 1, 1, 1, 1]
    np.testing.assert_allclose(whole.x, halved.x, atol=1e-4)
    assert any("4 groups" in note for note in halved.notes)


def test_other_faults_are_not_taken_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("shapes do not agree")

    monkeypatch.setattr(matching, "_solve", broken)
    _, bare = plain(2)
    with pytest.raises(RuntimeError, match="shapes"):
        InvertingGradients(steps=1).run(Target(bare, {Access.UPDATES}), known((), 2), stream(0, "a"))


def test_one_client_too_large_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(matching, "_solve", full)
    _, bare = plain(1)
    with pytest.raises(MemoryError, match="fewer restarts"):
        InvertingGradients(steps=1).run(Target(bare, {Access.UPDATES}), known((), 1), stream(0, "a"))
