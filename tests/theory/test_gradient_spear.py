"""SPEAR gives whole batches back exactly, and says nothing of a batch by another batch's update."""

import time

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from seepage.attacks.gradient.dimitrov2024 import Spear
from seepage.attacks.gradient.entry import Entry, entry
from seepage.attacks.gradient.record_columns import Behind
from seepage.attacks.gradient.solving import Layer, Solution, solve
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.knowledge import GradientKnowledge
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Updates
from seepage.core.vocabulary import Access
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining

DIGITS = load_digits()
X = (DIGITS.images / 16).astype(np.float32)[:, None]
Y = DIGITS.target.astype(np.int64)
SPEC = InputSpec((1, 8, 8))
NET = ClientNet(client_net("relu-mlp", SPEC.shape, 10, 3, hidden=300), SPEC, 10)


def recovered(rows: np.ndarray, known: bool = True) -> np.ndarray:
    sent = NET.round(X[rows], Y[rows], LocalTraining(), stream(0, "client"), torch.float64)
    told = Assumptions(batch=Rung.known(len(rows))) if known else Assumptions()
    knowledge = GradientKnowledge(spec=SPEC, net=NET, classes=10, assumptions=told)
    return Spear().run(Target(Updates((sent,)), {Access.UPDATES}), knowledge, stream(0, "attack")).x


def furthest(truth: np.ndarray, found: np.ndarray) -> float:
    """Of the records, the one whose nearest reconstruction lies furthest: its greatest error in any value."""
    return max(float(np.abs(found - one).reshape(len(found), -1).max(axis=1).min()) for one in truth)


@pytest.mark.parametrize("b", [2, 4, 8])
def test_a_batch_is_recovered_to_the_last_digit(b: int) -> None:
    rows = np.random.default_rng(b).permutation(len(X))[:b]
    begun = time.process_time()
    found = recovered(rows)
    assert len(found) == b
    assert furthest(X[rows], found) < 1e-5
    assert time.process_time() - begun < 20


def test_the_rank_tells_how_many_records_there_are() -> None:
    rows = np.random.default_rng(7).permutation(len(X))[:5]
    found = recovered(rows, known=False)
    assert len(found) == 5
    assert furthest(X[rows], found) < 1e-5


def test_another_batch_s_update_says_nothing_of_this_one() -> None:
    rows = np.random.default_rng(8).permutation(len(X))[:8]
    assert furthest(X[rows[:4]], recovered(rows[4:])) > 0.2


FIRST = entry(NET)
assert FIRST is not None


def solved(x: np.ndarray, y: np.ndarray, asked: bool, first: Entry = FIRST) -> tuple[Solution, np.ndarray]:
    """What is found of a batch, with or without asking the network, and the records."""
    layer = Layer.read(NET, first, NET.round(x, y, LocalTraining(), stream(0, "client"), torch.float64))
    behind = Behind(NET, first) if asked else None
    found = solve(layer, len(x), 20_000, np.random.default_rng(0), behind)
    return found, first.records(found.inputs, SPEC.shape)


def nested(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Five digits and `count` that hardly differ from the first, in classes of their own."""
    rng = np.random.default_rng(5)
    rows = rng.permutation(len(X))[:5]
    alike = X[rows[:1]] + 0.002 * rng.random((count, *SPEC.shape)).astype(np.float32) * (X[rows[:1]] < 0.9)
    return np.concatenate([X[rows], alike]), np.append(Y[rows], (Y[rows[0]] + 1 + np.arange(count)) % 10)


@pytest.mark.parametrize("count", [1, 2])
def test_records_whose_neurons_are_off_alike_are_told_apart_by_the_network(count: int) -> None:
    x, y = nested(count)
    found, records = solved(x, y, asked=True)
    assert found.found == len(x)
    assert furthest(x, records) < 1e-5
    # By zeros alone they are not: it takes the network, not a luckier draw.
    alone, records = solved(x, y, asked=False)
    assert alone.found < len(x) or furthest(x, records) > 1e-4


def test_the_network_names_the_label_of_every_record() -> None:
    rows = np.random.default_rng(11).permutation(len(X))[:6]
    found, records = solved(X[rows], Y[rows], asked=True)
    nearest = np.abs(records[:, None] - X[rows][None]).reshape(6, 6, -1).max(axis=2).argmin(axis=1)
    assert found.labels is not None
    assert sorted(nearest) == list(range(6))
    np.testing.assert_array_equal(found.labels, Y[rows][nearest])


def test_a_column_of_the_gradient_is_the_slope_of_its_record_s_loss() -> None:
    rows = np.random.default_rng(12).permutation(len(X))[:4]
    sent = NET.round(X[rows], Y[rows], LocalTraining(), stream(0, "client"), torch.float64)
    inputs = X[rows].reshape(4, -1).astype(np.float64) * FIRST.scale + FIRST.offset
    columns = Behind(NET, FIRST).columns(inputs)[np.arange(4), Y[rows]]
    np.testing.assert_allclose(columns.T @ inputs / 4, sent.tensor(FIRST.weight), atol=1e-12)
    np.testing.assert_allclose(columns.mean(axis=0), sent.tensor(str(FIRST.bias)), atol=1e-12)


def test_what_the_rest_of_the_network_contradicts_is_not_called_determined() -> None:
    # The same first layer with its gradient, before another network: no label explains any column.
    rows = np.random.default_rng(13).permutation(len(X))[:4]
    sent = NET.round(X[rows], Y[rows], LocalTraining(), stream(0, "client"), torch.float64)
    other = NET.module
    last = [part for part in other.modules() if isinstance(part, torch.nn.Linear)][1:]
    for part in last:
        torch.nn.init.normal_(part.weight, generator=torch.Generator().manual_seed(1))
    stranger = ClientNet(other, SPEC, 10)
    found = solve(Layer.read(NET, FIRST, sent), 4, 20_000, np.random.default_rng(0), Behind(stranger, FIRST))
    assert found.found == 0
