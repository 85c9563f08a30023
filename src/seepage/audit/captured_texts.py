"""`[victim] kind = "update"` or `"flower"` of a model of texts: the scene of an update captured of a transformer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from seepage.audit.captured import (
    NOT_GIVEN,
    Captured,
    captured_name,
    digest_of,
    sent_of,
    source_keys,
    update_facts,
)
from seepage.audit.client_texts import part_of_texts, spare_texts, text_facts
from seepage.audit.config import AuditConfig
from seepage.audit.options import victim_options
from seepage.audit.records import packages, splits_identity
from seepage.audit.scenery import Staged
from seepage.audit.sent import Sent, check_keys
from seepage.audit.text_clients import refuse_arrays, task_of
from seepage.cases.text_capture import TextCapture
from seepage.cases.text_federation import TextFederation
from seepage.core.errors import ConfigError, DataError, did_you_mean
from seepage.core.records import Records, Splits
from seepage.core.vocabulary import Access
from seepage.data import Reading
from seepage.data.labels import class_numbers
from seepage.data.texts import as_texts, folded
from seepage.models.text_clients import TextNet
from seepage.models.text_nets import folder_net
from seepage.targets.update_files import fill, load_tensors

MODEL = ("path", "task", "frozen", "classes", "class_names")


def from_file(config: AuditConfig, base: Path, trust_pickle: bool = False) -> Staged:
    """The scene of an audit file whose update is of a model of texts.

    Raises:
        ConfigError, DataError, ModelError: for what cannot be used.
    """
    options = victim_options(config, base)
    if "net" in options:
        raise ConfigError(
            "[victim] net: a captured update is of the model that its client trained: give path, the folder that "
            "save_pretrained wrote of it (model and tokenizer)"
        )
    check_keys(options, (*MODEL, *source_keys(config)))
    refuse_arrays(config, "a captured update")
    sent, net = _opened(config, options, trust_pickle)
    names = class_names_of(net, options.get("class_names"))
    members, nonmembers, public = (
        None if place is None else part_of_texts(config.data, place, what, names or None)
        for what, place in zip(("members", "nonmembers", "public"), sent.places(config.data, base), strict=True)
    )
    found = scene_of(
        sent, net, members, nonmembers, public, class_names=names, overlap=config.data.overlap, seed=config.seed
    )
    scene = found.scene
    splits = Splits(scene.members, scene.nonmembers, scene.public)
    return Staged(
        scene,
        name=config.victim.name or captured_name(config.victim.kind, options, found.facts),
        kind=config.victim.kind,
        identity={"packages": packages(), **splits_identity(splits), "captured": found.digest},
        access=Access.UPDATES,
        data_facts=text_facts(splits),
        victim_facts=found.facts,
    )


def scene_of(
    sent: Sent,
    net: TextNet,
    batch: Records | None = None,
    nonmembers: Records | None = None,
    public: Records | None = None,
    *,
    class_names: Sequence[str] = (),
    overlap: Literal["refuse", "drop"] = "refuse",
    seed: int = 0,
) -> Captured:
    """The scene of a captured update: with the true texts a federation of one client, else a capture.

    Args:
        sent: what was captured.
        net: the model at the weights that the server sent.
        batch: the true texts, with classes in the model's numbering where it tells them apart; None where they are
            not known.
        nonmembers: texts like them, for the control of another batch's update.
        public: what the adversary may own.
        class_names: of the model's classes.
        overlap: what is done about texts of the batch that are among the others too: refused, or left out there.
        seed: of the audit.

    Raises:
        DataError, ConfigError: for what does not fit together.
    """
    known = sent.known
    update = known.mean(replace(sent.update, tensors=_of_trained(sent, net)))
    facts = {**update_facts(update, net.parameters), **sent.facts}
    digest = {**digest_of(known, update, net.weights()), "task": net.task, **sent.digest}
    if batch is None:
        empty = Records.of_texts(
            (), y=None if not net.classes else np.zeros(0, np.int64), class_names=tuple(class_names)
        )
        scene = TextCapture(
            members=empty,
            public=public,
            seed=seed,
            open_net=lambda: net,
            update=update,
            ladder=known.without_batch().ladder(_owned(public)),
        )
        return Captured(scene, {**facts, "true_batch": NOT_GIVEN}, digest)
    for records, what in ((batch, "the true texts need"), (nonmembers, "nonmembers: these texts need")):
        if records is not None and net.task == "classification" and records.y is None:
            raise DataError(
                f"{what} their classes, numbered or named as the model has them: a table, and target = the column "
                'that holds them; an update of the next token is said to be one by [victim] task = "causal-lm"'
            )
    known = known.of_batch(len(batch))
    nonmembers, public = spare_texts(nonmembers, batch, overlap), _not_of_batch(public, batch, overlap)
    ladder = known.ladder(_owned(public))
    scene = TextFederation(
        members=batch,
        nonmembers=nonmembers,
        public=public,
        seed=seed,
        open_net=lambda: net,
        local=known.local(),
        clients=1,
        records=len(batch),
        knows=known.rungs(ladder),
        captured=update,
        unmade=known.unmade(net.drops),
        blurred=known.blurred,
        optimiser=known.optimiser or "sgd",
    )
    return Captured(scene, {**facts, "true_batch": f"{len(batch)} texts"}, {**digest, "batch": batch.digest()})


def texts_of(thing: Any, class_names: Sequence[str], reading: Reading, what: str) -> Records | None:
    """Texts in memory, with their classes as `(texts, classes)`; None for none.

    Raises:
        DataError: for what is no text, or classes that the model does not have.
    """
    if thing is None:
        return None
    if not (isinstance(thing, tuple) and len(thing) == 2 and not isinstance(thing[0], str)):
        return as_texts(thing, None, reading, what)
    texts, classes = as_texts(thing[0], None, reading, what), thing[1]
    if not class_names:
        return texts
    y, names = class_numbers(classes, class_names, what)
    return Records.of_texts(texts.texts, texts.ids, texts.source, y, names)


def class_names_of(net: TextNet, given: Sequence[str] | None = None) -> tuple[str, ...]:
    """The classes in the model's order: as given, as its configuration names them, or by number; none of next tokens.

    Raises:
        ConfigError: when as many are not the model's.
    """
    if not net.classes:
        if given:
            raise ConfigError("class_names: a model of the next token tells no classes apart")
        return ()
    if given is not None:
        if len(given) != net.classes:
            raise ConfigError(f"class_names: {net.classes} names were wanted for this model, got {len(given)}")
        return tuple(map(str, given))
    told: Mapping[int, str] = getattr(net.module.config, "id2label", None) or {}
    plain = tuple(str(i) for i in range(net.classes))
    own = tuple(str(told.get(i, i)) for i in range(net.classes))
    return plain if own == tuple(f"LABEL_{i}" for i in plain) or len(set(own)) < len(own) else own


def _opened(config: AuditConfig, options: Mapping[str, Any], trust_pickle: bool) -> tuple[Sent, TextNet]:
    """The update, and its model at the weights that the server sent."""
    names, count = options.get("class_names"), options.get("classes")
    if names is not None and count not in (None, len(names)):
        raise ConfigError(f"classes = {count} and {len(names)} class_names disagree")
    # Weights before come with a pair or a recording, or in a file of their own; else the folder must have all.
    whole = "update" in options and not options.get("weights")
    opened = folder_net(
        options["path"], task_of(options), count or (None if names is None else len(names)), whole=whole
    )
    module = opened.module
    if options.get("weights"):
        fill(module, load_tensors(options["weights"], module, "weights", trust_pickle), "weights")
    freeze(module, options.get("frozen", []))
    sent = sent_of(config, options, module, trust_pickle)
    return sent, TextNet(sent.module, opened.task, opened.tokenizer, opened.length)


def freeze(module: nn.Module, names: Any) -> None:
    """Take weights out of what a client trains: parameters, or all of a part of the model, by name.

    Raises:
        ConfigError: for what is no name, or names nothing in the model.
    """
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"[victim] frozen: a list of names of parameters or parts was wanted, got {names!r}")
    every = dict(module.named_parameters())
    for part in names:
        chosen = [weight for name, weight in every.items() if name == part or name.startswith(f"{part}.")]
        if not chosen:
            known = [*every, *(name for name, _ in module.named_modules() if name)]
            raise ConfigError(f"[victim] frozen: the model has no '{part}': {did_you_mean(part, known)}")
        for weight in chosen:
            weight.requires_grad_(False)


def _of_trained(sent: Sent, net: TextNet) -> dict[str, Any]:
    """The update of the weights that are trained.

    Raises:
        DataError: when it moves one that is not.
    """
    trained = net.trained_names
    for name, tensor in sent.update.tensors.items():
        if name not in trained and np.any(tensor):
            raise DataError(
                f"the update moves '{name}', which is frozen in the model: leave it out of [victim] frozen, or give "
                "the model that the client trained"
            )
    return {name: tensor for name, tensor in sent.update.tensors.items() if name in trained}


def _not_of_batch(public: Records | None, batch: Records, overlap: str) -> Records | None:
    """Public texts without those of the batch: what is public is no secret."""
    if public is None:
        return None
    held = {folded(text) for text in batch.texts}
    kept = [i for i, text in enumerate(public.texts) if folded(text) not in held]
    if len(kept) < len(public) and overlap == "refuse":
        raise DataError(
            f"{len(public) - len(kept)} of the public texts are of the true batch, case and spacing aside: what is "
            'public is no secret. Leave them out there, or have them left out by overlap = "drop" under [data]'
        )
    return public[np.array(kept, dtype=np.int64)] if kept else None


def _owned(public: Records | None) -> str | None:
    return None if public is None else "public texts"
