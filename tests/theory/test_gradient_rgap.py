"""R-GAP gives one record back in closed form where the equations suffice, and its rank analysis says where they do."""

import numpy as np
import pytest
import torch
from torch import nn

from seepage.attacks.gradient.chain import ChainError, chain
from seepage.attacks.gradient.entry import entry
from seepage.attacks.gradient.recursion import slopes, weights
from seepage.attacks.gradient.zhu2021 import RGap, rank_analysis
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Updates
from seepage.core.vocabulary import Access
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining
from seepage.models.training import seeded

SPEC = InputSpec((1, 12, 12), mean=(0.3,), std=(0.4,))


def built(*layers: nn.Module, classes: int = 5, seed: int = 0) -> ClientNet:
    return ClientNet(nn.Sequential(*layers), SPEC, classes)


def narrow(act: nn.Module, bias: bool, classes: int = 5) -> ClientNet:
    with seeded(3):
        return built(
            nn.Conv2d(1, 6, 3, stride=2, padding=1, bias=bias),
            act,
            nn.Conv2d(6, 8, 3, stride=1, padding=2, dilation=2, bias=bias),
            act,
            nn.Flatten(),
            nn.Linear(288, 20, bias=bias),
            act,
            nn.Linear(20, classes, bias=bias),
            classes=classes,
        )


def record(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((1, *SPEC.shape)).astype(np.float32)


def played(
    net: ClientNet, x: np.ndarray, label: int, dtype: torch.dtype = torch.float64, local: LocalTraining | None = None
) -> Reconstruction:
    y = np.full(len(x), label)
    update = net.round(x, y, local or LocalTraining(), stream(0, "client"), dtype)
    told = Assumptions(batch=Rung.known(len(x)), steps=Rung.known(1), rate=Rung.known(0.01), mode=Rung.known("eval"))
    knowledge = GradientKnowledge(spec=SPEC, net=net, classes=net.classes, assumptions=told)
    return RGap().run(Target(Updates((update,)), {Access.UPDATES}), knowledge, stream(0, "attack"))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("act", [nn.LeakyReLU(0.2), nn.Sigmoid(), nn.Tanh()], ids=lambda a: type(a).__name__)
def test_one_record_is_recovered_with_its_label(act: nn.Module, bias: bool) -> None:
    x = record(1)
    found = played(narrow(act, bias), x, 3)
    np.testing.assert_allclose(found.x, x, atol=1e-6)
    assert found.labels is not None
    assert found.labels.tolist() == [3]
    assert float(found.facts["gradient_mismatch_median"] or 0) < 1e-8


def test_a_single_step_is_a_gradient_too() -> None:
    x = record(2)
    local = LocalTraining(kind="delta", rate=0.01)
    np.testing.assert_allclose(played(narrow(nn.LeakyReLU(0.2), False), x, 1, local=local).x, x, atol=1e-5)


def test_the_published_network_in_single_precision() -> None:
    spec = InputSpec((3, 16, 16))
    net = ClientNet(client_net("cnn6", spec.shape, 10, 1), spec, 10)
    x = np.random.default_rng(4).random((1, 3, 16, 16)).astype(np.float32)
    sent = net.round(x, np.array([7]), LocalTraining(), stream(0, "client"), torch.float32)
    knowledge = GradientKnowledge(spec=spec, net=net, classes=10, assumptions=Assumptions(batch=Rung.known(1)))
    found = RGap().run(Target(Updates((sent,)), {Access.UPDATES}), knowledge, stream(0, "attack"))
    # 49.0 dB is what the replica of the published code reaches on it.
    assert -10 * np.log10(((found.x - x) ** 2).mean()) > 80


def test_twins_have_one_gradient_and_are_said_to_be_two() -> None:
    # Two classes, no biases, a record that is classified rightly: two scales solve the last layer (section 3.2).
    net = narrow(nn.LeakyReLU(0.2), False, classes=2)
    x = record(5)
    with torch.no_grad():
        label = int(net.logits(torch.from_numpy(x)).argmax())
    found = played(net, x, label)
    assert found.facts["clients_with_twins"] == 1.0
    assert float(found.facts["gradient_mismatch_median"] or 0) < 1e-6


def test_a_batch_of_two_is_not_called_consistent() -> None:
    found = played(narrow(nn.LeakyReLU(0.2), False), np.concatenate([record(6), record(7)]), 2)
    assert found.facts["clients_consistent"] == 0.0
    assert found.notes


def test_constraints_are_those_of_the_network() -> None:
    net = narrow(nn.LeakyReLU(0.2), True)
    first, link = entry(net), chain(net)[1]
    assert first is not None
    layer = net.module.double()[2]
    x = torch.randn(1, *link.given, dtype=torch.float64)
    z = layer(x)
    made = weights(link) @ x.numpy().reshape(-1) + np.repeat(link.bias, 36)
    np.testing.assert_allclose(made, z.detach().numpy().reshape(-1), atol=1e-12)
    k = torch.randn_like(z)
    gradient = torch.autograd.grad(z, layer.weight, k)[0]
    rows = slopes(link, k[0].numpy()) @ x.numpy().reshape(link.given[0], -1).T
    np.testing.assert_allclose(rows, gradient.numpy().transpose(0, 2, 3, 1).reshape(-1, link.given[0]), atol=1e-12)


def test_rank_analysis_tells_what_comes_out() -> None:
    # A first layer of two channels and large strides: fewer equations than pixels.
    with seeded(4):
        open_ = built(
            nn.Conv2d(1, 2, 3, stride=3, bias=False), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(32, 5, bias=False)
        )
    assert [ok for *_, ok in rank_analysis(open_)] == [False]
    assert np.abs(played(open_, record(8), 1).x - record(8)).max() > 0.1
    assert all(ok for *_, ok in rank_analysis(narrow(nn.LeakyReLU(0.2), False)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.act, self.b = nn.Linear(144, 144), nn.LeakyReLU(0.2), nn.Linear(144, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        return self.b(x + self.act(self.a(x)))


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (Residual(), "no layer of its own"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(100, 5)), "MaxPool2d"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(400, 5)), "GELU"),
        (nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 5)), "value by value"),
    ],
)
def test_other_networks_are_refused_with_a_reason(net: nn.Module, said: str) -> None:
    with pytest.raises(ChainError, match=said):
        chain(ClientNet(net, SPEC, 5))
