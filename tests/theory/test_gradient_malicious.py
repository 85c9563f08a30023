"""A malicious server gets what theory says it gets; a client that looks at the model sees it, and rarely cries wolf."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from seepage.attacks.gradient.boenisch2023 import TrapWeights
from seepage.attacks.gradient.fowl2022 import RobbingTheFed
from seepage.attacks.gradient.last import last_layer
from seepage.attacks.gradient.wen2022 import Fishing, Rod
from seepage.cases import gradient
from seepage.cases.federation import Federation
from seepage.core.attack import GradientAttack
from seepage.core.case import Case
from seepage.core.errors import AccessDenied
from seepage.core.records import Records
from seepage.core.scorer import Controls, Scored
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Updates
from seepage.core.vocabulary import Access
from seepage.defenses.updates.received import CheckReceived
from seepage.defenses.updates.secure_aggregation import SecureAggregation
from seepage.models.client_nets import client_net
from seepage.models.disaggregation import disaggregation
from seepage.models.federated import ClientNet, LocalTraining
from seepage.models.planted import with_imprint
from seepage.models.received import inspect_received
from seepage.models.training import fit_classifier, seeded
from seepage.scoring.gradient import score

DIGITS = load_digits()
X = (DIGITS.images / 16).astype(np.float32)[:, None]
Y = DIGITS.target.astype(np.int64)
NAMES = tuple("0123456789")


def scene(records: int, clients: int = 4, net: str = "relu-mlp", spec: InputSpec | None = None) -> Federation:
    spec = spec or InputSpec((1, 8, 8))
    made = ClientNet(client_net(net, spec.shape, 10, 0), spec, 10)
    return Federation(
        open_net=lambda: made,
        spec=spec,
        members=Records(X[:400], Y[:400], NAMES),
        nonmembers=Records(X[400:800], Y[400:800], NAMES),
        public=Records(X[800:], Y[800:], NAMES),
        local=LocalTraining(),
        clients=clients,
        records=records,
        seed=2,
    )


def played(case: Case, attack: GradientAttack) -> Scored:
    guess = attack.run(Target(case.victim, attack.needs), case.knowledge, stream(0, "x"))
    assert case.null is not None
    null = attack.run(Target(case.null, attack.needs), case.null_knowledge or case.knowledge, stream(0, "x"))
    return score(guess, case.secret, Controls(case.baselines, null, case.missing))


@pytest.mark.parametrize(("records", "bins"), [(8, 64), (16, 256), (32, 128)])
def test_an_imprint_gives_back_as_many_records_as_theory_says(records: int, bins: int) -> None:
    """b (1 - 1/k)^(b - 1) of b records are alone in their bin."""
    clients = 6
    found = played(gradient.build(scene(records, clients)), RobbingTheFed(bins=bins)).scores["exact"]
    alone = (1 - 1 / bins) ** (records - 1)
    spread = np.sqrt(alone * (1 - alone) / (records * clients))
    assert found.value is not None
    assert abs(found.value - alone) < 4 * spread + 0.02
    assert found.controls["null_model"] is not None
    assert found.controls["null_model"].value == 0


@pytest.mark.parametrize("net", ["relu-cnn", "cnn", "lenet-zhu"])
def test_an_imprint_works_before_any_network(net: str) -> None:
    found = played(gradient.build(scene(4, 4, net)), RobbingTheFed()).scores["exact"]
    assert (found.value or 0) > 0.7


def test_an_imprint_sees_through_normalisation() -> None:
    spec = replace(InputSpec((1, 8, 8)), mean=(0.3,), std=(0.3,))
    found = played(gradient.build(scene(4, 4, spec=spec)), RobbingTheFed()).scores["exact"]
    assert (found.value or 0) > 0.7


def test_trap_weights_beat_reading_alone_and_do_not_mind_centred_records() -> None:
    """The network centres its records, which stops the attack as published."""
    case = gradient.build(scene(16, 6))
    trapped = played(case, TrapWeights()).scores["exact"].value or 0
    assert trapped > 0.35
    blurred = scene(16, 6)
    assert blurred.net.weights()["2.weight"].shape == (300, 64)


def test_an_honest_server_cannot_be_played_as_a_malicious_one() -> None:
    case = gradient.build(scene(4))
    with pytest.raises(AccessDenied):
        RobbingTheFed().run(Target(case.victim, {Access.UPDATES}), case.knowledge, stream(0, "x"))
    assert isinstance(case.victim, Updates)
    over = replace(case.victim, asked=None)
    with pytest.raises(AccessDenied, match="offers updates"):
        Target(over, {Access.ROUNDS})


def test_every_client_of_a_round_is_counted() -> None:
    case = gradient.build(scene(4))
    target = Target(case.victim, {Access.ROUNDS}, budget=4)
    RobbingTheFed().run(target, case.knowledge, stream(0, "x"))
    assert target.queries == 4


def planted(net: ClientNet) -> ClientNet:
    return with_imprint(net, np.full(64, 1 / 64), np.linspace(-1, 1, 64))


@pytest.mark.parametrize("attack", [RobbingTheFed(), TrapWeights(), Fishing(thresholds=4)])
def test_clients_that_look_send_nothing_to_a_malicious_server_and_everything_to_an_honest_one(
    attack: GradientAttack,
) -> None:
    case = gradient.build(scene(4))
    defended = case.defended(CheckReceived())
    assert (played(defended, attack).scores["exact"].value or 0) == 0
    assert isinstance(case.victim, Updates)
    assert isinstance(defended.victim, Updates)
    for honest, sent in zip(case.victim.clients, defended.victim.clients, strict=True):
        np.testing.assert_equal(dict(honest.tensors), dict(sent.tensors))


def test_the_marks_are_named() -> None:
    net = scene(4).net
    (alarm,) = inspect_received(planted(net))
    assert alarm.name == "identical rows"
    assert "64 of 64 rows of 0.bins.weight" in alarm.message
    assert "64 different biases" in alarm.message


@pytest.mark.parametrize("net", ["relu-mlp", "relu-cnn", "cnn", "lenet-zhu"])
@pytest.mark.parametrize("steps", [0, 40, 300])
def test_ordinary_models_raise_no_alarm_by_their_weights(net: str, steps: int) -> None:
    for seed in range(3):
        module = client_net(net, (1, 8, 8), 10, seed)
        with seeded(seed) as rng:
            fit_classifier(
                module, torch.from_numpy(X[:400]), torch.from_numpy(Y[:400]), rng, steps=steps or 1, rate=1e-3
            )
        found = inspect_received(ClientNet(module, InputSpec((1, 8, 8)), 10))
        assert found == ()


def test_one_record_that_the_others_do_not_hide_is_seen() -> None:
    """A model that is right and sure about all records but one shows that one's gradient alone."""
    module = client_net("relu-mlp", (1, 8, 8), 10, 0)
    with seeded(0) as rng:
        fit_classifier(module, torch.from_numpy(X[:100]), torch.from_numpy(Y[:100]), rng, steps=400, rate=1e-2)
    net = ClientNet(module, InputSpec((1, 8, 8)), 10)
    wrong = Y[:16].copy()
    wrong[3] = (wrong[3] + 1) % 10
    found = [alarm for alarm in inspect_received(net, X[:16], wrong) if alarm.name == "one record stands out"]
    assert found
    assert found[0].value > 5
    fresh = ClientNet(client_net("relu-mlp", (1, 8, 8), 10, 0), InputSpec((1, 8, 8)), 10)
    assert inspect_received(fresh, X[:16], Y[:16]) == ()


