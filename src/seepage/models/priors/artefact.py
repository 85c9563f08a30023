"""A prior as a file: weights in safetensors, and beside them a card that says what they are."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors

from seepage import __version__
from seepage.core.code import code_digest
from seepage.core.errors import ConfigError, ModelError, StoreError, did_you_mean
from seepage.core.records import Records, row_digests
from seepage.core.seeds import stream
from seepage.core.spec import Bounds, InputSpec
from seepage.core.vocabulary import Modality
from seepage.models.priors.base import Prior
from seepage.models.priors.diffusion import reopened as reopened_diffusion
from seepage.models.priors.gan import reopened as reopened_gan
from seepage.models.priors.pca import reopened as reopened_pca

WEIGHTS, CARD = ".safetensors", ".card.json"
# kind -> (spec, options, tensors, learned) -> prior; the counterpart of the prior's `kept`.
OPENERS: Mapping[str, Callable[..., Prior]] = {
    "pca": reopened_pca,
    "gan": reopened_gan,
    "cgan": reopened_gan,
    "diffusion": reopened_diffusion,
}


@runtime_checkable
class Keepable(Prior, Protocol):
    """A prior that can be saved: numbers to build it again (JSON), and tensors."""

    def kept(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]: ...


class Card(BaseModel):
    """What a prior is, where it comes from and how good it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(default=1, ge=1, le=1, description="of this card")
    kind: str = Field(description="pca, gan, cgan or diffusion")
    shape: tuple[int, ...] = Field(description="of one record")
    modality: Modality = Field(description="what one record is")
    low: float | list[Any] = Field(description="least value of the records it was trained on, one or one a feature")
    high: float | list[Any] = Field(description="greatest value, likewise")
    options: dict[str, Any] = Field(description="numbers its nets are built from")
    asked: dict[str, Any] = Field(description="options its training was asked for")
    source: str = Field(description="where the public records come from, with their credit")
    records: int = Field(ge=1, description="how many public records there were, those held out included")
    digest: str = Field(description="SHA-256 of the public records")
    rows: tuple[str, ...] = Field(description="a digest of each public record: overlaps are found by them")
    seed: int
    facts: dict[str, float | str | None] = Field(description="steps, seconds, device, quality")
    packages: dict[str, str] = Field(description="versions it was trained with")
    weights_sha256: str = Field(description="SHA-256 of the weights file")


def record_digests(x: np.ndarray) -> tuple[str, ...]:
    """The digests of a card for records (n, ...) in unit scale: 64 bits each, equal for 8-bit pixels that are equal."""
    steps = np.round(np.asarray(x, dtype=np.float64) * 255).astype(np.float32)
    return tuple(digest[:8].hex() for digest in row_digests(steps))


def card_of(
    prior: Prior, public: Records, seed: int, asked: Mapping[str, Any], facts: Mapping[str, float | str | None]
) -> Card:
    """The card of a prior trained on `public`; `save` adds the digest of its weights.

    Raises:
        ConfigError: for a prior that cannot be saved.
    """
    options, _ = _keepable(prior).kept()
    spec = prior.spec
    return Card(
        kind=prior.kind,
        shape=spec.shape,
        modality=spec.modality,
        low=np.asarray(spec.bounds.low, dtype=np.float64).tolist(),
        high=np.asarray(spec.bounds.high, dtype=np.float64).tolist(),
        options=options,
        asked=dict(asked),
        source=public.source,
        records=len(public),
        digest=public.digest(),
        rows=record_digests(spec.bounds.to_unit(public.x)),
        seed=seed,
        facts={name: value for name, value in facts.items() if name not in ("kind", "size")},
        packages={"seepage": __version__, **{name: _version(name) for name in ("torch", "numpy", "safetensors")}},
        weights_sha256="",
    )


