"""Attacks that match gradients: their parts by closed forms, and what they recover where it is known."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from seepage.attacks.gradient.coordinates import Natural, Pixels
from seepage.attacks.gradient.descent import Adam, QuasiNewton, scale_at
from seepage.attacks.gradient.dimitrov2022 import FedAvgMatching, between_passes, merged
from seepage.attacks.gradient.geiping2020 import InvertingGradients
from seepage.attacks.gradient.gradients import Mapped, Stacked, gradients_of, stacked_of
from seepage.attacks.gradient.lbfgs import LBFGS
from seepage.attacks.gradient.li2022 import LatentMatching
from seepage.attacks.gradient.local_steps import LocalSteps
from seepage.attacks.gradient.matching import Search, Solved, solve
from seepage.attacks.gradient.objectives import cosine, relative, squared, total_variation
from seepage.attacks.gradient.received import received
from seepage.attacks.gradient.yin2021 import GradInversion, statistics
from seepage.attacks.gradient.zhu2019 import DLG
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.attack import GradientAttack
from seepage.core.errors import DataError
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge
from seepage.core.records import Records
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Update, Updates
from seepage.core.vocabulary import Access
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining
from seepage.models.priors import PCAPrior
from seepage.testing.cases import smooth_pictures

SPEC, CLASSES = InputSpec((1, 8, 8)), 4
GRADIENT = LocalTraining(mode="eval")


def net_named(name: str = "lenet-zhu", spec: InputSpec = SPEC) -> ClientNet:
    return ClientNet(client_net(name, spec.shape, CLASSES, 0), spec, CLASSES)


def drawn(clients: int, each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = stream(seed, "matching")
    x = smooth_pictures(clients * each, rng, 8).reshape(clients, each, 1, 8, 8)
    return x, (np.arange(clients * each) % CLASSES).reshape(clients, each)


def sent(net: ClientNet, x: np.ndarray, y: np.ndarray, local: LocalTraining = GRADIENT) -> Updates:
    return Updates(tuple(net.round(a, b, local, stream(0, "round")) for a, b in zip(x, y, strict=True)))


def knows(net: ClientNet, clients: int, rungs: Mapping[str, Any], public: Records | None = None) -> GradientKnowledge:
    ladder = Assumptions(**{name: Rung.known(value) for name, value in rungs.items()})
    return GradientKnowledge(
        public=public, spec=net.spec, net=net, classes=CLASSES, clients=clients, assumptions=ladder
    )


def run(attack: GradientAttack, updates: Updates, knowledge: GradientKnowledge, seed: int = 0) -> Reconstruction:
    assert attack.obstacle(knowledge, None) is None
    return attack.run(Target(updates, {Access.UPDATES}), knowledge, stream(seed, "attack"))


def decibels(x: np.ndarray, truth: np.ndarray) -> np.ndarray:
    error = ((x.astype(float) - truth.reshape(x.shape)) ** 2).reshape(len(x), -1).mean(axis=1)
    return -10 * np.log10(np.maximum(error, 1e-20))


def best_matched(x: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Decibels of two records, whichever way round they came."""
    return max((decibels(order, truth) for order in (x, x[::-1])), key=lambda db: float(db.sum()))


@pytest.mark.parametrize(
    ("name", "mode"),
    [("lenet-zhu", "eval"), ("relu-mlp", "eval"), ("relu-cnn", "eval"), ("cnn", "eval"), ("cnn", "train")],
)
def test_gradients_of_many_problems_are_those_of_each(name: str, mode: Any) -> None:
    net = net_named(name, InputSpec((3, 8, 8), mean=(0.4,), std=(0.2,)))
    x = torch.rand(3, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.tensor([[0, 1], [2, 2], [3, 0]])
    soft = torch.nn.functional.one_hot(y, CLASSES).double()
    body = net.body(mode, torch.float64)
    wanted = []
    for mine, own in zip(net.prepare(x), y, strict=True):
        loss = torch.nn.functional.cross_entropy(body(mine), own)
        wanted.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(body.parameters()))]))
    assert stacked_of(net, mode) is not None
    for way in (Stacked(net, mode, torch.float64), Mapped(net, mode, torch.float64)):
        found = way(net.prepare(x).requires_grad_(True), soft).detach()
        torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-8, atol=1e-12)