# Fishing


def rod(net: ClientNet, seed: int = 0) -> Rod:
    last = last_layer(net)
    assert last is not None
    case = gradient.build(scene(4))
    direction = Fishing()._direction(replace(case.knowledge, net=net), last, stream(seed, "rod"))  # type: ignore[arg-type]
    return Rod(net, last, direction, 1000.0)


def test_a_class_that_is_fished_for_moves_the_model_alone() -> None:
    """Before the last layer the gradient of a batch is that of the records of one class, all else being zero."""
    net = scene(4).net
    cast = rod(net).cast(3, 60.0)
    x, y = torch.from_numpy(X[:32]), torch.from_numpy(Y[:32])
    whole, own = cast.gradient(x, y), cast.gradient(x[y == 3], y[y == 3])
    share = float((y == 3).double().mean())
    for name in ("2.weight", "2.bias", "4.weight"):
        torch.testing.assert_close(whole[name], share * own[name], rtol=1e-4, atol=1e-5)


def test_between_two_thresholds_lie_the_gradients_of_the_records_between() -> None:
    """Whatever their classes: those of the fished one that fall silent, and those of others that speak up."""
    net = scene(4).net
    line, x, y = rod(net), torch.from_numpy(X[:32]), torch.from_numpy(Y[:32])
    measured = net.inside("6", x)[0].detach().double().numpy() @ line.direction
    order = np.sort(measured)
    low, high = (order[9] + order[10]) / 2, (order[12] + order[13]) / 2
    between = np.nonzero((measured > low) & (measured < high))[0]
    assert len(between) == 3
    above, below = line.cast(0, low).gradient(x, y), line.cast(0, high).gradient(x, y)
    loud = line.cast(0, -60.0)
    wanted = loud.gradient(x[between], torch.ones(3, dtype=torch.long))
    for name in ("2.weight", "4.bias"):
        torch.testing.assert_close(above[name] - below[name], 3 / 32 * wanted[name], rtol=2e-2, atol=2e-3)
    assert float(above["6.bias"][0] - below["6.bias"][0]) == pytest.approx(3 / 32, rel=2e-2)


