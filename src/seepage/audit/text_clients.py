"""`[victim] kind = "federated"` where clients train on texts: the scene of an audit file."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seepage.audit.config import AuditConfig, DataTable, FederatedTable
from seepage.audit.options import fingerprints, victim_options, where_from
from seepage.audit.records import Facts, beside, data_facts, packages, splits_identity
from seepage.audit.scenery import Staged
from seepage.cases.federation import DEFAULT, RUNGS
from seepage.cases.text_federation import TextFederation
from seepage.core.errors import ConfigError, DataError, did_you_mean
from seepage.core.record import Check
from seepage.core.records import Records, Splits
from seepage.core.seeds import derive
from seepage.core.vocabulary import Access
from seepage.core.words import words
from seepage.data import Reading
from seepage.data.tables import is_table
from seepage.data.texts import OPTIONS, as_texts, folded, texts_apart
from seepage.models.federated import LocalTraining
from seepage.models.recipes import seeded
from seepage.models.text_clients import TextNet
from seepage.models.text_nets import TEXT_NETS, folder_net, text_net

KEYS = ("net", "net_options", "path", "task", "vocabulary")
TASKS = ("classification", "causal-lm")
# What a network without a folder of its own makes its vocabulary of.
VOCABULARIES = ("all", "public")
_OPTIONS = (*OPTIONS, "target")
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
    known = ", ".join(TEXT_NETS)
    found = f"net = '{options['net']}' is no model of texts" if "net" in options else "no model of texts is named"
    raise ConfigError(
        f"[data] text = '{column}' names a column of texts, and {found}: give [victim] net ({known}), or path, a "
        "folder of the transformers library"
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
    splits, checks = _read(config.data, base, task)
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
        data_facts=_facts(splits),
    )


def _refuse(config: AuditConfig, table: FederatedTable) -> None:
    for name in config.victim.options:
        if name not in KEYS:
            raise ConfigError(f"[victim] unknown key '{name}': {did_you_mean(name, KEYS)}")
    for name in ("recipe", "prior"):
        if getattr(config, name) is not None:
            raise ConfigError(f"[{name}] is for victims that read arrays: clients who train on texts need none")
    if config.victim.input is not None:
        raise ConfigError("[victim] input is for arrays: the input of a model of texts is a text")
    if "access" in config.victim.model_fields_set and config.victim.access is not Access.UPDATES:
        raise ConfigError(
            f"[victim] access: of clients who train on texts the adversary sees 'updates', not '{config.victim.access}'"
        )
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


def _read(table: DataTable, base: Path, task: str) -> tuple[Splits, list[Check]]:
    """Members, non-members and public texts, told apart from each other."""
    if table.builtin is not None or table.members is None:
        raise ConfigError("[data] of texts needs members = a text file with one record a line, or a table")
    reading = _reading(table)
    members = as_texts(beside(table.members, base), table.text, reading, "members")
    if task == "classification" and members.y is None:
        raise DataError(
            "[data] members: clients train a classifier, so their texts need classes: give a table and target = the "
            'column that holds them, or train for the next token ([victim] task = "causal-lm")'
        )
    names = members.class_names or None
    nonmembers, public = (
        None if path is None else _part(table, path, base, reading, what, names)
        for what, path in (("nonmembers", table.nonmembers), ("public", table.public))
    )
    if nonmembers is not None and (nonmembers.y is None) != (members.y is None):
        raise DataError("[data] nonmembers: members have classes, so these need them: a table with the same columns")
    apart, checks = texts_apart(Splits(members, None, public), table.overlap)
    return Splits(apart.members, _spare(nonmembers, apart, table.overlap), public), checks


def _part(
    table: DataTable, path: str, base: Path, reading: Reading, what: str, class_names: Sequence[str] | None
) -> Records:
    """Texts of one kind; a text file beside tables has no columns, and no classes."""
    file = beside(path, base)
    return as_texts(file, table.text if is_table(Path(file)) else None, reading, what, class_names)


def _spare(nonmembers: Records | None, apart: Splits, overlap: str) -> Records | None:
    """Non-members that are neither members nor copies of each other: the control is to be of other texts."""
    if nonmembers is None:
        return None
    held, kept, seen = {folded(text) for text in apart.members.texts}, list[int](), set[str]()
    for i, text in enumerate(nonmembers.texts):
        if folded(text) in held and overlap == "refuse":
            raise DataError(
                f"[data] nonmembers: {nonmembers.ids[i]} is a member too, case and spacing aside: leave it out, or "
                'have it left out by overlap = "drop"'
            )
        if folded(text) not in held | seen:
            kept.append(i)
        seen.add(folded(text))
    return nonmembers[np.array(kept, dtype=np.int64)] if kept else None


def _reading(table: DataTable) -> Reading:
    known = [field.name for field in fields(Reading)]
    for name in table.options:
        if name not in _OPTIONS:
            if name in known:
                raise ConfigError(f"[data] {name} is for other records than texts; of these, {', '.join(_OPTIONS)}")
            raise ConfigError(
                f"[data] unknown key '{name}': {did_you_mean(name, (*_OPTIONS, *DataTable.model_fields))}"
            )
    return Reading(**table.options)


def _facts(splits: Splits) -> Facts:
    texts = splits.members.texts
    found = {name: value for name, value in data_facts(splits).items() if name != "shape"}
    if not splits.members.class_names:
        del found["classes"]
    return {**found, "words_a_member": sum(len(words(text)) for text in texts) / len(texts)}


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
