"""Canaries of an audit: written into a user's data with a manifest, read back, or made and inserted here."""

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from seepage import __version__
from seepage.audit.config import explain
from seepage.audit.tables import CanariesTable, ClaimTable
from seepage.audit.training import Trainer
from seepage.core.canaries import GRADIENT, Canaries, Claim
from seepage.core.errors import ConfigError, DataError
from seepage.core.records import Records, Splits
from seepage.core.seeds import derive, stream
from seepage.core.spec import InputSpec
from seepage.data import Reading, as_splits
from seepage.data.canaries import canaries_of, without_canaries
from seepage.data.canary_files import Asked, Made, content_digest, form_of, suffix_of, with_canaries
from seepage.models.recipes import built_in
from seepage.store.files import PRIVATE, PUBLIC, digest, write_bytes
from seepage.targets import infer_spec

T = TypeVar("T", bound=BaseModel)
MANIFEST = "seepage canaries"
MANIFEST_VERSION = "1.0"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Place(_Part):
    """A file or folder as it was when the manifest was written."""

    path: str
    sha256: str
    records: int


class Canary(_Part):
    """One canary: what it is called in the file of canaries, and how its coin fell."""

    id: str
    included: bool
    class_name: str
    sha256: str


class Manifest(_Part):
    """What was inserted into a data set: the secret of an audit. Keep it from whoever trains the model."""

    what: Literal["seepage canaries"] = MANIFEST
    schema_version: Literal["1.0"] = MANIFEST_VERSION
    version: str
    made: str
    kind: str
    seed: int
    probability: float = 0.5
    target: str | None
    id: str | None
    source: Place
    data: Place
    records: Place
    canaries: list[Canary]


def write_canaries(data: Path, out: Path, manifest: Path, asked: Asked) -> Manifest:
    """Write a data set with canaries in it to `out`, the manifest, and the canaries' records beside the manifest.

    The manifest and the records have mode 0600.

    Raises:
        ConfigError: where something would be overwritten, or canaries cannot be drawn.
        DataError: for data that cannot be read.
        StoreError: where it cannot be written.
    """
    suffix = suffix_of(data)
    if suffix_of(out) != suffix:
        ends = f"end in {suffix}" if suffix else "name a folder"
        raise ConfigError(f"--out {out} should {ends}, as {data.name} does")
    if manifest.suffix.lower() != ".json":
        raise ConfigError(f"--manifest wants the name of a .json file, got {manifest}")
    records = manifest.with_name(f"{manifest.stem}.records{suffix}")
    for place in (out, manifest, records):
        if place.exists():
            raise ConfigError(f"{place} is there already and is not overwritten: give another name, or remove it")
    made = with_canaries(data, asked)
    _write(out, made.data, PUBLIC)
    _write(records, made.records, PRIVATE)
    told = Manifest(
        version=__version__,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        kind=asked.kind,
        seed=asked.seed,
        target=asked.target,
        id=asked.id,
        source=Place(path=data.name, sha256=content_digest(data), records=made.before),
        data=Place(path=out.name, sha256=content_digest(out), records=made.after),
        records=Place(path=records.name, sha256=content_digest(records), records=len(made.ids)),
        canaries=_listed(made),
    )
    write_bytes(manifest, (told.model_dump_json(indent=1) + "\n").encode(), PRIVATE)
    return told


def _write(place: Path, files: Mapping[str, bytes], mode: int) -> None:
    for name, content in files.items():
        write_bytes(place / name if name else place, content, mode)


def _listed(made: Made) -> list[Canary]:
    each = zip(made.ids, made.included, made.classes, made.marks, strict=True)
    return [Canary(id=i, included=bool(coin), class_name=c, sha256=mark) for i, coin, c, mark in each]


