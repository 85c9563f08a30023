"""A whole federation trained behind a defense: what the defense costs in accuracy, and a client in seconds."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from seepage.core.defense import AggregateDefense, Defense
from seepage.core.errors import ConfigError, DataError
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.seeds import derive, stream
from seepage.core.victim import Update, Updates
from seepage.models.federated import ClientNet, LocalTraining, round_recipe
from seepage.models.text_clients import TextNet, text_recipe

Array = np.ndarray
Net = ClientNet | TextNet
# The server's step falls to a tenth over the last third, so that noise averages out.
LAST, SLOWER = 2 / 3, 0.1
# Records that batch normalisation's statistics are taken over, after training.
STATISTICS = 512
# Texts that are read at a time.
TOGETHER = 64


@dataclass(frozen=True)
class Schedule:
    """A federation.

    Attributes:
        rounds: how many.
        clients: who each send an update in every round.
        records: how many of its own records a client draws for a round.
        local: what it does with them.
        rate: the server steps so far along the mean gradient; mean changes of the weights are added as they are.
    """

    rounds: int
    clients: int
    records: int
    local: LocalTraining
    rate: float = 0.3


@dataclass(frozen=True)
class Trained:
    """What came of a federation.

    Attributes:
        hits: (n,) which of the held-out records the last model classifies rightly, 0 or 1; of a model of the next
            token, the share of each text's next tokens that it names.
        seconds: CPU seconds one client takes for one round, the defense included: the median over rounds.
        values: numbers in one update.
        tensors: arrays in one update.
        diverged: the round after which the weights were no finite numbers; such a model classifies nothing rightly.
    """

    hits: Float[Array, " n"]
    seconds: float
    values: int
    tensors: int
    diverged: int | None = None


def train_federation(
    net: Net, members: Records, held: Records, schedule: Schedule, defense: Defense | None, seed: int
) -> Trained:
    """Train by rounds of federated learning (FedSGD for gradients, FedAvg for changes of the weights).

    The members are dealt out to the clients once. In every round each client draws records of its own and sends
    what a client of an audit sends, behind the defense; the server goes along the mean (McMahan et al. 2017,
    Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS, algorithm 1, equal shares).
    Of sums over clients the mean is exact to their rounding, so it is taken here without playing the protocol.

    Two defenses under one seed meet the same clients, records and order: their accuracies can be held against each
    other record by record.

    Args:
        net: the model before the first round.
        members: the clients' records, with classes (but for a model of the next token).
        held: records that no client has, likewise.
        schedule: rounds, clients and what they do.
        defense: of the updates, of their sum, or inside the client; None for none.
        seed: of everything drawn.

    Raises:
        DataError: when there are too few members, or classes are missing.
        ConfigError: when the defense does not act on such clients, or sends the update of another model.
    """
    if _needs_classes(net) and (members.y is None or held.y is None):
        raise DataError("a federation is trained on records with classes, and tried on others; there are none")
    if defense is not None and defense.extends:
        # All that such a defense does is in the model: that one is trained from the first round on.
        net, defense = defense.on_net(net), None
    shards = _shards(len(members), schedule, seed)
    answered = _answered(defense, schedule.clients)
    module, before = net.module, net.weights()
    spent: list[float] = []
    diverged = None
    sent: Updates | None = None
    for number in range(schedule.rounds):
        drawn = stream(seed, "federated training", "records", str(number))
        rows = np.stack([drawn.choice(shard, schedule.records, replace=False) for shard in shards])
        here = _again(net, module)
        begun = time.process_time()
        sent = _round(here, members, rows, schedule.local, defense, derive(seed, "federated training", str(number)))
        spent.append((time.process_time() - begun) / schedule.clients)
        _check(sent, before, defense)
        weights = _stepped(here.weights(), sent, answered, schedule, number)
        if not all(bool(torch.isfinite(w).all()) for w in weights.values()):
            diverged = number + 1
            break
        with torch.no_grad():
            for name, weight in module.named_parameters():
                # Frozen ones stay as they were sent.
                weight.copy_(weights.get(name, weight))
    last = _again(net, module)
    if isinstance(last, ClientNet) and schedule.local.mode == "train" and last.has_batch_norm:
        last = _with_statistics(last, members, stream(seed, "federated training", "statistics"))
    hits = np.zeros(len(held)) if diverged else _hits(last, held)
    first = sent.clients[0].tensors if sent is not None else {name: w.numpy() for name, w in before.items()}
    values = sum(int(np.asarray(t).size) for t in first.values())
    return Trained(hits, statistics.median(spent) if spent else 0.0, values, len(first), diverged)


def _shards(members: int, schedule: Schedule, seed: int) -> list[Int[Array, " m"]]:
    """The members of each client."""
    if members < schedule.clients * schedule.records:
        raise DataError(
            f"{schedule.clients} clients with {schedule.records} records a round need "
            f"{schedule.clients * schedule.records} members, there are {members}"
        )
    order = stream(seed, "federated training", "clients").permutation(members)
    return np.array_split(order, schedule.clients)


def _answered(defense: Defense | None, clients: int) -> list[int]:
    """The clients whose updates reach the mean."""
    if not isinstance(defense, AggregateDefense):
        return list(range(clients))
    return sorted(client for group in defense.groups(clients) for client in group)


def _round(
    net: Net, members: Records, rows: Int[Array, " k n"], local: LocalTraining, defense: Defense | None, seed: int
) -> Updates:
    """What the clients send in one round."""
    recipe = _recipe(net, local, members[rows.reshape(-1)], rows.shape[1], "federated training")
    inside = defense is not None and defense.retrains
    if inside and defense is not None:
        recipe = defense.on_recipe(recipe)
    sent = recipe.fit(np.arange(rows.size), seed)
    if defense is not None and not inside and not isinstance(defense, AggregateDefense):
        sent = defense.on_victim(sent, stream(seed, "federated training", "defense"))
    if not isinstance(sent, Updates):
        raise TypeError(f"a round gave a {type(sent).__name__}")
    return sent


def _check(sent: Updates, weights: Mapping[str, torch.Tensor], defense: Defense | None) -> None:
    """Nothing, unless the server could not add what was sent to its model."""
    known = {name: tuple(w.shape) for name, w in weights.items()}
    for update in sent.clients:
        if {name: tuple(np.shape(t)) for name, t in update.tensors.items()} != known:
            name = "none" if defense is None else defense.name
            raise ConfigError(f"the defense '{name}' sends another model's update: its federation is not trained here")


def _stepped(
    weights: Mapping[str, torch.Tensor], sent: Updates, answered: list[int], schedule: Schedule, number: int
) -> dict[str, torch.Tensor]:
    """The server's weights after a round."""
    share = 1.0 if number < LAST * schedule.rounds else SLOWER
    along = -schedule.rate * share if schedule.local.kind == "gradient" else share
    clients: list[Update] = [sent.clients[client] for client in answered]
    mean = {name: np.mean([np.asarray(u.tensors[name], dtype=np.float64) for u in clients], axis=0) for name in weights}
    return {name: (w.double() + along * torch.from_numpy(mean[name])).to(w.dtype) for name, w in weights.items()}