def test_a_network_with_other_layers_goes_the_general_way() -> None:
    module = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 6), torch.nn.LayerNorm(6), torch.nn.Linear(6, CLASSES)
    )
    net = ClientNet(module, SPEC, CLASSES)
    assert stacked_of(net, "eval") is None
    found = gradients_of(net, "eval")(torch.rand(2, 1, 1, 8, 8), torch.full((2, 1, CLASSES), 0.25))
    assert found.shape == (2, net.parameters)


def test_objectives_and_variation_by_hand() -> None:
    a, b = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    assert squared(a, b).tolist() == [16.0, 5.0]
    assert relative(a, b).tolist() == pytest.approx([16 / 9, 5 / 4])
    assert cosine(a, b).tolist() == pytest.approx([1 - 9 / 15, 1.0])
    ramp = torch.arange(4.0).reshape(1, 1, 1, 1, 4).expand(2, 3, 1, 4, 4)
    assert total_variation(ramp).tolist() == [1.0, 1.0]


def test_natural_coordinates_reach_every_picture_and_start_smooth() -> None:
    spec = InputSpec((3, 8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3))
    natural, pixels = Natural(spec, dtype=torch.float64), Pixels(spec, torch.float64)
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(2, 1, 3, 8, 8, generator=draws, dtype=torch.float64)
    torch.testing.assert_close(natural.records(natural.numbers(x)), x)
    torch.testing.assert_close(pixels.records(pixels.numbers(x)), x)
    v = torch.randn(200, 1, 3, 8, 8, generator=draws, dtype=torch.float64)
    smooth, rough = (total_variation(pixels.numbers(c.records(v))).mean() for c in (natural, pixels))
    assert smooth < 0.7 * rough
    # As strong all in all: the start is a picture of usual contrast either way.
    assert float(pixels.numbers(natural.records(v)).std()) == pytest.approx(1.0, abs=0.1)
    far = natural.inside(3 * v)
    assert float(natural.records(far).min()) >= -1e-9
    assert float(natural.records(far).max()) <= 1 + 1e-9
    torch.testing.assert_close(natural.inside(far), far)


def bowls() -> tuple[torch.Tensor, torch.Tensor]:
    """Quadratics of condition 1 to 10^4 in 30 dimensions, turned, with minima of their own."""
    draws = torch.Generator().manual_seed(0)
    turns = torch.linalg.qr(torch.randn(3, 30, 30, generator=draws, dtype=torch.float64)).Q
    bends = torch.stack([torch.logspace(0, top, 30, dtype=torch.float64) for top in (0.01, 2, 4)])
    return turns @ torch.diag_embed(bends) @ turns.mT, torch.randn(3, 30, generator=draws, dtype=torch.float64)


