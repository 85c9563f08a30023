"""Sweeps written by hand against autograd, twice over: gradients of problems, and their slopes in the records."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from seepage.attacks.gradient.gradients import Mapped, Stacked, cross_entropy, gradients_of, stacked_of
from seepage.attacks.gradient.local_steps import LocalSteps
from seepage.attacks.gradient.objectives import cosine, squared
from seepage.core.spec import InputSpec
from seepage.models.client_nets import CLIENT_NETS, client_net
from seepage.models.federated import ClientNet

SPEC, CLASSES = InputSpec((3, 8, 8)), 4


class Residual(nn.Module):
    """Paths that part and meet, in place and not, sizes read off, and functions in the place of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.short, self.last = nn.Conv2d(3, 4, 1, bias=False), nn.Linear(64, CLASSES)

    def forward(self, x):
        out = functional.relu(self.first(x), inplace=True)
        out = self.second(out) * 0.5 + 0.1
        out += self.short(x)
        out = functional.avg_pool2d(torch.tanh(out), 2)
        return self.last(out.view(out.size(0), -1))


class Twice(nn.Module):
    """One layer that records pass twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(192, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)

    def forward(self, x):
        x = self.again(torch.sigmoid(self.first(x.flatten(1))))
        return self.last(x * self.again(functional.gelu(x)))


class Tokens(nn.Module):
    """Fully connected layers on several vectors a record."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 5), nn.Linear(5, CLASSES)

    def forward(self, x):
        return self.last(nn.functional.softplus(self.first(x.flatten(1, 2)))).mean(1)


def odd() -> nn.Module:
    """Kernels, strides, paddings and dilations that differ by side."""
    return nn.Sequential(
        nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False),
        nn.ELU(),
        nn.Conv2d(4, 5, (1, 3), stride=(1, 2)),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(80, CLASSES, bias=False),
    )


def normalised(affine: bool = True) -> nn.Module:
    """Batch normalisation at the entrance, of pictures and of vectors."""
    return nn.Sequential(
        nn.BatchNorm2d(3, affine=affine),
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, affine=affine),
        nn.SiLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 6),
        nn.BatchNorm1d(6, affine=affine),
        nn.Tanh(),
        nn.Linear(6, CLASSES),
    )


OWN: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "twice": Twice,
    "tokens": Tokens,
    "odd": odd,
    "normalised": normalised,
    "normalised, without weights": lambda: normalised(False),
    "one layer": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES)),
}
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "layer": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.LayerNorm(6), nn.Linear(6, CLASSES)),
    "instance": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.Tanh(), nn.Flatten(), nn.Linear(144, CLASSES)
    ),
    "group": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten(), nn.Linear(144, CLASSES)
    ),
    "batch": normalised,
}


def seeded(make: Callable[[], nn.Module]) -> ClientNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make()
        for weight in module.parameters():
            nn.init.normal_(weight, std=0.4)
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d) and layer.running_var is not None:
                assert layer.running_mean is not None
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
    return ClientNet(module, SPEC, CLASSES)


def problems(net: ClientNet, records: int) -> tuple[Tensor, Tensor, Tensor]:
    """Records and distributions of three problems, to be differentiated in, and a direction of each one's weights."""
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(3, records, *SPEC.shape, generator=draws, dtype=torch.float64).requires_grad_(True)
    y = torch.rand(3, records, CLASSES, generator=draws, dtype=torch.float64).requires_grad_(True)
    return x, y, torch.randn(3, net.parameters, generator=draws, dtype=torch.float64)


def plain(net: ClientNet, mode: Any, x: Tensor, y: Tensor) -> Tensor:
    """One problem after another, by autograd, to be differentiated again."""
    body, rows = net.body(mode, torch.float64), list[Tensor]()
    for mine, own in zip(x, y, strict=True):
        loss = cross_entropy(body(mine), own).mean()
        rows.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*body.parameters()], create_graph=True)])
        )
    return torch.stack(rows)


def agree(way: Any, net: ClientNet, mode: Any, records: int) -> None:
    x, y, direction = problems(net, records)
    found, wanted = way(x, y), plain(net, mode, x, y)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    slopes, own = (torch.autograd.grad(rows, (x, y), direction) for rows in (found, wanted))
    for slope, true in zip(slopes, own, strict=True):
        torch.testing.assert_close(slope, true, rtol=1e-10, atol=1e-10 * float(true.abs().amax()))


