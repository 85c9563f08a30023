"""A federation trained behind a defense, held against what can be computed without it."""

from importlib.util import find_spec

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
from seepage.models.text_nets import text_net

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


# Texts

needs_transformers = pytest.mark.skipif(find_spec("transformers") is None, reason="the extra [lm] is not installed")


def _texts(n: int, seed: int) -> Records:
    """Token numbers, of which the first of a text tells its class."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    rows = np.concatenate([(y + 1)[:, None], rng.integers(3, 9, size=(n, 4))], axis=1)
    texts = [" ".join(map(str, row)) for row in rows.tolist()]
    return Records.of_texts(texts, y=y.astype(np.int64), class_names=("a", "b"))


@needs_transformers
def test_a_federation_of_texts_learns_what_its_texts_show() -> None:
    net = text_net("tiny-bert", 9, 2, 0, width=16, heads=2, layers=1, length=8)
    schedule = Schedule(40, 4, 6, LocalTraining(mode="eval"), rate=0.5)
    found = train_federation(net, _texts(48, 1), _texts(20, 2), schedule, None, 5)
    assert found.hits.mean() > 0.9
    assert found.values == net.parameters


@needs_transformers
def test_a_round_over_all_texts_is_a_step_of_gradient_descent(spied: list[dict[str, torch.Tensor]]) -> None:
    net, members = text_net("tiny-bert", 9, 2, 0, width=16, heads=2, layers=1, length=8), _texts(12, 1)
    train_federation(net, members, _texts(6, 2), Schedule(1, 4, 3, LocalTraining(mode="eval"), rate=0.5), None, 5)
    y = torch.from_numpy(members.labels())
    slope = net.gradient(net.encode(members.texts), y, net.weights())
    step = {name: (w - 0.5 * slope[name].detach()).double() for name, w in net.weights().items()}
    assert _far(spied[0], step) < 1e-6


@needs_transformers
def test_of_next_tokens_the_share_counts_that_is_named() -> None:
    net = text_net("tiny-gpt", 9, 0, 0, "causal-lm", width=16, heads=2, layers=1, length=8)
    held = Records.of_texts(["1 2 3 4", "5", "6 7"])
    found = federated_training._hits(net, held)
    batch = net.encode(held.texts)
    said = net.logits(torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)).argmax(dim=-1)
    whole = [float((said[0, :3] == torch.tensor([2, 3, 4])).float().mean()), 0.0, float(said[2, 0] == 7)]
    assert found.tolist() == pytest.approx(whole)
    # Members of a model of the next token need no classes.
    trained = train_federation(net, held, held, Schedule(1, 1, 2, LocalTraining(mode="eval")), None, 1)
    assert len(trained.hits) == 3
