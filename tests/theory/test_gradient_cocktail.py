"""Independent components unmix a gradient, and the network makes what comes out exact."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn

from seepage.attacks.gradient.features import Pictured, records_of
from seepage.attacks.gradient.inside import inside
from seepage.attacks.gradient.kariyappa2023 import CocktailParty
from seepage.attacks.gradient.unmixing import components, edges
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge
from seepage.core.outlook import Outlook
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Update, Updates
from seepage.core.vocabulary import Access
from seepage.defenses.updates.secure_aggregation import SecureAggregation
from seepage.models.bottleneck import Bottleneck, with_bottleneck
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining
from seepage.models.nets import mlp
from seepage.models.training import seeded
from seepage.testing.cases import gradient_case

SPEC = InputSpec((3, 24, 24), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.3))
PICTURES = load_sample_images().images


def crops(n: int, seed: int) -> np.ndarray:
    """(n, 3, 24, 24) pieces of two photographs, every second pixel."""
    rng, found = np.random.default_rng(seed), []
    for k in range(n):
        top, left = int(rng.integers(427 - 48)), int(rng.integers(640 - 48))
        found.append(PICTURES[k % 2][top : top + 48 : 2, left : left + 48 : 2].transpose(2, 0, 1) / 255)
    return np.stack(found).astype(np.float32)


def net_of(name: str, hidden: int = 200) -> ClientNet:
    if name == "relu-mlp":
        return ClientNet(client_net(name, SPEC.shape, 10, 1, hidden=hidden), SPEC, 10)
    with seeded(1):
        return ClientNet(mlp(SPEC.shape, 10, hidden), SPEC, 10)


def played(net: ClientNet, update: Update, batch: int | None, attack: CocktailParty) -> Reconstruction:
    told = Assumptions() if batch is None else Assumptions(batch=Rung.known(batch))
    knowledge = GradientKnowledge(spec=net.spec, net=net, classes=net.classes, assumptions=told)
    return attack.run(Target(Updates((update,)), {Access.UPDATES}), knowledge, stream(0, "attack"))


def sent(net: ClientNet, x: np.ndarray, y: np.ndarray, dtype: torch.dtype = torch.float64) -> Update:
    return net.round(x, y, LocalTraining(), stream(0, "client"), dtype)


def decibels(found: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Of each record, by its nearest reconstruction."""
    apart = ((found[:, None] - x[None]) ** 2).reshape(len(found), len(x), -1).mean(axis=2)
    return -10 * np.log10(apart.min(axis=0) + 1e-40)


@pytest.mark.parametrize(("name", "b"), [("relu-mlp", 10), ("sigmoid", 16)])
def test_a_batch_is_exact_behind_any_activation(name: str, b: int) -> None:
    x, y = crops(b, 1), np.arange(b) % 10
    net = net_of(name, hidden=400 if name == "relu-mlp" else 200)
    found = played(net, sent(net, x, y), b, CocktailParty())
    assert decibels(found.x, x).min() > 100
    assert found.facts["records_confirmed"] == b
    assert found.labels is not None
    assert sorted(found.labels) == sorted(y)


def test_single_precision_and_a_batch_not_told() -> None:
    x, y = crops(12, 2), np.arange(12) % 10
    net = net_of("sigmoid")
    found = played(net, sent(net, x, y, torch.float32), None, CocktailParty())
    assert len(found.x) == 12
    assert decibels(found.x, x).min() > 60


def test_components_alone_are_near_and_have_scale_and_sign() -> None:
    x, y = crops(8, 3), np.arange(8)
    net = net_of("relu-mlp")
    update = sent(net, x, y)
    near = decibels(played(net, update, 8, CocktailParty(closing=False)).x, x)
    assert np.median(near) > 18
    other = sent(net, crops(8, 4), y)
    assert np.median(near) > np.median(decibels(played(net, other, 8, CocktailParty(closing=False)).x, x)) + 5


