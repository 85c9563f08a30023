"""A malicious server gets what theory says it gets; a client that looks at the model sees it, and rarely cries wolf."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from seepage.attacks.gradient.boenisch2023 import TrapWeights
from seepage.attacks.gradient.fowl2022 import RobbingTheFed
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
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining
from seepage.models.planted import with_imprint
from seepage.models.received import inspect_received
from seepage.models.recipes import seeded
from seepage.models.training import fit_classifier
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


@pytest.mark.parametrize("attack", [RobbingTheFed(), TrapWeights()])
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
