"""Many networks trained at once are the networks that would have been trained one by one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from seepage.models import nets
from seepage.models.many import Schedule, fit_many, fit_one
from seepage.models.recipes import RECIPES
from seepage.models.stacked import Stack, can_stack
from seepage.models.training import seeded

Tensors = tuple[list[torch.Tensor], list[torch.Tensor]]


def _records(shape: tuple[int, ...], sizes: tuple[int, ...] = (60, 60, 61)) -> Tensors:
    rng = torch.Generator().manual_seed(0)
    xs = [torch.rand((n, *shape), generator=rng) for n in sizes]
    return xs, [torch.randint(3, (n,), generator=rng) for n in sizes]


def _apart(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def _dense() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(12, 10),
        nn.LayerNorm(10),
        nn.GELU(),
        nn.Linear(10, 8, bias=False),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )


def _pictures() -> nn.Module:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.SiLU(), nn.AvgPool2d(2)),
        # Without bias: normalisation takes it away again, and its slope is rounding, which Adam makes steps of.
        nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2, bias=False),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], bool]] = {
    "layered": (lambda: nets.layered((12,), 3, (9, 7)), (12,), False),
    "softmax": (lambda: nets.softmax_regression((1, 4, 4), 3), (1, 4, 4), True),
    "dense": (_dense, (12,), False),
    "pictures": (_pictures, (2, 8, 8), False),
    "augmented": (_pictures, (2, 8, 8), True),
}


@pytest.mark.parametrize("name", CASES)
def test_each_comes_out_as_alone(name: str) -> None:
    build, shape, augment = CASES[name]
    # Sizes that ask for as many steps each, though one has a record more.
    xs, ys = _records(shape)
    schedule = Schedule(epochs=5, rate=1e-2, least=1, batch=16, augment=augment)
    assert len({schedule.steps(len(x)) for x in xs[:2]}) == 1
    xs, ys = xs[:2], ys[:2]
    together = fit_many(build, xs, ys, [3, 4], schedule)
    alone = [fit_one(build, x, y, seed, schedule) for x, y, seed in zip(xs, ys, [3, 4], strict=True)]
    for one, other in zip(together, alone, strict=True):
        assert _apart(one, other) < 2e-4
        assert not one.training
    # Other seeds and records are other models, and training moved them all.
    assert _apart(together[0], together[1]) > 1e-2
    with seeded(3):
        assert _apart(together[0], build()) > 1e-2


def test_sizes_that_ask_for_other_steps_are_trained_in_groups() -> None:
    xs, ys = _records((12,), (20, 90, 20, 90, 400))
    schedule = Schedule(epochs=5, rate=1e-2, least=1, batch=16)

    def build() -> nn.Module:
        return nets.layered((12,), 3, (5,))

    together = fit_many(build, xs, ys, [1, 2, 3, 4, 5], schedule)
    for i, net in enumerate(together):
        assert _apart(net, fit_one(build, xs[i], ys[i], i + 1, schedule)) < 2e-4


def test_one_record_more_does_not_part_models() -> None:
    xs, ys = _records((12,), (640, 641))
    schedule = Schedule(epochs=30, rate=1e-2, least=1, batch=16)
    assert schedule.steps(640) < schedule.steps(641) <= schedule.steps(640) * 1.01
    calls: list[int] = []

    def build() -> nn.Module:
        calls.append(1)
        return nets.layered((12,), 3, (5,))

    # Each is built once: alone, a model would be built again.
    fit_many(build, xs, ys, [1, 2], schedule)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("shape", "width", "stacked"), [((12,), 5, True), ((12,), 20_000, False), ((1, 20, 20), 5, False)]
)
def test_large_ones_are_trained_one_by_one(shape: tuple[int, ...], width: int, stacked: bool) -> None:
    """Stacking them takes as long or longer (benchmarks/membership-speed)."""
    calls: list[int] = []

    def build() -> nn.Module:
        calls.append(1)
        return nets.layered(shape, 3, (width,))

    xs, ys = _records(shape, (20, 20))
    fit_many(build, xs, ys, [1, 2], Schedule(epochs=1, rate=1e-2, least=1))
    # Alone, each is built once more.
    assert len(calls) == (2 if stacked else 4)


def test_networks_of_a_stack_do_not_meet() -> None:
    """The loss of one has no slope by the weights of another."""
    made = [nets.layered((12,), 3, (5,)) for _ in range(3)]
    stack = Stack(made)
    stack(torch.rand(3, 4, 12))[1].square().sum().backward()
    for parameter in stack.parameters.values():
        assert parameter.grad is not None
        assert parameter.grad[1].abs().max() > 0
        assert parameter.grad[[0, 2]].abs().max() == 0


def test_dropout_differs_between_networks() -> None:
    stack = Stack([nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Identity()) for _ in range(2)])
    dropped = stack(torch.ones(1, 1, 1000).expand(2, 1, 1000).clone())
    assert 0.4 < float((dropped[0] != dropped[1]).float().mean()) < 0.6


class Odd(nn.Module):
    """A layer nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.sin())


def test_what_cannot_be_stacked_is_trained_one_by_one() -> None:
    assert not can_stack(Odd())
    assert not can_stack(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")))
    assert not can_stack(nn.Sequential(nn.BatchNorm1d(3, momentum=None)))
    assert can_stack(nets.cnn((1, 16, 16), 3))
    with pytest.raises(ValueError, match="cannot be stacked"):
        Stack([Odd()])
    xs, ys = _records((12,))
    schedule = Schedule(epochs=2, rate=1e-2, least=1)
    for net, x, y, seed in zip(fit_many(Odd, xs, ys, [1, 2, 3], schedule), xs, ys, [1, 2, 3], strict=True):
        assert _apart(net, fit_one(Odd, x, y, seed, schedule)) == 0


@pytest.mark.parametrize("name", ["network", "cnn", "softmax", "mlp"])
def test_recipes_train_several_as_well_as_one(name: str) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    x = (rng.random((90, 1, 8, 8)) * 0.5 + y[:, None, None, None] * 0.2).clip(0, 1).astype(np.float32)
    known, options = (
        RECIPES[name],
        {"epochs": 3, **({"hidden": [16] if name == "network" else 16} if name in ("network", "mlp") else {})},
    )
    assert known.many is not None
    nets_ = known.many([x[:60], x[30:]], [y[:60], y[30:]], [1, 2], **options, classes=4)
    right = [float((net(torch.from_numpy(x)).argmax(dim=1).numpy() == y).mean()) for net in nets_]
    one = known.fit(x[:60], y[:60], 1, **options, classes=4)
    alone = float((one(torch.from_numpy(x)).argmax(dim=1).numpy() == y).mean())
    assert right[0] == pytest.approx(alone, abs=0.1)
    # Four classes, of which the records have three.
    assert nets_[0](torch.from_numpy(x[:2])).shape == (2, 4)