@pytest.mark.parametrize("classes", [20, 0])
def test_fishing_gives_back_every_record_of_a_fully_connected_model(classes: int) -> None:
    found = played(gradient.build(scene(4)), Fishing(classes=classes)).scores["exact"]
    assert found.value == 1.0
    assert found.controls["null_model"] is not None
    assert found.controls["null_model"].value == 0


def test_class_fishing_alone_gives_back_those_alone_in_their_class() -> None:
    case = gradient.build(scene(16))
    secret = case.secret
    owner, labels = secret.client, secret.batch.labels()  # type: ignore[attr-defined]
    alone = [((owner == k) & (labels == c)).sum() == 1 for k, c in zip(owner, labels, strict=True)]
    found = played(case, Fishing(thresholds=0)).scores["exact"].value or 0
    assert found >= np.mean(alone) - 1e-9
    assert found < 0.8


def test_fishing_turns_a_batch_of_convolutions_into_single_records() -> None:
    """What no search finds of eight records at once, it finds of one at a time."""
    told = played(gradient.build(scene(8, 2, "lenet-zhu")), Fishing(steps=300)).facts
    assert float(told["psnr_db_median"] or 0) > 30


def test_fishing_reads_differences_of_weights_too() -> None:
    local = LocalTraining("delta", rate=0.1)
    case = gradient.build(replace(scene(4), local=local))
    assert played(case, Fishing()).scores["exact"].value == 1.0


def test_a_sum_over_clients_does_not_stop_fishing() -> None:
    case = gradient.build(scene(4)).defended(SecureAggregation())
    assert (played(case, Fishing()).scores["exact"].value or 0) > 0.5


def test_fishing_counts_its_rounds_and_asks_for_the_batch() -> None:
    case = gradient.build(scene(4))
    target = Target(case.victim, {Access.ROUNDS})
    attack = Fishing(thresholds=6)
    attack.run(target, case.knowledge, stream(0, "x"))
    assert target.queries <= attack.cost(case.knowledge, None) == 4 * (10 + 2 + 6)  # type: ignore[arg-type]
    ladder = case.knowledge.assumptions  # type: ignore[attr-defined]
    blind = replace(case.knowledge, assumptions=replace(ladder, batch=type(ladder.batch)()))  # type: ignore[call-arg]
    assert "grant the rung 'batch'" in (attack.obstacle(blind, None) or "")


def trained(name: str, steps: int, seed: int = 20) -> ClientNet:
    module = client_net(name, (1, 8, 8), 10, seed)
    with seeded(seed) as rng:
        fit_classifier(module, torch.from_numpy(X[:400]), torch.from_numpy(Y[:400]), rng, steps=steps, rate=1e-3)
    return ClientNet(module, InputSpec((1, 8, 8)), 10)


def blurred(net: ClientNet, seed: int = 0) -> ClientNet:
    """The model with noise on its last layer, so that no row of it is empty."""
    module = net.module
    with torch.no_grad(), seeded(seed):
        weight = module.get_submodule("6").weight
        weight.add_(1e-5 * weight.abs().max() * torch.randn_like(weight))  # type: ignore[operator]
    return ClientNet(module, net.spec, net.classes)


def test_fishing_is_seen_by_its_empty_rows_and_behind_a_blur_by_the_records_it_silences() -> None:
    cast = rod(scene(4).net).cast(3, 60.0)
    assert [alarm.name for alarm in inspect_received(cast)] == ["empty classes"]
    hidden = blurred(cast)
    assert inspect_received(hidden) == ()
    names = {alarm.name for alarm in inspect_received(hidden, X[400:432], Y[400:432])}
    assert "silenced records" in names


@pytest.mark.parametrize("name", ["relu-mlp", "relu-cnn", "cnn", "lenet-zhu"])
@pytest.mark.parametrize("steps", [1, 600])
def test_an_honest_model_hears_every_record_it_is_wrong_about(name: str, steps: int) -> None:
    net = trained(name, steps)
    for first in range(400, 800, 40):
        assert disaggregation(net, X[first : first + 16], Y[first : first + 16]).silenced == 0


def test_the_ratio_is_that_of_one_record_to_the_sum_of_the_others() -> None:
    """D-SNR on a linear model, by hand: a record's gradient is its error times the record."""
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    net = ClientNet(module, InputSpec((1, 8, 8)), 10)
    x, y = X[:5], Y[:5]
    with torch.no_grad():
        error = torch.softmax(net.logits(torch.from_numpy(x)), 1) - torch.nn.functional.one_hot(torch.from_numpy(y), 10)
    length = error.norm(dim=1).numpy() * np.linalg.norm(x.reshape(5, -1), axis=1)
    told = disaggregation(net, x, y)
    assert told.ratio == pytest.approx(length.max() / (length.sum() - length.max()), rel=1e-4)
    assert told.layer == "1.weight"