def test_lbfgs_finds_the_minimum_of_every_row_and_no_row_moves_another() -> None:
    bowl, lowest = bowls()

    def ask(v: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        off = v - lowest[rows]
        return 0.5 * (off[:, None] @ bowl[rows] @ off[:, :, None])[:, 0, 0]

    start = torch.zeros(3, 30, dtype=torch.float64)
    search = LBFGS(start, ask, memory=30)
    for _ in range(400):
        search.step()
    torch.testing.assert_close(search.best, lowest, rtol=0, atol=1e-6)
    for row in range(3):
        alone = LBFGS(start[:1], lambda v, rows, row=row: ask(v, rows + row), memory=10)
        for _ in range(40):
            alone.step()
        among = LBFGS(start, ask, memory=10)
        for _ in range(40):
            among.step()
        torch.testing.assert_close(alone.best[0], among.best[row], rtol=1e-6, atol=1e-9)


def test_lbfgs_in_compact_form_is_the_two_loop_recursion() -> None:
    bowl, lowest = bowls()
    search = LBFGS(
        torch.zeros(1, 30, dtype=torch.float64),
        lambda v, rows: 0.5 * ((v - lowest[:1])[:, None] @ bowl[2:] @ (v - lowest[:1])[:, :, None])[:, 0, 0],
        memory=5,
    )
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    for _ in range(12):
        x, g = search.best.clone(), search._slope.clone()
        search.step()
        if not torch.equal(x, search.best):
            pairs.append(((search.best - x)[0], (search._slope - g)[0]))
    kept = pairs[-5:]
    q, shares = search._slope[0].clone(), []
    for s, y in reversed(kept):
        shares.append((s @ q) / (s @ y))
        q = q - shares[-1] * y
    q = q * (kept[-1][0] @ kept[-1][1]) / (kept[-1][1] @ kept[-1][1])
    for (s, y), share in zip(kept, reversed(shares), strict=True):
        q = q + (share - (y @ q) / (s @ y)) * s
    torch.testing.assert_close(search._scaled()[0], q, rtol=1e-9, atol=1e-9)


def test_lbfgs_stays_where_nothing_is_to_be_gained_and_survives_what_is_not_finite() -> None:
    def ask(v: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return torch.where(rows == 0, v.pow(2).sum(1), torch.where(v[:, 0] > 0.5, torch.inf, -1.0) * v[:, 0])

    search = LBFGS(torch.zeros(2, 3), ask)
    for _ in range(60):
        search.step()
    assert search.best[0].tolist() == [0, 0, 0]
    assert 0.4 < float(search.best[1, 0]) <= 0.5


def test_the_rate_falls_as_published() -> None:
    assert [scale_at(s, 8, "steps") for s in (0, 2, 3, 5, 7)] == pytest.approx([1, 1, 0.1, 0.01, 0.001])
    assert scale_at(4, 8, "cosine") == pytest.approx(0.5)
    assert scale_at(7, 8, "constant") == 1


def test_adam_on_signs_is_adam_of_torch_on_signs() -> None:
    torch.manual_seed(0)
    start = torch.randn(2, 5, dtype=torch.float64)
    found = Adam(20, 0.1, "hard", "constant")(start, lambda v, rows: v.pow(4).sum(1), lambda v: v)
    weight = start.clone().requires_grad_(True)
    theirs = torch.optim.Adam([weight], lr=0.1)
    for _ in range(20):
        theirs.zero_grad()
        weight.pow(4).sum().backward()
        assert weight.grad is not None
        weight.grad.sign_()
        theirs.step()
    torch.testing.assert_close(found.v, weight.detach())
    assert found.cost.shape[1] == 2
    assert found.at[-1] == 20


def test_dlg_recovers_records_and_labels_and_nothing_of_another_s() -> None:
    net, (x, y) = net_named(), drawn(3, 1)
    knowledge = knows(net, 3, {"batch": 1, "mode": "eval"})
    found = run(DLG(steps=200), sent(net, x, y), knowledge)
    assert decibels(found.x, x[:, 0]).min() > 30
    assert found.labels is not None
    assert found.labels.tolist() == y[:, 0].tolist()
    assert found.client is not None
    assert found.client.tolist() == [0, 1, 2]
    assert "labels" in str(found.facts["assumptions_guessed"])
    curve = found.trace["objective"]
    assert (curve[-1] < 1e-3 * curve[0]).all()
    # The update of other records says nothing of these.
    other, labels = drawn(3, 1, seed=1)
    null = run(DLG(steps=200), sent(net, other, labels), knowledge)
    assert decibels(null.x, x[:, 0]).max() < 15


def test_a_client_is_recovered_alike_whoever_is_attacked_beside_it() -> None:
    net, (x, y) = net_named(), drawn(2, 1)
    attack = DLG(steps=40)
    both = run(attack, sent(net, x, y), knows(net, 2, {"batch": 1, "mode": "eval"}))
    first = run(attack, sent(net, x[:1], y[:1]), knows(net, 1, {"batch": 1, "mode": "eval"}))
    np.testing.assert_allclose(both.x[0], first.x[0], atol=1e-5)


def test_inverting_gradients_recovers_and_keeps_the_restart_matched_best() -> None:
    net, (x, y) = net_named(), drawn(2, 1)
    knowledge = knows(net, 2, {"batch": 1, "mode": "eval", "labels": y})
    several = run(InvertingGradients(steps=200, restarts=3, tv=1e-4), sent(net, x, y), knowledge)
    single = run(InvertingGradients(steps=200, restarts=1, tv=1e-4), sent(net, x, y), knowledge)
    assert decibels(several.x, x[:, 0]).min() > 22
    assert several.confidence is not None
    assert single.confidence is not None
    # The first client's first start is the same in both.
    assert several.confidence[0] >= single.confidence[0] - 1e-6
    assert "labels" in str(several.facts["assumptions_known"])


def test_of_the_restarts_the_one_matched_best_is_given() -> None:
    """Starts left where they are: the record returned has the objective reported, and no start has a lower one."""
    net, (x, y) = net_named(), drawn(2, 1)
    target = Target(sent(net, x, y), {Access.UPDATES})
    got = received(target, knows(net, 2, {"batch": 1, "mode": "eval", "labels": y}), stream(0, "got"), torch.float64)
    simulate, coordinates = gradients_of(net, "eval", torch.float64), Pixels(SPEC, torch.float64)
    search = Search(coordinates, simulate, squared, Adam(1, 1e-12), restarts=6)
    solved = solve(net, got, search, torch.Generator().manual_seed(0))
    again = torch.Generator().manual_seed(0)
    starts = torch.stack([torch.randn(64, generator=again, dtype=torch.float64) for _ in range(12)])
    records = coordinates.records(coordinates.inside(starts.reshape(2, 6, 1, 8, 8)))
    soft = torch.nn.functional.one_hot(torch.from_numpy(y), CLASSES).double()
    for client in range(2):
        made = simulate(net.prepare(records[client][:, None]).requires_grad_(True), soft[client].expand(6, 1, -1))
        off = squared(made.detach(), got.wanted[client].expand(6, -1))
        assert solved.objective[client] == pytest.approx(float(off.min()), rel=1e-6)
        np.testing.assert_allclose(solved.x[client, 0], records[client, int(off.argmin())].numpy(), atol=1e-9)


def test_labels_are_read_off_where_they_are_not_told() -> None:
    net, (x, y) = net_named(), drawn(2, 3)
    single = run(
        InvertingGradients(steps=2), sent(net, x[:, :1], y[:, :1]), knows(net, 2, {"batch": 1, "mode": "eval"})
    )
    assert single.labels is not None
    assert single.labels.tolist() == y[:, 0].tolist()
    assert "labels" in str(single.facts["assumptions_guessed"])
    several = run(InvertingGradients(steps=2), sent(net, x, y), knows(net, 2, {"batch": 3, "mode": "eval"}))
    assert several.labels is not None
    assert np.sort(several.labels.reshape(2, 3)).tolist() == np.sort(y).tolist()


def test_local_steps_are_those_of_the_client() -> None:
    net, (x, y) = net_named("cnn", InputSpec((1, 8, 8))), drawn(1, 4)
    local = LocalTraining("delta", batch=3, epochs=2, rate=0.05, mode="eval")
    rng = stream(0, "order")
    update = net.round(x[0], y[0], local, rng, dtype=torch.float64)
    # The client draws a seed for dropout before the order of each pass.
    again = stream(0, "order")
    again.integers(2**62)
    orders = [again.permutation(4) for _ in range(2)]
    taken = np.concatenate(orders)
    simulate = LocalSteps(net, "eval", 4, 3, 2, 0.05, torch.float64)
    given = net.prepare(torch.from_numpy(x[0][taken]).double())[None]
    soft = torch.nn.functional.one_hot(torch.from_numpy(y[0][taken]), CLASSES).double()[None]
    wanted = torch.cat([torch.from_numpy(update.tensors[name]).flatten() for name in net.weights()])
    torch.testing.assert_close(simulate(given, soft)[0], wanted, rtol=1e-6, atol=1e-9)


def test_what_holds_the_passes_together_does_not_hang_on_their_order() -> None:
    x = torch.rand(2, 3, 1, 4, 4)
    turned = torch.cat([x, x[:, [2, 0, 1]]], dim=1)
    assert between_passes(turned, 2).tolist() == pytest.approx([0, 0], abs=1e-9)
    assert (between_passes(torch.cat([x, x + 0.1], dim=1), 2) > 1e-3).all()
    solved = Solved(
        turned.numpy(), np.zeros((2, 6), dtype=np.int64), np.zeros(2), np.zeros((1, 2)), np.ones(1, dtype=int)
    )
    np.testing.assert_allclose(merged(solved, 2).x, x.numpy(), atol=1e-6)


def test_simulated_steps_recover_more_than_one_gradient_in_their_place() -> None:
    net, (x, y) = net_named(), drawn(1, 2)
    local = LocalTraining("delta", batch=1, epochs=4, rate=1.0, mode="eval")
    rungs = {"batch": 2, "mode": "eval", "labels": y, "rate": 1.0, "epochs": 4, "local_batch": 1, "steps": 8}
    updates, knowledge = sent(net, x, y, local), knows(net, 1, rungs)
    gradient = run(InvertingGradients(steps=100, tv=1e-4), updates, knowledge)
    assert best_matched(gradient.x, x[0]).max() < 13
    assert any("several local steps" in note for note in gradient.notes)
    for copies in (False, True):
        steps = run(FedAvgMatching(steps=70, tv=1e-4, restarts=1, copies=copies), updates, knowledge)
        assert best_matched(steps.x, x[0]).min() > 14


def test_what_the_local_training_was_has_to_be_told() -> None:
    net = net_named()
    obstacle = FedAvgMatching().obstacle(knows(net, 1, {"batch": 2, "epochs": 3, "steps": 3}), None)
    assert obstacle is not None
    assert "rate, local_batch" in obstacle
    assert FedAvgMatching().obstacle(knows(net, 1, {"batch": 2, "steps": 1}), None) is None


def test_the_statistics_of_the_true_batch_are_what_is_held_to() -> None:
    net, (x, y) = net_named("cnn"), drawn(2, 4)
    rungs: dict[str, Any] = {"batch": 4, "mode": "train", "labels": y}
    assert "never trained" in statistics(knows(net, 2, rungs))[1]
    told = [net.batch_statistics(mine) for mine in x]
    wanted, said = statistics(knows(net, 2, rungs | {"statistics": told}))
    assert said == "statistics of the private batch"
    stacked = stacked_of(net, "train", statistics=True)
    assert stacked is not None
    soft = torch.nn.functional.one_hot(torch.from_numpy(y), CLASSES).float()
    stacked(net.prepare(torch.from_numpy(x)).requires_grad_(True), soft)
    for name, layer in stacked.normalisations.items():
        torch.testing.assert_close(layer.mean.detach(), wanted[name][0], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(layer.var.detach(), wanted[name][1], rtol=1e-3, atol=1e-5)
    found = run(GradInversion(steps=5, restarts=2), sent(net, x, y), knows(net, 2, rungs | {"statistics": told}))
    assert found.facts["batch_norm_prior"] == said
    assert "statistics" in str(found.facts["assumptions_known"])
    with pytest.raises(DataError, match="statistics of"):
        run(GradInversion(steps=5), sent(net, x, y), knows(net, 2, rungs | {"statistics": [{}, {}]}))


def test_a_record_that_the_prior_can_draw_is_found_in_its_latents() -> None:
    net, (x, y) = net_named(), drawn(2, 1)
    public = Records(smooth_pictures(200, stream(5, "public"), 8))
    prior = PCAPrior.fit(public.x, SPEC, components=12)
    x = prior.sample(2, stream(0, "records"), limit=1.0)[:, None]
    rungs = {"batch": 1, "mode": "eval", "labels": y}
    attack, knowledge = LatentMatching(components=12, restarts=2, steps=100), knows(net, 2, rungs, public)
    found = run(attack, sent(net, x, y), knowledge)
    assert decibels(found.x, x[:, 0]).min() > 30
    assert found.facts["prior_kind"] == "pca"
    null = run(
        LatentMatching(components=12, restarts=2, steps=100), sent(net, x[::-1], y), knows(net, 2, rungs, public)
    )
    assert decibels(null.x, x[:, 0]).max() < 25


def test_updates_that_cannot_be_read_are_refused_by_name() -> None:
    net, (x, y) = net_named(), drawn(1, 1)
    good = sent(net, x, y).clients[0]
    name = next(iter(net.weights()))
    knowledge = knows(net, 1, {"batch": 1, "mode": "eval"})

    def with_tensor(value: np.ndarray | None) -> Updates:
        tensors = dict(good.tensors)
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
        return Updates((Update(tensors),))

    attack = DLG(steps=2)
    with pytest.raises(DataError, match=f"no tensor '{name}'"):
        run(attack, with_tensor(None), knowledge)
    with pytest.raises(DataError, match="of another model"):
        run(attack, with_tensor(np.zeros((2, 2))), knowledge)
    with pytest.raises(DataError, match="NaN"):
        run(attack, with_tensor(np.full_like(good.tensors[name], np.nan)), knowledge)
    half = Updates((replace(good, tensors={n: t.astype(np.float16) for n, t in good.tensors.items()}),))
    assert np.isfinite(run(attack, half, knowledge).x).all()


@pytest.mark.parametrize("attack", [DLG(steps=5), InvertingGradients(steps=5), GradInversion(steps=5)])
def test_an_update_of_zeros_is_said_to_be_one(attack: GradientAttack) -> None:
    net, (x, y) = net_named(), drawn(1, 1)
    silent = {name: np.zeros_like(t) for name, t in sent(net, x, y).clients[0].tensors.items()}
    found = run(attack, Updates((Update(silent),)), knows(net, 1, {"batch": 1, "mode": "eval"}))
    assert np.isfinite(found.x).all()
    assert any("zero throughout" in note for note in found.notes)


def test_what_to_expect_is_said_beforehand() -> None:
    net, (x, y) = net_named(), drawn(1, 1)
    update = sent(net, x, y).clients[0]
    single = DLG().outlook(knows(net, 1, {"batch": 1, "mode": "eval"}), update)
    assert single is not None
    assert single.prospect == "possible"
    assert single.seconds is not None
    many = DLG().outlook(knows(net, 1, {"batch": 500, "mode": "eval"}), update)
    assert many is not None
    assert many.prospect == "unlikely"
    tied = InvertingGradients().outlook(knows(net_named("cnn"), 1, {"batch": 4, "mode": "train"}), update)
    assert tied is not None
    assert "batch normalisation" in tied.why
    lone = InvertingGradients().obstacle(knows(net_named("cnn"), 1, {"batch": 1, "mode": "train"}), None)
    assert lone is not None
    told = FedAvgMatching().outlook(knows(net, 1, {"batch": 2, "steps": 4}), replace(update, kind="delta"))
    assert told is not None
    assert told.prospect == "impossible"


def test_a_search_that_ends_early_stays_where_it_is() -> None:
    found = QuasiNewton(50)(torch.zeros(1, 3), lambda v, rows: v.pow(2).sum(1), lambda v: v)
    assert found.v.tolist() == [[0, 0, 0]]
    assert found.cost.shape == (len(found.at), 1)