def read_manifest(path: Path) -> Manifest:
    """The manifest at `path`.

    Raises:
        ConfigError: when there is none, or it is not one that this version reads.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"canaries: no manifest at {path}: `seepage corpus canaries` writes one beside the data"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"canaries: {path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict) or content.get("what") != MANIFEST:
        raise ConfigError(f"canaries: {path} is no manifest of `seepage corpus canaries`")
    if content.get("schema_version") != MANIFEST_VERSION:
        raise ConfigError(
            f"canaries: {path} is a manifest of version {content.get('schema_version')}, this version reads "
            f"{MANIFEST_VERSION}: audit with the version of Seepage that wrote it"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"canaries: {path} is damaged: {where}: {first['msg']}") from error


def read_canaries(path: Path, members: Records, like: Any, spec: InputSpec | None, reading: Reading) -> Canaries:
    """The canaries of a manifest, read as the members were.

    Args:
        path: of the manifest; the file of records lies beside it.
        members: as they were read.
        like: what the members were read from: the categories of a table's columns are those found in it.
        spec: the victim's input, where it is declared.
        reading: how the members were read.

    Raises:
        ConfigError: as `read_manifest`.
        DataError: for a file of records that is gone or changed, or cannot be read.
    """
    manifest = read_manifest(path)
    place = path.parent / manifest.records.path
    if not place.exists():
        raise DataError(f"canaries: the records of {path.name} should lie beside it as {manifest.records.path}")
    if content_digest(place) != manifest.records.sha256:
        raise DataError(f"canaries: {place} is not what it was when {path.name} was written: take the file from then")
    whole = replace(reading, limit=None, missing="error")
    if form_of(place) == "table":
        # Read beside the members, whose columns and categories are those of the canaries.
        found = as_splits(like, place, spec=spec, reading=replace(whole, missing=reading.missing)).nonmembers
    else:
        found = as_splits(members, place, spec=spec, reading=whole).nonmembers
    if found is None or len(found) != len(manifest.canaries):
        got = 0 if found is None else len(found)
        raise DataError(
            f"canaries: {manifest.records.path} gives {got} records for {len(manifest.canaries)} canaries: read the "
            'data so that none is left out (missing = "drop" leaves records out)'
        )
    if form_of(place) == "pictures":
        by_name = {name: row for row, name in enumerate(found.ids)}
        found = found[[by_name[canary.id] for canary in manifest.canaries]]
    coins = np.array([canary.included for canary in manifest.canaries])
    ids = tuple(f"canary {i + 1}" for i in range(len(coins)))
    note = f"{len(coins)} {manifest.kind} canaries, {int(coins.sum())} of them included, by the manifest {path.name}."
    return Canaries(replace(found, ids=ids, source=path.name), coins, manifest.kind, manifest.seed, (note,))


def staged_canaries(
    table: CanariesTable | None,
    splits: Splits,
    like: Any,
    spec: InputSpec | None,
    reading: Reading,
    seed: int,
    base: Path,
    made_here: bool,
) -> tuple[Splits, Canaries | None]:
    """The splits without canaries among the members, and the canaries of an audit.

    Args:
        table: what the audit says of canaries.
        splits: the records as given, with included canaries among the members where there is a manifest.
        like: what the members were read from.
        spec: the victim's input, where it is declared.
        reading: how the members were read.
        seed: of the audit.
        base: folder that the manifest's path starts from.
        made_here: whether the victim is trained here, so that canaries can be inserted.

    Raises:
        ConfigError, DataError: for canaries that cannot be read, found or made.
    """
    if table is None:
        return splits, None
    if table.manifest is not None:
        path = Path(table.manifest).expanduser()
        path = path if path.is_absolute() else base / path
        given = read_canaries(path, splits.members, like, spec, reading)
        members, canaries = without_canaries(splits.members, given)
        return replace(splits, members=members), canaries
    if not made_here:
        raise ConfigError(
            'canaries: they can be inserted here only where the victim is trained here ([victim] kind = "recipe"; in '
            "Python audit(None, recipe=...)): for a victim of your own, write them into its data with `seepage corpus "
            'canaries`, train on that, and give [canaries] manifest = "canaries.json"'
        )
    if table.kind == GRADIENT:
        return splits, gradient_canaries(splits.members, table.count or 0, table.seed or derive(seed, "canaries"))
    made, members = canaries_of(
        splits.members, table.kind, table.count or 0, table.seed or derive(seed, "canaries"), splits.public
    )
    return replace(splits, members=members), made


def gradient_canaries(members: Records, count: int, seed: int) -> Canaries:
    """Canaries that are no records: their coins, and blank records to stand for them."""
    blank = replace(
        members,
        x=np.zeros((count, *members.x.shape[1:]), dtype=np.float32),
        y=np.zeros(count, dtype=np.int64),
        ids=tuple(f"canary {i + 1}" for i in range(count)),
        source="gradient canaries",
    )
    coins = stream(seed, "canaries", "coins").random(count) < 0.5
    note = f"{count} gradient canaries, {int(coins.sum())} of them included: each has a weight of its own."
    return Canaries(blank, coins, GRADIENT, seed, (note,))


def widened(spec: InputSpec, splits: Splits, canaries: Canaries | None) -> InputSpec:
    """One input as the records and the canaries show it: those left out may lie where no member does."""
    if canaries is None or canaries.kind == GRADIENT:
        return spec
    return infer_spec(replace(splits, members=splits.members.joined(canaries.records)))


def check_trainer(trainer: Trainer | None, canaries: Canaries | None) -> None:
    """Nothing, unless gradient canaries are to go into a training that does not take them.

    Raises:
        ConfigError: naming what does.
    """
    if canaries is None or canaries.kind != GRADIENT:
        return
    if trainer is None or "canaries" not in inspect.signature(trainer.fit).parameters:
        named = "no recipe" if trainer is None else f"the recipe '{trainer.name}'"
        raise ConfigError(
            f"canaries: gradients are put into the steps of DP-SGD, and {named} takes any: use dp-softmax or dp-mlp, "
            "or a recipe of your own with the keyword canaries (seepage.models.gradient_canaries)"
        )


def trained(members: Records, trainer: Trainer, canaries: Canaries | None) -> tuple[Records, Trainer]:
    """What a victim with canaries is trained on, and by what: weights are kept by both."""
    if canaries is None:
        return members, trainer
    if canaries.kind == GRADIENT:
        coins = [bool(coin) for coin in canaries.included]
        return members, replace(trainer, options={**trainer.options, "canaries": coins})
    return members.joined(canaries.inserted), trainer


def default_claim(trainer: Trainer | None, canaries: Canaries | None, members: int) -> Claim | None:
    """What a recipe that trains by DP-SGD guarantees; None for other recipes, and where there are no canaries."""
    if trainer is None or canaries is None or trainer.built_in is None:
        return None
    guaranteed = built_in(trainer.built_in).guaranteed
    if guaranteed is None or trainer.options.get("noise") == 0:
        return None
    more = 0 if canaries.kind == GRADIENT else int(canaries.included.sum())
    epsilon, delta = guaranteed(members + more, trainer.options)
    return Claim(epsilon, delta, "gaussian", source=f"the accountant of the recipe '{trainer.name}'")


def given_canaries(
    given: Canaries | Mapping[str, Any] | Path | str | None,
    splits: Splits,
    like: Any,
    spec: InputSpec | None,
    reading: Reading,
    seed: int,
    made_here: bool,
) -> tuple[Splits, Canaries | None]:
    """The same for a call from Python: a manifest, a table like `[canaries]`, or canaries.

    Raises:
        ConfigError, DataError: as `staged_canaries`.
    """
    if isinstance(given, Canaries):
        records = given.records
        if records.x.shape[1:] != splits.members.x.shape[1:] or records.class_names != splits.members.class_names:
            raise DataError(
                f"canaries: records like the members were wanted, shape {splits.members.x.shape[1:]} of "
                f"{len(splits.members.class_names)} classes; got shape {records.x.shape[1:]} of "
                f"{len(records.class_names)}"
            )
        return splits, given
    table = None
    if isinstance(given, str | Path):
        table = CanariesTable(manifest=str(given))
    elif given is not None:
        table = _table(CanariesTable, given, "canaries")
    return staged_canaries(table, splits, like, spec, reading, seed, Path(), made_here)


@dataclass(frozen=True)
class Given:
    """The records of a call from Python, and how they were read.

    Attributes:
        splits: the records, as read.
        like: what the members were read from.
        declared: the victim's input, where the call declares it.
        spec: the same, or as the records show it.
        reading: how they were read.
        seed: of the audit.
    """

    splits: Splits
    like: Any
    declared: InputSpec | None
    spec: InputSpec
    reading: Reading
    seed: int


@dataclass(frozen=True)
class Told:
    """What a call says of the training, and the records and the input in its light."""

    splits: Splits
    spec: InputSpec
    canaries: Canaries | None
    claim: Claim | None


def told_of(canaries: Any, claim: Any, given: Given, trainer: Trainer | None, made_here: bool) -> Told:
    """Canaries and claim of a call from Python.

    Args:
        canaries: as `seepage.audit` takes them.
        claim: likewise.
        given: the records.
        trainer: of the recipe, where there is one.
        made_here: whether the victim is trained here.

    Raises:
        ConfigError, DataError: for canaries and claims that cannot be used.
    """
    splits, found = given_canaries(
        canaries, given.splits, given.like, given.declared, given.reading, given.seed, made_here
    )
    check_trainer(trainer, found)
    guaranteed = default_claim(trainer if made_here else None, found, len(splits.members))
    spec = given.declared or widened(given.spec, splits, found)
    return Told(splits, spec, found, given_claim(claim, found) or guaranteed)


def written(canaries: Any, claim: Any) -> dict[str, Any]:
    """Canaries and claim as a call gave them, for the record."""
    told: dict[str, Any] = {}
    if isinstance(canaries, str | Path):
        told["canaries"] = {"manifest": str(canaries)}
    elif canaries is not None:
        told["canaries"] = dict(canaries) if isinstance(canaries, Mapping) else type(canaries).__name__
    if claim is not None:
        told["claim"] = asdict(claim) if isinstance(claim, Claim) else claim
    return told


def given_claim(given: Claim | Mapping[str, Any] | float | None, canaries: Canaries | None) -> Claim | None:
    """The claim of a call from Python.

    Raises:
        ConfigError: for a claim that cannot be, or one without canaries.
    """
    if given is None:
        return None
    if canaries is None:
        raise ConfigError("claim: it is held against canaries, and there are none: give canaries=")
    if isinstance(given, Claim):
        return given
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = {"epsilon": given}
    return claim_of(_table(ClaimTable, given, "claim"))


def _table(cls: type[T], given: Any, where: str) -> T:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where}: a table with {', '.join(cls.model_fields)} was wanted, got {given!r}")
    try:
        return cls.model_validate(dict(given))
    except ValidationError as error:
        raise explain(error, where, {"": cls}) from error


def canaries_identity(canaries: Canaries | None, claim: Claim | None) -> dict[str, Any]:
    """What of canaries and claim decides results; nothing where there are none."""
    if canaries is None and claim is None:
        return {}
    told = None if canaries is None else [canaries.records.digest(), digest(canaries.included.tolist()), canaries.seed]
    said = None if claim is None else [claim.epsilon, claim.delta, claim.family, claim.attack]
    return {"canaries": told, "claim": said}


def canary_facts(canaries: Canaries | None) -> dict[str, float | str | None]:
    """What the record says of canaries among the facts of its data."""
    if canaries is None:
        return {}
    told = " ".join(canaries.notes)
    return {
        "canaries": float(len(canaries)),
        "canaries_included": float(canaries.included.sum()),
        "canaries_made": told,
    }


def claim_of(table: ClaimTable | None) -> Claim | None:
    """The claim of an audit file."""
    if table is None:
        return None
    return Claim(table.epsilon, table.delta, table.family, table.attack)
