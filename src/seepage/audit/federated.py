"""`[victim] kind = "federated"`: the scene of a federation from an audit file."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from seepage.audit.tables import FederatedTable
from seepage.cases.federation import DEFAULT, RUNGS, Federation
from seepage.core.errors import ConfigError, DataError, did_you_mean
from seepage.core.knowledge import PriorSource
from seepage.core.records import Records, Splits
from seepage.core.seeds import derive
from seepage.core.spec import InputSpec
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining
from seepage.models.training import fit_classifier, seeded
from seepage.targets import load_network

KEYS = ("net", "net_options", "build", "build_args", "weights")


def federation(
    table: FederatedTable,
    options: Mapping[str, Any],
    spec: InputSpec,
    splits: Splits,
    priors: PriorSource,
    seed: int,
    trust_pickle: bool = False,
) -> tuple[Federation, dict[str, Any]]:
    """The scene, and what tells it from others.

    Args:
        table: `[federated]`.
        options: `[victim]`: `net` (a built-in network) with `net_options`, or `build` (an import path) with
            `build_args`; and `weights`, a file.
        spec: what one input looks like.
        splits: members are the clients' records; non-members are spare ones, on which the model is trained.
        priors: where the adversary gets its priors from.
        seed: of the audit.
        trust_pickle: whether the file may run code while it is loaded.

    Raises:
        ConfigError, DataError, ModelError: for what cannot be used.
    """
    for name in options:
        if name not in KEYS:
            raise ConfigError(f"[victim] unknown key '{name}': {did_you_mean(name, KEYS)}")
    if ("net" in options) == ("build" in options):
        raise ConfigError('[victim] kind = "federated" needs net (a built-in network) or build (an import path)')
    if table.momentum:
        raise ConfigError(
            "[federated] momentum: simulated clients take steps of plain SGD; it is said of captured updates "
            '(kind = "update" or "flower")'
        )
    if table.summed:
        raise ConfigError(
            '[federated] summed: it is said of a captured update of several clients (kind = "update"); here the '
            'defense "secure-aggregation" lets the server see sums alone'
        )
    knows = DEFAULT if table.knows is None else frozenset(table.knows)
    for name in sorted(knows - RUNGS):
        raise ConfigError(f"[federated] knows: unknown rung '{name}': {did_you_mean(name, sorted(RUNGS))}")
    if splits.members.y is None:
        raise DataError("[data] members: clients train a classifier, so their records need classes")
    local = LocalTraining(table.update, table.local_batch, table.epochs, table.rate, table.mode)
    classes = len(splits.members.class_names)

    def open_net() -> ClientNet:
        if "net" in options:
            sizes = options.get("net_options", {})
            made = client_net(options["net"], spec.shape, classes, derive(seed, "net"), **sizes)
            if options.get("weights"):
                made = load_network(lambda: made, options["weights"], trust_pickle=trust_pickle)
        else:
            made = load_network(
                options["build"], options.get("weights"), options.get("build_args"), trust_pickle=trust_pickle
            )
        if table.trained:
            made = trained(made, splits.nonmembers, spec, table.trained, derive(seed, "net", "trained"))
        return ClientNet(made, spec, classes)

    scene = Federation(
        open_net=open_net,
        spec=spec,
        members=splits.members,
        nonmembers=splits.nonmembers,
        public=splits.public,
        local=local,
        clients=table.clients,
        records=table.records,
        knows=knows,
        priors=priors,
        seed=seed,
    )
    return scene, {**table.model_dump(mode="json"), "knows": sorted(knows)}


def trained(net: nn.Module, records: Records | None, spec: InputSpec, steps: int, seed: int) -> nn.Module:
    """The network after some steps on records that no client holds: a checkpoint in the midst of a federation.

    Raises:
        DataError: without such records.
    """
    if records is None or records.y is None:
        raise DataError("[federated] trained: non-members with classes are needed, for the model to be trained on")
    x = torch.from_numpy(spec.prepare(records.x)) if spec.mean or spec.std else torch.from_numpy(records.x)
    with seeded(seed) as rng:
        return fit_classifier(net, x, torch.from_numpy(records.y.astype(np.int64)), rng, steps=steps, rate=1e-3)