def test_another_batch_s_update_says_nothing_of_this_one() -> None:
    net = net_of("sigmoid")
    found = played(net, sent(net, crops(8, 5), np.arange(8)), 8, CocktailParty())
    assert decibels(found.x, crops(8, 6)).max() < 25


def test_a_sum_over_clients_is_one_large_batch() -> None:
    case = gradient_case(3).defended(SecureAggregation())
    assert case.knowledge.clients == 1
    secret = case.secret.batch.x
    found = CocktailParty().run(Target(case.victim, CocktailParty.needs), case.knowledge, stream(0, "attack"))
    assert len(found.x) == len(secret)
    assert (decibels(found.x, secret) > 60).sum() >= len(secret) - 1


def test_edges_are_mixed_as_pictures_are() -> None:
    x = np.random.default_rng(0).normal(size=(3, 2 * 5 * 4))
    mix = np.random.default_rng(1).normal(size=(3, 3))
    np.testing.assert_allclose(edges(mix @ x, (2, 5, 4)), mix @ edges(x, (2, 5, 4)), atol=1e-12)
    assert edges(x, (40,)) is x


def test_components_find_sources_that_are_independent() -> None:
    rng = np.random.default_rng(2)
    sources = rng.laplace(size=(4, 20_000))
    unmixed = components(rng.normal(size=(4, 4)) @ sources, stream(0, "components"))
    mixed_by = rng.normal(size=(4, 4))
    found = components(mixed_by @ sources, stream(0, "components")) @ mixed_by
    share = np.abs(found) / np.linalg.norm(found, axis=1, keepdims=True)
    assert unmixed.shape == (4, 4)
    assert sorted(share.argmax(axis=1)) == [0, 1, 2, 3]
    assert share.max(axis=1).min() > 0.99


def outlook(net: ClientNet, update: Update, batch: int) -> Outlook:
    told = Assumptions(batch=Rung.known(batch))
    found = CocktailParty().outlook(GradientKnowledge(spec=net.spec, net=net, classes=10, assumptions=told), update)
    assert found is not None
    return found


def test_outlook_knows_width_and_rank() -> None:
    x, y = crops(24, 7), np.arange(24) % 10
    wide, slim = net_of("sigmoid"), net_of("sigmoid", hidden=20)
    assert outlook(wide, sent(wide, x, y), 24).prospect == "expected"
    assert outlook(slim, sent(slim, x, y), 24).prospect == "unlikely"
    # As many mixtures as classes at most, of 24 records.
    conv = ClientNet(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 22 * 22, 10)), SPEC, 10)
    assert outlook(conv, sent(conv, x, y), 24).prospect == "unlikely"
    few = outlook(conv, sent(conv, x[:4], y[:4]), 4)
    assert few.prospect == "possible"
    assert "features" in few.why
    bare = ClientNet(nn.Sequential(nn.Conv2d(3, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), SPEC, 10)
    assert outlook(bare, sent(bare, x, y), 24).prospect == "impossible"


def conv_net(seed: int = 1, dropout: float = 0.0, norm: bool = False) -> ClientNet:
    with seeded(seed):
        layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1)]
        layers += [nn.BatchNorm2d(32)] * norm + [nn.ReLU(), nn.Flatten()] + [nn.Dropout(dropout)] * bool(dropout)
        return ClientNet(nn.Sequential(*layers, nn.Linear(32 * 12 * 12, 150), nn.ReLU(), nn.Linear(150, 10)), SPEC, 10)