def save(prior: Prior, card: Card, path: str | Path) -> Path:
    """Write NAME.safetensors and NAME.card.json, each at once, the card last.

    Args:
        prior: the prior.
        card: from `card_of`.
        path: NAME, with or without one of the endings.

    Returns:
        The path of the weights.

    Raises:
        ConfigError: for a prior that cannot be saved.
        StoreError: where it cannot be written.
    """
    _, tensors = _keepable(prior).kept()
    weights = write_tensors({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    card = card.model_copy(update={"weights_sha256": hashlib.sha256(weights).hexdigest()})
    stem = stem_of(path)
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        # No card stands beside weights that are not its own.
        _beside(stem, CARD).unlink(missing_ok=True)
        _write(_beside(stem, WEIGHTS), weights)
        _write(_beside(stem, CARD), (card.model_dump_json(indent=1) + "\n").encode())
    except OSError as error:
        raise StoreError(f"the prior cannot be written to {stem}: {error.strerror or error}") from error
    return _beside(stem, WEIGHTS)


def read_card(path: str | Path) -> Card:
    """The card of the prior at `path`: NAME, NAME.safetensors, NAME.card.json, or a folder that holds one prior.

    Raises:
        ConfigError: when there is none, or it is none.
    """
    place = _beside(_found(path), CARD)
    try:
        return Card.model_validate_json(place.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"no card of a prior at {place} ({error.strerror or error}): it lies beside the weights, as "
            "`seepage prior train` writes it"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(
            f"{place.name} is no card of a prior: {where}: {first['msg']}; train the prior again with "
            "`seepage prior train`"
        ) from error


def load(path: str | Path, spec: InputSpec | None = None) -> Prior:
    """The prior at `path`, ready for a victim that takes `spec`.

    Args:
        path: NAME, NAME.safetensors, NAME.card.json, or a folder that holds one prior.
        spec: what the victim takes; a prior of pictures in another value range is brought to its range.
            None takes the prior as it was trained.

    Raises:
        ConfigError: for an unknown kind, a shape or modality that is not the victim's, no card.
        ModelError: for weights that are not those of the card, cannot be read, or draw what no record is.
    """
    card, stem = read_card(path), _found(path)
    if card.kind not in OPENERS:
        raise ConfigError(f"{stem.name} is a prior of unknown kind '{card.kind}': {did_you_mean(card.kind, OPENERS)}")
    own = InputSpec(card.shape, Bounds.of(card.low, card.high), card.modality)
    spec = own if spec is None else spec
    _same_shape(stem.name, card, spec)
    _same_range(stem.name, own, spec)
    place = _beside(stem, WEIGHTS)
    try:
        weights = place.read_bytes()
    except OSError as error:
        raise ModelError(f"the weights of the prior cannot be read: {place}: {error.strerror or error}") from error
    if hashlib.sha256(weights).hexdigest() != card.weights_sha256:
        raise ModelError(
            f"{place.name} is not the file its card speaks of (its SHA-256 is another): copy both again from where "
            "they were made, or train the prior again"
        )
    learned = {**card.facts, "source": card.source, "records": float(card.records), "card": card.weights_sha256[:12]}
    try:
        prior = OPENERS[card.kind](spec, card.options, read_tensors(weights), learned)
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{place.name} does not hold the nets its card describes ({error}); train the prior again"
        ) from error
    check(prior, stem.name)
    return prior


def check(prior: Prior, name: str) -> None:
    """Draw a few records and see that they are some.

    Raises:
        ModelError: when their shape, their values or their range are wrong.
    """
    drawn = prior.sample(4, stream(0, "prior", "check"))
    spec = prior.spec
    if drawn.shape != (4, *spec.shape):
        raise ModelError(f"the prior '{name}' should draw records of shape {spec.shape}, and draws {drawn.shape[1:]}")
    if not np.isfinite(drawn).all():
        raise ModelError(f"the prior '{name}' draws values that are NaN or infinite; train it again")
    if not spec.bounds.contain(drawn):
        raise ModelError(
            f"the prior '{name}' should draw values in [{spec.bounds.low.min():g}, {spec.bounds.high.max():g}], and "
            f"draws [{drawn.min():g}, {drawn.max():g}]"
        )


def with_facts(prior: Prior, facts: Mapping[str, float | str | None]) -> Prior:
    """The prior with more `facts`, for reports; one that keeps none is given back as it is."""
    if not hasattr(prior, "learned"):
        return prior
    known: Any = prior
    return replace(known, learned={**known.learned, **facts})


def stem_of(path: str | Path) -> Path:
    """NAME of NAME, NAME.safetensors or NAME.card.json."""
    path = Path(path)
    for ending in (WEIGHTS, CARD):
        if path.name.endswith(ending):
            return path.with_name(path.name.removesuffix(ending))
    return path


def _found(path: str | Path) -> Path:
    place = Path(path)
    if not place.is_dir():
        return stem_of(place)
    cards = sorted(place.glob(f"*{CARD}"))
    if len(cards) != 1:
        held = ", ".join(card.name.removesuffix(CARD) for card in cards) or "none"
        raise ConfigError(f"a folder with one prior was wanted: {place} holds {held}; name the file")
    return stem_of(cards[0])


def _beside(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)


def _write(place: Path, content: bytes) -> None:
    fresh = place.with_name(f"{place.name}.{os.getpid()}.new")
    try:
        fresh.write_bytes(content)
        fresh.replace(place)
    finally:
        fresh.unlink(missing_ok=True)


def _same_shape(name: str, card: Card, spec: InputSpec) -> None:
    if card.shape == spec.shape and card.modality is spec.modality:
        return
    advice = "train one on records of that shape"
    if card.modality is spec.modality is Modality.IMAGE:
        _, height, width = spec.shape
        grey = " --grey" if spec.shape[0] == 1 else " --colour"
        sides = f"{height}" if height == width else f"{height}x{width}"
        advice = f"train one with `seepage prior train DATA --size {sides}{grey}`"
    raise ConfigError(
        f"the prior '{name}' draws records ({card.modality}) of shape {card.shape}, and the victim takes "
        f"({spec.modality}) {spec.shape}: {advice}"
    )


def _same_range(name: str, own: InputSpec, spec: InputSpec) -> None:
    """Pictures in another range are the same pictures; a table's columns in another range are other numbers."""
    if spec.modality is Modality.IMAGE:
        return
    for ours, theirs in ((own.bounds.low, spec.bounds.low), (own.bounds.high, spec.bounds.high)):
        if not np.allclose(np.broadcast_to(ours, spec.shape), np.broadcast_to(theirs, spec.shape)):
            raise ConfigError(
                f"the prior '{name}' was trained on columns in another value range than the victim takes: "
                "train it on records prepared as the victim's, with the victim's range"
            )


def _keepable(prior: Prior) -> Keepable:
    if not isinstance(prior, Keepable) or prior.kind not in OPENERS:
        raise ConfigError(f"a prior of kind '{prior.kind}' cannot be saved; known: {', '.join(OPENERS)}")
    return prior


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def fingerprint(kind: str, public: Records, spec: InputSpec, seed: int, options: Mapping[str, Any]) -> str:
    """SHA-256 over everything a training depends on: the name under which its result is kept."""
    parts = {
        "kind": kind,
        "public": public.digest(),
        "shape": spec.shape,
        "modality": str(spec.modality),
        "low": np.asarray(spec.bounds.low).tolist(),
        "high": np.asarray(spec.bounds.high).tolist(),
        "seed": seed,
        "options": dict(options),
        "version": __version__,
        "code": code_digest("models"),
    }
    try:
        text = json.dumps(parts, sort_keys=True)
    except TypeError as error:
        raise ConfigError(f"options of a prior are numbers, texts and truths, got {dict(options)!r}") from error
    return hashlib.sha256(text.encode()).hexdigest()