def _with_statistics(net: ClientNet, members: Records, rng: np.random.Generator) -> ClientNet:
    """The network with batch normalisation's running statistics taken over the clients' records."""
    rows = np.sort(rng.permutation(len(members))[:STATISTICS])
    found, module = net.batch_statistics(members.x[rows]), net.module
    with torch.no_grad():
        for name, layer in module.named_modules():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):  # pyright: ignore[reportPrivateUsage]
                for part, kept in (("mean", layer.running_mean), ("var", layer.running_var)):
                    if kept is not None:
                        kept.copy_(torch.from_numpy(found[f"{name}.{part}"]))
    return ClientNet(module, net.spec, net.classes)


def _hits(net: Net, held: Records) -> Float[Array, " n"]:
    if isinstance(net, TextNet):
        return _text_hits(net, held)
    with torch.no_grad():
        said = net.logits(torch.from_numpy(held.x)).argmax(dim=1).numpy()
    return np.asarray(said == held.labels(), dtype=np.float64)


def _text_hits(net: TextNet, held: Records) -> Float[Array, " n"]:
    batch = net.encode(held.texts)
    found: list[Array] = []
    for rows in np.array_split(np.arange(len(batch)), -(-len(batch) // TOGETHER)):
        some = batch[rows]
        ids, mask = torch.from_numpy(some.ids), torch.from_numpy(some.mask)
        with torch.no_grad():
            said = net.logits(ids, mask).argmax(dim=-1).numpy()
        if net.task == "classification":
            found.append(said == held.labels()[rows])
            continue
        follows = some.mask[:, 1:]
        right = ((said[:, :-1] == some.ids[:, 1:]) & follows).sum(axis=1)
        # A text of one token has no next one: nothing of it was named.
        found.append(right / np.maximum(follows.sum(axis=1), 1))
    return np.concatenate(found).astype(np.float64)


def _needs_classes(net: Net) -> bool:
    return not (isinstance(net, TextNet) and net.task == "causal-lm")


def _again(net: Net, module: nn.Module) -> Net:
    """The same kind of model with other weights."""
    if isinstance(net, TextNet):
        return TextNet(module, net.task, net.tokenizer, net.length)
    return ClientNet(module, net.spec, net.classes)


def _recipe(net: Net, local: LocalTraining, records: Records, each: int, name: str) -> Recipe:
    if isinstance(net, TextNet):
        return text_recipe(net, local, records, each, name)
    return round_recipe(net, local, records, each, name)