class Round(nn.Module):
    """A network with a way round its fully connected layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.hidden, self.last = nn.Conv2d(3, 4, 3, stride=4), nn.Linear(144, 20), nn.Linear(20, 10)
        self.around = nn.Linear(144, 10, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.first(x).flatten(1)
        return self.last(self.hidden(z).relu()) + self.around(z)


def test_the_layer_further_in_is_found_by_trying() -> None:
    found = inside(conv_net())
    assert found is not None
    assert (found.entry.name, found.shape, found.closed, found.dropout) == ("5", (32, 12, 12), True, 0.0)
    assert (found.low == 0).all()
    left_out = inside(conv_net(dropout=0.3))
    assert left_out is not None
    assert left_out.dropout == 0.3
    # A way round it: what follows hangs on more than its input. The last layer is the first that all goes through.
    around = inside(ClientNet(Round(), SPEC, 10))
    assert around is None or around.entry.name != "hidden"


class Recurrent(nn.Module):
    """A network whose first layer gives a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.last = nn.LSTM(72, 16, batch_first=True), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.rows(x.permute(0, 2, 1, 3).flatten(2))[0][:, -1])


def test_layers_that_give_more_than_a_tensor_are_passed_over() -> None:
    found = inside(ClientNet(Recurrent(), SPEC, 10))
    assert found is not None
    assert found.entry.name == "last"


@pytest.mark.parametrize("norm", [False, True])
def test_features_of_a_convolutional_network_are_exact(norm: bool) -> None:
    """With batch normalisation before the layer, too, by the batch's own statistics: columns do not hang on it."""
    net, x, y = conv_net(norm=norm), crops(8, 8), np.arange(8)
    update, layer = sent(net, x, y), inside(net)
    assert layer is not None
    z = net.inside(layer.entry.name, torch.from_numpy(x).double(), mode="train")[0].numpy()
    kept: list[np.ndarray] = []

    def watched(*args: object, **more: object) -> Pictured:
        kept.append(np.asarray(args[2]))
        return Pictured(np.zeros_like(x), np.zeros(8))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seepage.attacks.gradient.kariyappa2023.records_of", watched)
        found = played(net, update, 8, CocktailParty())
    assert np.abs(kept[0][:, None] - z[None]).max(axis=2).min(axis=0).max() < 1e-9
    assert found.facts["records_confirmed"] == 8
    assert sorted(found.labels if found.labels is not None else []) == sorted(y)


@pytest.mark.parametrize("b", [1, 5])
def test_a_bottleneck_behind_the_layer_hides_nothing_of_its_input(b: int) -> None:
    """PRECODE draws behind the hidden layer: the network cannot be asked, and the zeros of its ReLU are enough."""
    net = with_bottleneck(conv_net(), Bottleneck(16))
    x, y = crops(b, 12), np.arange(b)
    layer = inside(net)
    assert layer is not None
    assert not layer.closed
    attack = CocktailParty(search=1, restarts=1)
    found = played(net, sent(net, x, y), b, attack)
    assert found.facts["records_confirmed"] == b
    assert found.labels is None


def test_pictures_come_from_features() -> None:
    net, x, y = conv_net(), crops(4, 9), np.arange(4)
    found = played(net, sent(net, x, y, torch.float32), 4, CocktailParty(search=300, restarts=1))
    other = played(net, sent(net, crops(4, 10), y, torch.float32), 4, CocktailParty(search=300, restarts=1))
    assert decibels(found.x, x).min() > 20
    # Two pieces of one photograph may be alike: each is held against the same control.
    assert (decibels(found.x, x) > decibels(other.x, x) + 5).all()


def test_what_dropout_left_out_is_not_matched() -> None:
    net, x = conv_net(dropout=0.5), crops(3, 11)
    z = net.inside("6", torch.from_numpy(x).double(), mode="eval")[0].numpy()
    z = np.where(np.random.default_rng(0).random(z.shape) < 0.5, 0, 2 * z)
    rng, owner = np.random.default_rng(1), np.zeros(3, dtype=np.int64)
    told = records_of(net, "6", z, owner, "train", 0.5, 300, 1, rng)
    blind = records_of(net, "6", z, owner, "train", 0.0, 300, 1, rng)
    assert np.median(decibels(told.x, x)) > np.median(decibels(blind.x, x)) + 3
