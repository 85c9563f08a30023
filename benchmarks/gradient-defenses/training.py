"""A small federation trained behind a defense: what the defense costs in accuracy."""

import numpy as np
import torch

from seepage.core.defense import Defense, UpdateDefense
from seepage.core.records import Records
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.victim import Update
from seepage.data import load_builtin, split_records
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet
from seepage.models.private import PerRecord, private_gradient

CLIENTS, RECORDS, RATE, HIDDEN = 10, 4, 0.3, 100


def data(seed: int) -> tuple[Records, Records]:
    """Records of the clients, and held-out ones."""
    splits = split_records(load_builtin("digits"), 0.5, 0.3, 0.2, seed)
    assert splits.nonmembers is not None
    return splits.members, splits.nonmembers


def accuracy(defense: Defense | None, seed: int, rounds: int) -> float:
    """Accuracy on held-out records after `rounds` of FedSGD, every update behind the defense.

    The server steps along the mean of what it receives; the rate falls to a tenth over the last third.
    """
    members, held = data(seed)
    spec = InputSpec((1, 8, 8))
    net = ClientNet(client_net("relu-mlp", spec.shape, 10, seed, hidden=HIDDEN), spec, 10)
    x, y = torch.from_numpy(members.x), torch.from_numpy(members.labels()).long()
    order = stream(seed, "bench", "clients").permutation(len(members))
    shards = np.array_split(order, CLIENTS)
    rng = stream(seed, "bench", "rounds")
    weights = net.weights()
    for number in range(rounds):
        sent = [
            _update(net, weights, x, y, rng.choice(shard, RECORDS, replace=False), defense, rng) for shard in shards
        ]
        rate = RATE if number < 2 * rounds / 3 else RATE / 10
        mean = {name: torch.from_numpy(np.mean([u.tensors[name] for u in sent], axis=0)).float() for name in weights}
        weights = {name: w.detach() - rate * mean[name] for name, w in weights.items()}
    with torch.no_grad():
        said = net.logits(torch.from_numpy(held.x), weights).argmax(dim=1).numpy()
    return float((said == held.labels()).mean())


def _update(
    net: ClientNet,
    weights: dict[str, torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
    rows: np.ndarray,
    defense: Defense | None,
    rng: np.random.Generator,
) -> Update:
    picked = torch.from_numpy(rows)
    if defense is not None and defense.name == "dp-sgd":
        private = PerRecord(defense.clip, defense.multiplier)  # type: ignore[attr-defined]
        draws = torch.Generator().manual_seed(int(rng.integers(2**62)))
        slope = private_gradient(net.loss, x[picked], y[picked], weights, private, len(rows), draws)
    else:
        slope = net.gradient(x[picked], y[picked], weights)
    update = Update({name: g.detach().numpy() for name, g in slope.items()})
    return defense.apply(update, rng) if isinstance(defense, UpdateDefense) else update