@pytest.mark.parametrize("records", [1, 3])
@pytest.mark.parametrize("name", [*OWN, *CLIENT_NETS])
def test_sweeps_are_autograd_twice_over(name: str, records: int) -> None:
    made = OWN.get(name, lambda: client_net(name, SPEC.shape, CLASSES, 0))
    net = seeded(made) if name in OWN else ClientNet(made(), SPEC, CLASSES)
    # Of one record fully connected features have no statistics of their own.
    for mode in ("eval", "train") if records > 1 else ("eval",):
        agree(Stacked(net, mode, torch.float64), net, mode, records)
        assert stacked_of(net, mode) is not None


@pytest.mark.parametrize("name", OTHERS)
def test_slopes_of_mapped_gradients_are_those_of_each(name: str) -> None:
    """torch maps the gradients of normalisation rightly, and not their slopes: it is written out."""
    net = seeded(OTHERS[name])
    agree(Mapped(net, "train", torch.float64), net, "train", 3)


@pytest.mark.parametrize("name", ["layer", "instance", "group"])
def test_other_layers_with_weights_go_the_general_way(name: str) -> None:
    net = seeded(OTHERS[name])
    assert stacked_of(net, "eval") is None
    agree(gradients_of(net, "eval", torch.float64), net, "eval", 2)


def test_a_course_that_hangs_on_the_records_goes_the_general_way() -> None:
    class Choosing(Residual):
        def forward(self, x):
            return super().forward(x) if bool(x.detach().sum() > -1e9) else super().forward(-x)

    assert stacked_of(seeded(Choosing), "eval") is None

    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.layer = nn.Parameter(torch.ones(192)), nn.Linear(192, CLASSES)

        def forward(self, x):
            return self.layer(x.flatten(1) * self.scale)

    net = seeded(Reading)
    assert stacked_of(net, "eval") is None
    agree(gradients_of(net, "eval", torch.float64), net, "eval", 2)


def test_slopes_through_local_steps_are_those_of_the_steps() -> None:
    net = seeded(normalised)
    x, y, direction = problems(net, 3)
    found = LocalSteps(net, "train", 3, 3, 1, 0.1, torch.float64)(x, y)
    slopes = torch.autograd.grad(found, (x, y), direction)
    own = torch.autograd.grad(plain(net, "train", x, y), (x, y), -0.1 * direction)
    for slope, true in zip(slopes, own, strict=True):
        torch.testing.assert_close(slope, true, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_statistics_of_batch_normalisation_are_differentiated_through(mode: Any) -> None:
    net = seeded(normalised)
    x, y, _ = problems(net, 3)
    stacked = Stacked(net, mode, torch.float64, statistics=True)
    stacked(x, y)
    cost = sum(layer.mean.sin().sum() + layer.var.log().sum() for layer in stacked.normalisations.values())
    assert isinstance(cost, Tensor)
    (found,) = torch.autograd.grad(cost, x)
    body, seen = net.body(mode, torch.float64), list[Tensor]()
    for name in stacked.normalisations:
        body.get_submodule(name).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for mine in x:
        body(mine)
    over = [[axis for axis in range(one.dim()) if axis != 1] for one in seen]
    own = sum(
        one.mean(dim=dims).sin().sum() + one.var(dim=dims, unbiased=False).log().sum()
        for one, dims in zip(seen, over, strict=True)
    )
    assert isinstance(own, Tensor)
    torch.testing.assert_close(found, torch.autograd.grad(own, x)[0], rtol=1e-10, atol=1e-10)


def test_a_pass_can_be_asked_for_slopes_again() -> None:
    net = seeded(Residual)
    x, y, direction = problems(net, 2)
    rows = Stacked(net, "eval", torch.float64)(x, y)
    (first,) = torch.autograd.grad(rows, x, direction, retain_graph=True)
    torch.autograd.grad(rows, x, 2 - direction, retain_graph=True)
    (again,) = torch.autograd.grad(rows, x, direction)
    torch.testing.assert_close(first, again, rtol=0, atol=0)


def test_the_closed_slopes_of_objectives_are_those_of_autograd() -> None:
    draws = torch.Generator().manual_seed(0)
    found = torch.randn(3, 7, generator=draws, dtype=torch.float64)
    found[1] = 0
    wanted = torch.randn(3, 7, generator=draws, dtype=torch.float64)
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)

    def angle(a: Tensor, b: Tensor) -> Tensor:
        return 1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-12)

    for closed, own in ((cosine, angle), (squared, lambda a, b: (a - b).pow(2).sum(1))):
        leaf = found.clone().requires_grad_(True)
        costs, true = closed(leaf, wanted), own(leaf, wanted)
        torch.testing.assert_close(costs, true)
        slopes = [torch.autograd.grad(one, leaf, weights)[0] for one in (costs, true)]
        torch.testing.assert_close(slopes[0], slopes[1])
