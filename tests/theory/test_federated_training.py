"""A federation trained behind a defense, held against what can be computed without it."""

import numpy as np
import pytest
import torch
from torch import nn

from seepage.core.defense import UpdateDefense
from seepage.core.errors import ConfigError, DataError
from seepage.core.records import Records
from seepage.core.spec import InputSpec
from seepage.core.victim import Update
from seepage.core.vocabulary import Modality
from seepage.defenses.training.dp_sgd import DPSGD
from seepage.defenses.training.precode import Precode
from seepage.defenses.updates.clip import Clip
from seepage.defenses.updates.gaussian import GaussianNoise
from seepage.defenses.updates.secure_aggregation import SecureAggregation
from seepage.models import federated_training
from seepage.models.federated import ClientNet, LocalTraining
from seepage.models.federated_training import Schedule, train_federation

SPEC = InputSpec((6,), modality=Modality.TABLE)


def _records(n: int, seed: int, classes: int = 3) -> Records:
    """Blobs that a linear model can tell apart."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    centres = np.eye(classes, 6)
    x = (0.2 + 0.6 * centres[y] + rng.normal(scale=0.08, size=(n, 6))).clip(0, 1).astype(np.float32)
    return Records(x=x, y=y.astype(np.int64), class_names=tuple("abc"[:classes]))


def _net(seed: int = 0, *layers: nn.Module) -> ClientNet:
    torch.manual_seed(seed)
    return ClientNet(nn.Sequential(*(layers or (nn.Linear(6, 3),))), SPEC, 3)


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The weights of every model that was tried on held-out records."""
    seen: list[dict[str, torch.Tensor]] = []
    real = federated_training._hits

    def hits(net: ClientNet, held: Records):
        seen.append(net.weights(torch.float64))
        return real(net, held)

    monkeypatch.setattr(federated_training, "_hits", hits)
    return seen


def _far(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_a_round_over_all_records_is_a_step_of_gradient_descent(spied: list[dict[str, torch.Tensor]]) -> None:
    members, held = _records(12, 1), _records(9, 2)
    # Every client takes all it has, so that the mean of the clients' gradients is the gradient over all members.
    schedule = Schedule(rounds=3, clients=4, records=3, local=LocalTraining(), rate=0.5)
    train_federation(_net(), members, held, schedule, None, 5)
    net = _net()
    x, y = torch.from_numpy(members.x).double(), torch.from_numpy(members.labels())
    weights = net.weights(torch.float64)
    for rate in (0.5, 0.5, 0.05):  # The server's step falls over the last third.
        slope = net.gradient(x, y, weights)
        weights = {name: (w - rate * slope[name]).detach() for name, w in weights.items()}
    assert _far(spied[-1], weights) < 1e-6
    assert _far(spied[-1], net.weights(torch.float64)) > 1e-3


def test_one_local_step_is_a_gradient_at_that_rate(spied: list[dict[str, torch.Tensor]]) -> None:
    members, held = _records(40, 1), _records(9, 2)
    for local in (LocalTraining(), LocalTraining("delta", rate=0.2)):
        train_federation(_net(), members, held, Schedule(5, 4, 5, local, rate=0.2), None, 5)
    assert _far(spied[0], spied[1]) < 1e-6


def test_it_learns_and_noise_costs(spied: list[dict[str, torch.Tensor]]) -> None:
    members, held = _records(90, 1), _records(60, 2)
    schedule = Schedule(30, 6, 6, LocalTraining(), rate=1.0)
    accuracies = []
    for defense in (None, GaussianNoise(clip=1.0, multiplier=1e-4), GaussianNoise(clip=1.0, multiplier=30.0)):
        accuracies.append(train_federation(_net(), members, held, schedule, defense, 5).hits.mean())
    assert accuracies[0] > 0.95
    assert accuracies[1] > 0.95
    assert accuracies[2] < 0.8
    # The same clients, records and order: so little noise changes next to nothing.
    assert _far(spied[0], spied[1]) < 0.05


def test_a_sum_over_clients_costs_nothing_and_dropouts_are_left_out(spied: list[dict[str, torch.Tensor]]) -> None:
    members, held = _records(40, 1), _records(9, 2)
    schedule = Schedule(3, 4, 5, LocalTraining(), rate=0.5)
    for defense in (None, SecureAggregation(cohort=2), SecureAggregation(cohort=4, dropouts=1)):
        train_federation(_net(), members, held, schedule, defense, 5)
    assert _far(spied[0], spied[1]) == 0
    assert _far(spied[0], spied[2]) > 1e-4


def test_dp_sgd_without_noise_and_with_a_wide_clip_changes_nothing(spied: list[dict[str, torch.Tensor]]) -> None:
    members, held = _records(40, 1), _records(9, 2)
    schedule = Schedule(3, 4, 5, LocalTraining("delta", batch=2, epochs=2, rate=0.2))
    train_federation(_net(), members, held, schedule, None, 5)
    train_federation(_net(), members, held, schedule, DPSGD(clip=1e6, multiplier=1e-12), 5)
    train_federation(_net(), members, held, schedule, DPSGD(clip=0.01, multiplier=1e-12), 5)
    # The last step of an epoch holds one record of the two expected: half a step, which is what DP-SGD divides by.
    assert _far(spied[0], spied[1]) < 0.2
    assert _far(spied[2], _net().weights(torch.float64)) < _far(spied[0], _net().weights(torch.float64)) / 5


def test_what_diverged_is_right_about_nothing() -> None:
    members, held = _records(40, 1), _records(9, 2)
    found = train_federation(_net(), members, held, Schedule(9, 4, 5, LocalTraining(), rate=1e39), None, 5)
    assert found.diverged is not None
    assert not found.hits.any()


def test_batch_normalisation_is_tried_with_the_statistics_of_the_clients() -> None:
    members, held = _records(90, 1), _records(60, 2)
    net = _net(0, nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3))
    found = train_federation(net, members, held, Schedule(30, 6, 6, LocalTraining(), rate=0.5), None, 5)
    # With the statistics of the fresh network it is right about a third to a half of them.
    assert found.hits.mean() > 0.9


