"""What an audit of an encoder of texts is made of: from an audit file, or from live objects."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from seepage.audit.config import AuditConfig
from seepage.audit.records import Facts, beside, packages, splits_identity
from seepage.audit.scenery import Staged
from seepage.audit.tables import DataTable
from seepage.audit.training import source_digest
from seepage.cases.sentences import Sentences
from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.records import Splits
from seepage.core.registry import load
from seepage.core.victim import Model, TextEncoder
from seepage.core.vocabulary import Access
from seepage.core.words import words
from seepage.data import Reading
from seepage.data.texts import OPTIONS, as_texts, texts_apart
from seepage.targets import open_encoder
from seepage.targets.encoder import CallableEncoder, folder_digest


def from_file(config: AuditConfig, base: Path) -> Staged:
    """The scene of an audit file with `[victim] kind = "encoder"`.

    Raises:
        ConfigError, DataError: for what cannot be used.
    """
    for name in ("recipe", "prior"):
        if getattr(config, name) is not None:
            raise ConfigError(f"[{name}] is for classifiers: the audit of an encoder of texts has no use for one")
    if config.victim.input is not None:
        raise ConfigError("[victim] input is for arrays: the input of an encoder is a text")
    table = config.data
    if table.builtin is not None or table.members is None:
        raise ConfigError("[data] of an encoder needs members = a text file with one record a line, or a table")
    if table.nonmembers is not None:
        raise ConfigError("[data] nonmembers have no part in the audit of an encoder: leave them out")
    options = dict(config.victim.options)
    if isinstance(options.get("path"), str):
        options["path"] = str(beside(options["path"], base))
    reading = _reading(table)
    members = as_texts(beside(table.members, base), table.text, reading, "members")
    public = None if table.public is None else as_texts(beside(table.public, base), table.text, reading, "public")
    return _texts(
        Splits(members, None, public),
        table.overlap,
        config.seed,
        lambda: open_encoder(options),
        {"kind": "encoder", **_told_apart(options)},
        config.victim.name or _name(options),
        "encoder",
        # Vectors are all that an encoder gives: the default of classifiers is not meant.
        access=config.victim.access if "access" in config.victim.model_fields_set else Access.EMBEDDINGS,
        known="path" in options,
    )


def from_python(
    encoder: Any,
    members: Any,
    public: Any,
    seed: int,
    reading: Reading,
    options: Mapping[str, Any],
    access: Access,
) -> Staged:
    """The scene of a call of `seepage.audit` whose members are texts.

    Raises:
        ConfigError, DataError, ModelError: for what cannot be used.
    """
    opened = encoder_of(encoder, options)
    fingerprint = getattr(opened, "fingerprint", None)
    name = str(encoder) if isinstance(encoder, str | Path) else type(encoder).__name__
    held = as_texts(members, reading=reading)
    owned = None if public is None else as_texts(public, reading=reading, what="public")
    return _texts(
        Splits(held, None, owned),
        "refuse",
        seed,
        lambda: opened,
        {"kind": "encoder", "fingerprint": fingerprint},
        name,
        type(opened).__name__,
        access=access,
        known=fingerprint is not None,
    )


def encoder_of(thing: Any, options: Mapping[str, Any]) -> TextEncoder:
    """An encoder, a folder that holds one, or a function from texts to vectors, as a victim.

    Raises:
        ConfigError: for something else.
    """
    if isinstance(thing, TextEncoder):
        if options:
            raise ConfigError("this is an encoder already: give its options where it is made")
        return thing
    if isinstance(thing, str | Path):
        return open_encoder({"path": str(thing), **options})
    # A classifier or a network can be called too, and would be asked about texts it cannot read.
    if callable(thing) and not isinstance(thing, Model) and not hasattr(thing, "parameters"):
        return CallableEncoder(thing, **options)
    raise ConfigError(
        f"members are texts, and a {type(thing).__name__} is no encoder of texts: give the folder of a sentence "
        "encoder, or a function from a list of texts to an array (n, d)"
    )


def _texts(
    splits: Splits,
    overlap: Literal["refuse", "drop"],
    seed: int,
    open_it: Callable[[], TextEncoder],
    victim: Mapping[str, Any],
    name: str,
    kind: str,
    *,
    access: Access,
    known: bool,
) -> Staged:
    apart, checks = texts_apart(splits, overlap)
    scene = Sentences(open_encoder=open_it, members=apart.members, public=apart.public, seed=seed, checks=tuple(checks))
    identity = {"packages": packages(), **splits_identity(apart), "victim": dict(victim)}
    return Staged(scene, name, kind, identity, access, _data_facts(apart), known=known)


def _data_facts(splits: Splits) -> Facts:
    members, public = splits.members, splits.public
    return {
        "members": len(members),
        "public": None if public is None else len(public),
        "modality": "text",
        "words_a_member": sum(len(words(text)) for text in members.texts) / len(members),
        "source": members.source or None,
    }


def _reading(table: DataTable) -> Reading:
    known = [field.name for field in fields(Reading)]
    for name in table.options:
        if name not in OPTIONS:
            if name in known:
                raise ConfigError(f"[data] {name} is for other records than texts; of these, {', '.join(OPTIONS)}")
            raise ConfigError(f"[data] unknown key '{name}': {did_you_mean(name, [*OPTIONS, *DataTable.model_fields])}")
    return Reading(**table.options)


def _told_apart(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, the folder told apart by its files and code by its source."""
    found = dict(options)
    if isinstance(options.get("path"), str) and Path(options["path"]).is_dir():
        found["path"] = folder_digest(Path(options["path"]))
    if isinstance(options.get("fn"), str):
        found["fn"] = [options["fn"], source_digest(load(options["fn"]))]
    return found


def _name(options: Mapping[str, Any]) -> str:
    if isinstance(options.get("path"), str):
        return Path(options["path"]).name
    return str(options.get("fn", "the encoder"))
