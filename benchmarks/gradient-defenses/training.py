"""A small federation trained behind a defense: what the defense costs in accuracy."""

import numpy as np
import torch

from seepage.core.defense import Defense, TrainingDefense, UpdateDefense
from seepage.core.records import Records
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.victim import Update
from seepage.data import load_builtin, split_records
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining, round_recipe
from seepage.models.recipes import seeded

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
    local = _local(defense, net, members)
    net = net if defense is None else defense.on_net(net)
    x, y = torch.from_numpy(members.x), torch.from_numpy(members.labels()).long()
    order = stream(seed, "bench", "clients").permutation(len(members))
    shards = np.array_split(order, CLIENTS)
    rng = stream(seed, "bench", "rounds")
    weights = net.weights()
    for number in range(rounds):
        sent = [
            _update(net, weights, x, y, rng.choice(shard, RECORDS, replace=False), defense, local, rng)
            for shard in shards
        ]
        rate = RATE if number < 2 * rounds / 3 else RATE / 10
        mean = {name: torch.from_numpy(np.mean([u.tensors[name] for u in sent], axis=0)).float() for name in weights}
        weights = {name: w.detach() - rate * mean[name] for name, w in weights.items()}
    with torch.no_grad():
        said = net.logits(torch.from_numpy(held.x), weights).argmax(dim=1).numpy()
    return float((said == held.labels()).mean())


def _local(defense: Defense | None, net: ClientNet, members: Records) -> LocalTraining:
    """What a client does behind a defense that acts inside it: what the defense sets in the recipe of a round."""
    if not isinstance(defense, TrainingDefense):
        return LocalTraining()
    options = defense.on_recipe(round_recipe(net, LocalTraining(), members, RECORDS)).options
    return LocalTraining(private=options.get("private"), pruned=options.get("pruned"))


def _update(
    net: ClientNet,
    weights: dict[str, torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
    rows: np.ndarray,
    defense: Defense | None,
    local: LocalTraining,
    rng: np.random.Generator,
) -> Update:
    picked = torch.from_numpy(rows)
    with seeded(int(rng.integers(2**62))):
        slope = net.slope(local, len(rows), rng)(x[picked], y[picked], weights)
    update = Update({name: g.detach().numpy() for name, g in slope.items()})
    return defense.apply(update, rng) if isinstance(defense, UpdateDefense) else update