def test_the_defense_stands_before_every_client(spied: list[dict[str, torch.Tensor]]) -> None:
    members, held = _records(40, 1), _records(9, 2)
    schedule = Schedule(1, 4, 5, LocalTraining(), rate=1.0)
    train_federation(_net(), members, held, schedule, Clip(norm=1e-3), 5)
    moved = sum(float((spied[0][n] - w).square().sum()) for n, w in _net().weights(torch.float64).items()) ** 0.5
    assert 0 < moved <= 1.0001e-3


def test_a_model_that_a_defense_extends_is_trained_whole(spied: list[dict[str, torch.Tensor]]) -> None:
    members, held, schedule = _records(90, 1), _records(60, 2), Schedule(60, 6, 6, LocalTraining(), rate=0.3)
    torch.manual_seed(0)
    net = ClientNet(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)), SPEC, 3)
    defense = Precode(size=32, beta=1e-4)
    found = train_federation(net, members, held, schedule, defense, 5)
    start = defense.on_net(net)
    assert found.values == start.parameters
    moved = {name: float((spied[0][name] - w).abs().max()) for name, w in start.weights(torch.float64).items()}
    assert min(moved.values()) > 1e-3
    assert found.hits.mean() > 0.9


def test_seconds_and_sizes_are_those_of_one_client() -> None:
    found = train_federation(_net(), _records(40, 1), _records(9, 2), Schedule(3, 4, 5, LocalTraining()), None, 5)
    assert found.values == 6 * 3 + 3
    assert found.tensors == 2
    assert 0 < found.seconds < 5


class _Wider(UpdateDefense):
    name = "wider"
    title = "Another model's update"
    cites = ()

    def apply(self, update: Update, rng: np.random.Generator) -> Update:
        return Update({**update.tensors, "more": np.zeros(2)})


def test_what_cannot_be_trained_is_said() -> None:
    members, held, net = _records(12, 1), _records(9, 2), _net()
    with pytest.raises(DataError, match=r"5 clients with 3 records a round need 15 members, there are 12"):
        train_federation(net, members, held, Schedule(2, 5, 3, LocalTraining()), None, 5)
    with pytest.raises(ConfigError, match="another model's update"):
        train_federation(net, members, held, Schedule(2, 2, 3, LocalTraining()), _Wider(), 5)
    bare = Records(x=held.x, y=None, class_names=("a", "b", "c"))
    with pytest.raises(DataError, match="records with classes"):
        train_federation(net, members, bare, Schedule(2, 2, 3, LocalTraining()), None, 5)
