"""`[victim] kind = "federated"` where clients train on texts: the scene of an audit file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seepage.audit.client_texts import read_texts, text_facts
from seepage.audit.config import AuditConfig
from seepage.audit.options import fingerprints, victim_options, where_from
from seepage.audit.records import packages, splits_identity
from seepage.audit.scenery import Staged
from seepage.audit.sent import check_keys
from seepage.audit.tables import FederatedTable
from seepage.cases.federation import DEFAULT, RUNGS
from seepage.cases.text_federation import TextFederation
from seepage.core.errors import ConfigError, DataError, did_you_mean
from seepage.core.records import Records, Splits
from seepage.core.seeds import derive
from seepage.core.vocabulary import Access
from seepage.models.federated import LocalTraining
from seepage.models.text_clients import TextNet
from seepage.models.text_nets import TEXT_NETS, folder_net, text_net
from seepage.models.training import seeded

KEYS = ("net", "net_options", "path", "task", "vocabulary")
TASKS = ("classification", "causal-lm")
# What a network without a folder of its own makes its vocabulary of.
VOCABULARIES = ("all", "public")
# Texts a step and learning rate of a model that is trained before the round.
_STEP, _RATE = 16, 1e-3


def trains_on_texts(config: AuditConfig) -> bool:
    """Whether the clients of a federation train on texts: their model, or their data, say so.

    Raises:
        ConfigError: for data that are texts and a model that reads arrays.
    """
    options, column = config.victim.options, config.data.text
    if options.get("net") in TEXT_NETS or "path" in options:
        return True
    if column is None:
        return False
    known = f"net ({', '.join(TEXT_NETS)}), or " if config.victim.kind == "federated" else ""
    found = f"net = '{options['net']}' is no model of texts" if "net" in options else "no model of texts is named"
    raise ConfigError(
        f"[data] text = '{column}' names a column of texts, and {found}: give [victim] {known}path, a folder of the "
        "transformers library"
    )


def from_file(config: AuditConfig, base: Path) -> Staged:
    """The scene of an audit file whose clients train on texts.

    Raises:
        ConfigError, DataError, ModelError: for what cannot be used.
    """
    table, options = config.federated or FederatedTable(), victim_options(config, base)
    _refuse(config, table)
    task = _task(options)
    knows = DEFAULT if table.knows is None else frozenset(table.knows)
    for name in sorted(knows - RUNGS):
        raise ConfigError(f"[federated] knows: unknown rung '{name}': {did_you_mean(name, sorted(RUNGS))}")
    splits, checks = read_texts(config.data, base, task)
    seed = config.seed

    def open_net() -> TextNet:
        net = _net(options, task, splits, seed)
        if not table.trained:
            return net
        return trained(net, splits.nonmembers, table.trained, derive(seed, "net", "trained"))

    scene = TextFederation(
        open_net=open_net,
        members=splits.members,
        nonmembers=splits.nonmembers,
        public=splits.public,
        local=LocalTraining(table.update, table.local_batch, table.epochs, table.rate, table.mode),
        clients=table.clients,
        records=table.records,
        knows=knows,
        seed=seed,
        checks=tuple(checks),
    )
    return Staged(
        scene,
        name=config.victim.name or str(options.get("net") or where_from(options)),
        kind="federated",
        identity={
            "packages": packages(),
            **splits_identity(splits),
            "victim": {"kind": "federated", **fingerprints(options)},
            "federated": {**table.model_dump(mode="json"), "knows": sorted(knows)},
        },
        access=Access.UPDATES,
        data_facts=text_facts(splits),
    )


def refuse_arrays(config: AuditConfig, what: str) -> None:
    """Nothing, unless the file has a table or a key that a model of texts has no use for.

    Args:
        config: the file.
        what: whose updates the adversary sees, for messages.

    Raises:
        ConfigError: naming it.
    """
    for name in ("recipe", "prior"):
        if getattr(config, name) is not None:
            raise ConfigError(f"[{name}] is for victims that read arrays: {what} needs none")
    if config.victim.input is not None:
        raise ConfigError("[victim] input is for arrays: the input of a model of texts is a text")
    if "access" in config.victim.model_fields_set and config.victim.access is not Access.UPDATES:
        raise ConfigError(f"[victim] access: of {what} the adversary sees 'updates', not '{config.victim.access}'")


def _refuse(config: AuditConfig, table: FederatedTable) -> None:
    check_keys(config.victim.options, KEYS)
    refuse_arrays(config, "a federation of texts")
    for name in ("momentum", "summed"):
        if getattr(table, name):
            raise ConfigError(
                f"[federated] {name} is said of captured updates; simulated clients take steps of plain SGD, and the "
                'defense "secure-aggregation" shows the server sums alone'
            )


def _task(options: Mapping[str, Any]) -> Any:
    """What the clients train the model for, the options of the model checked on the way."""
    if ("net" in options) == ("path" in options):
        raise ConfigError(
            f"[victim] of texts needs net ({', '.join(TEXT_NETS)}) or path (a folder of the transformers library), one "
            "of the two"
        )
    for name in ("net_options", "vocabulary"):
        if "path" in options and name in options:
            raise ConfigError(f"[victim] {name} is for a built-in net: the folder of a model brings its own")
    if options.get("vocabulary", "all") not in VOCABULARIES:
        raise ConfigError(f"[victim] vocabulary is 'all' or 'public', got {options['vocabulary']!r}")
    return task_of(options)


def task_of(options: Mapping[str, Any]) -> Any:
    """What the clients train the model for.

    Raises:
        ConfigError: for an unknown task.
    """
    task = options.get("task", TASKS[0])
    if task not in TASKS:
        raise ConfigError(f"[victim] task: unknown task '{task}': {did_you_mean(str(task), TASKS)}")
    return task


def _net(options: Mapping[str, Any], task: Any, splits: Splits, seed: int) -> TextNet:
    classes = len(splits.members.class_names)
    if "path" in options:
        return folder_net(options["path"], task, classes or None)
    agreed = (splits.public,)
    if options.get("vocabulary", "all") == "all":
        agreed = (splits.members, splits.nonmembers, splits.public)
    elif splits.public is None:
        raise ConfigError('[victim] vocabulary = "public" needs [data] public, the texts that it is made of')
    # In one order whatever the split: the vocabulary is not to tell who holds what.
    texts = sorted(text for part in agreed if part is not None for text in part.texts)
    return text_net(options["net"], texts, classes, derive(seed, "net"), task, **options.get("net_options", {}))


def trained(net: TextNet, records: Records | None, steps: int, seed: int) -> TextNet:
    """The model after some steps of Adam on texts that no client holds: a checkpoint in the midst of a federation.

    Raises:
        DataError: without such texts.
    """
    if records is None or (net.classes and records.y is None):
        raise DataError("[federated] trained: non-members are needed, with classes where the model tells them apart")
    batch = net.encode(records.texts)
    y = None if not net.classes else torch.from_numpy(records.labels().astype(np.int64))
    held = {name: weight.requires_grad_(True) for name, weight in net.weights().items()}
    adam = torch.optim.Adam(list(held.values()), lr=_RATE)
    with seeded(seed) as rng:
        for _ in range(steps):
            rows = torch.randperm(len(batch), generator=rng)[:_STEP]
            adam.zero_grad()
            net.loss(batch[rows.numpy()], None if y is None else y[rows], held, "train").backward()
            adam.step()
    module = net.module
    module.load_state_dict({name: weight.detach() for name, weight in held.items()}, strict=False)
    return TextNet(module, net.task, net.tokenizer, net.length)
