"""`[victim] kind = "update"`: the scene of an update that was captured, with the true batch or without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from seepage.audit import recorded
from seepage.audit.config import AuditConfig
from seepage.audit.options import where_from
from seepage.audit.records import Facts, beside, reading_of
from seepage.audit.round import Round
from seepage.audit.sent import FROM_FILES, Sent, check_keys, from_files
from seepage.audit.tables import DataTable
from seepage.cases.capture import Capture
from seepage.cases.federation import Federation
from seepage.cases.text_capture import TextCapture
from seepage.cases.text_federation import TextFederation
from seepage.core.errors import ConfigError, DataError
from seepage.core.knowledge import PriorSource
from seepage.core.records import Records
from seepage.core.seeds import derive
from seepage.core.spec import InputSpec
from seepage.core.victim import Update
from seepage.data import Reading, as_records, as_splits, without_overlap
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet
from seepage.targets import infer_spec, load_network

# What a record says where there is nothing to hold a reconstruction against.
NOT_GIVEN = "not given: nothing can be scored"
MODEL = ("net", "net_options", "build", "build_args", "classes", "class_names")


@dataclass(frozen=True)
class Captured:
    """A captured update with its scene and what a record says of it."""

    scene: Federation | Capture | TextFederation | TextCapture
    facts: Facts
    digest: dict[str, Any]


def scene_of(
    sent: Sent,
    spec: InputSpec,
    class_names: Sequence[str],
    *,
    batch: Any = None,
    nonmembers: Any = None,
    public: Any = None,
    reading: Reading | None = None,
    priors: PriorSource | None = None,
    overlap: Literal["refuse", "drop"] = "refuse",
    seed: int = 0,
) -> Captured:
    """The scene of a captured update: with the true batch a federation of one client, else a capture.

    Args:
        sent: what was captured, with its model.
        spec: what one input looks like.
        class_names: the classes of the model, in its order.
        batch: the true records with their classes in the model's numbering; None where they are not known.
        nonmembers: records like them, for the control of another batch's update.
        public: what the adversary may own.
        reading: how they are read.
        priors: where the adversary gets its priors from.
        overlap: what is done about records of the batch that are among the others too.
        seed: of the audit.

    Raises:
        DataError, ConfigError, ModelError: for what does not fit together.
    """
    net = ClientNet(sent.module, spec, len(class_names))
    reading = reading or Reading()
    names = tuple(class_names)
    normalised = bool(spec.mean or spec.std)
    known, update = sent.known, sent.known.mean(sent.update)
    facts = {**update_facts(update, net.parameters), **sent.facts}
    digest = {**digest_of(known, update, net.weights()), **sent.digest}
    if batch is None:
        owned = None
        if public is not None:
            owned = _inside(as_records(public, spec=spec, what="public", reading=reading), spec, "public")
        empty = Records(np.zeros((0, *spec.shape), np.float32), np.zeros(0, np.int64), names, modality=spec.modality)
        ladder = known.without_batch().ladder(None if owned is None else "public records", normalised)
        scene = Capture(
            members=empty,
            public=owned,
            spec=spec,
            seed=seed,
            open_net=lambda: net,
            update=update,
            ladder=ladder,
            priors=priors,
        )
        return Captured(scene, {**facts, "true_batch": NOT_GIVEN}, digest)
    splits = as_splits(batch, nonmembers, public, spec=spec, class_names=names, reading=reading)
    apart = without_overlap(splits)
    twice = (
        0 if splits.nonmembers is None or apart.nonmembers is None else len(splits.nonmembers) - len(apart.nonmembers)
    )
    if twice and overlap == "refuse":
        raise DataError(
            f"{twice} of the non-members are records of the true batch: the update of another batch would be made of "
            'them too. Leave them out, or say overlap = "drop" under [data]'
        )
    splits = apart
    members = _inside(splits.members, spec, "the true batch")
    if members.y is None:
        raise DataError("the true batch needs its classes, numbered as the model numbers them")
    known = known.of_batch(len(members))
    ladder = known.ladder(None if splits.public is None else "public records", normalised)
    scene = Federation(
        members=members,
        nonmembers=None if splits.nonmembers is None else _inside(splits.nonmembers, spec, "nonmembers"),
        public=None if splits.public is None else _inside(splits.public, spec, "public"),
        spec=spec,
        seed=seed,
        open_net=lambda: net,
        local=known.local(),
        clients=1,
        records=len(members),
        knows=known.rungs(ladder),
        priors=priors,
        captured=update,
        unmade=known.unmade(net.has_batch_norm),
        blurred=known.blurred,
        optimiser=known.optimiser or "sgd",
    )
    return Captured(scene, {**facts, "true_batch": f"{len(members)} records"}, {**digest, "batch": members.digest()})


def from_file(
    config: AuditConfig,
    options: Mapping[str, Any],
    spec: InputSpec,
    base: Path,
    trust_pickle: bool,
    priors: PriorSource,
) -> Captured:
    """The scene that an audit file describes; `options` are those of `[victim]`, their paths resolved.

    Raises:
        ConfigError, DataError, ModelError: for what cannot be used.
    """
    check_keys(options, (*MODEL, *source_keys(config)))
    module = module_of(options, spec, config.seed, trust_pickle)
    sent = sent_of(config, options, module, trust_pickle)
    batch, nonmembers, public = sent.places(config.data, base)
    return scene_of(
        sent,
        spec,
        names_of(module, spec, options.get("classes"), options.get("class_names")),
        batch=batch,
        nonmembers=nonmembers,
        public=public,
        reading=reading_of(config.data),
        priors=priors,
        overlap=config.data.overlap,
        seed=config.seed,
    )


def source_keys(config: AuditConfig) -> tuple[str, ...]:
    """The keys of `[victim]` that say where the update lies."""
    return recorded.KEYS if config.victim.kind == "flower" else FROM_FILES


def sent_of(config: AuditConfig, options: Mapping[str, Any], module: nn.Module, trust_pickle: bool) -> Sent:
    """The update that a file names, from files of its own or from a recorded run.

    Raises:
        ConfigError, DataError, ModelError: for what cannot be used.
    """
    if config.victim.kind == "flower":
        return recorded.from_recording(options, config.federated, module)
    return from_files(options, config.federated, module, trust_pickle)


def names_of(
    module: nn.Module, spec: InputSpec, classes: int | None, class_names: Sequence[str] | None
) -> tuple[str, ...]:
    """The classes: as named, as counted, or as many as the model answers."""
    if class_names is not None:
        if classes not in (None, len(class_names)):
            raise ConfigError(f"classes = {classes} and {len(class_names)} class_names disagree")
        return tuple(map(str, class_names))
    if classes is None:
        try:
            with torch.no_grad():
                classes = int(module.eval()(torch.zeros(2, *spec.shape)).shape[1])
        except (RuntimeError, AttributeError, IndexError, TypeError) as error:
            raise ConfigError(
                f"the model does not answer (n, classes) to records of shape {spec.shape} ({error}): declare its input "
                "and its classes"
            ) from error
    return tuple(str(i) for i in range(classes))


def module_of(options: Mapping[str, Any], spec: InputSpec, seed: int, trust_pickle: bool) -> nn.Module:
    """The model of an update: a built-in network or one that is built, with its weights where a file has them.

    Raises:
        ConfigError, ModelError: for what cannot be used.
    """
    if ("net" in options) == ("build" in options):
        raise ConfigError(
            "[victim] the model of an update is given by net (a built-in network) or build (an import path)"
        )
    if "build" in options:
        return load_network(
            options["build"], options.get("weights"), options.get("build_args"), trust_pickle=trust_pickle
        )
    classes = options.get("classes") or len(options.get("class_names") or ())
    if not classes:
        raise ConfigError("[victim] classes: how many classes the built-in network tells apart has to be said")
    made = client_net(options["net"], spec.shape, classes, derive(seed, "net"), **options.get("net_options", {}))
    if options.get("weights"):
        made = load_network(lambda: made, options["weights"], trust_pickle=trust_pickle)
    return made


def spec_of(declared: InputSpec | None, table: DataTable, base: Path) -> InputSpec:
    """One input: as declared, or read off what records there are.

    Raises:
        ConfigError: where neither is there.
    """
    if declared is not None:
        return declared
    place = table.members or table.public
    if place is None:
        raise ConfigError("[victim] input: what one record looks like has to be said: input = { shape = [1, 28, 28] }")
    return infer_spec(as_records(beside(place, base), what="records", reading=reading_of(table)))


def _inside(records: Records, spec: InputSpec, what: str) -> Records:
    return replace(records, x=spec.check(records.x, what))


def captured_name(kind: str, options: Mapping[str, Any], facts: Facts) -> str:
    """What a captured update without a name is called."""
    if kind == "flower":
        return f"round {facts['round']:g}, client {facts['client']} of {where_from(options)}"
    return f"an update of {options.get('net') or where_from(options)}"


def update_facts(update: Update, parameters: int) -> Facts:
    """What a record says of a captured update."""
    return {"sent_as": update.kind, "parameters": float(parameters), "buffers_sent": float(len(update.buffers))}


def digest_of(known: Round, update: Update, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """What tells one captured update from others: the round, its values, and the weights it is of."""
    sent = Update({name: w.numpy() for name, w in weights.items()})
    return {"round": repr(known), "update": _digest(update), "weights": _digest(sent)}


def _digest(update: Update) -> str:
    return Records(
        np.concatenate([np.asarray(t, np.float64).reshape(-1) for t in update.tensors.values()])[None]
    ).digest()
