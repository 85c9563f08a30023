"""SPEAR gives whole batches back exactly, and says nothing of a batch by another batch's update."""

import time

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from seepage.attacks.gradient.dimitrov2024 import Spear
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
