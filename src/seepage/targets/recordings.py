"""Recordings of federated runs: what a server sent out and got back, round by round, as files.

    recording.json                         format, version, the framework's version, the run's configuration
    rounds/0001/<stem>.json                one client's exchange: node, configuration sent, metrics returned, its files
    rounds/0001/sent-<digest>.safetensors  the weights sent out, once for all clients that got the same
    rounds/0001/<stem>.safetensors         the weights that came back

Written by `seepage.targets.flower`; read here without that framework. The exchange is written last, so that what a
killed run left behind is whole as far as it goes.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from seepage.core.errors import DataError

Array = np.ndarray
Arrays = dict[str, Array]
FORMAT, VERSION = "seepage federated recording", 1
_META, _ROUNDS = "recording.json", "rounds"


@dataclass(frozen=True)
class Exchange:
    """What one client was sent in one round, and what it sent back.

    Attributes:
        round: number of the round, from 1.
        node: the client's number in the federation.
        config: what the server told the client besides weights (learning rate, local epochs, ...).
        metrics: what the client told besides weights (`num-examples`, losses, ...).
        missing: why there is no update to read, or None when there is one.
        folder: of the round.
        sent: file of the weights sent out, in that folder; None where there were none.
        reply: file of the weights that came back.
    """

    round: int
    node: str
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    metrics: Mapping[str, Any] = field(default_factory=dict[str, Any])
    missing: str | None = None
    folder: Path = Path()
    sent: str | None = None
    reply: str | None = None

    @property
    def records(self) -> int | None:
        """How many records the client says it trained on."""
        for name in ("num-examples", "num_examples"):
            value = self.metrics.get(name)
            if isinstance(value, int | float) and 1 <= value < math.inf:
                return int(value)
        return None

    def before(self) -> "Arrays | list[Array]":
        """The weights sent out, by name, or in the order of the model where the framework does not name them."""
        return _read(self.folder, self.sent, self)

    def after(self) -> "Arrays | list[Array]":
        """The weights that came back, in the same form."""
        return _read(self.folder, self.reply, self)


_EXCHANGE = TypeAdapter(Exchange)


@dataclass(frozen=True)
class Recording:
    """A recording that is there.

    Attributes:
        path: its folder.
        about: framework, version and configuration of the run.
    """

    path: Path
    about: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Recording":
        """The recording in a folder.

        Raises:
            DataError: when the folder is none, or of a later version.
        """
        place = path / _META
        if not place.is_file():
            raise DataError(
                f"recording: '{path}' is no recording of a federated run (it has no {_META}): record one with "
                "seepage.targets.flower.recorded(app, folder) in the server's app"
            )
        about = _json(place)
        if about.get("format") != FORMAT or not isinstance(about.get("version"), int):
            raise DataError(f"recording: '{place}' is not a {FORMAT}")
        if about["version"] > VERSION:
            raise DataError(
                f"recording: '{path}' is of version {about['version']}, this Seepage reads up to {VERSION}: "
                "update Seepage"
            )
        return cls(path, about)

    @cached_property
    def exchanges(self) -> tuple[Exchange, ...]:
        """Every client's exchange of every round, in order; one whose file is damaged is there as missing."""
        found = [_exchange(place) for place in sorted((self.path / _ROUNDS).glob("*/*.json"))]
        return tuple(sorted(found, key=lambda one: (one.round, _order(one.node))))

    @property
    def readable(self) -> tuple[Exchange, ...]:
        """Those that hold an update."""
        return tuple(one for one in self.exchanges if one.missing is None)

    def pick(self, number: int | None = None, client: int | str | None = None) -> Exchange:
        """One exchange.

        Args:
            number: of the round; the first that holds an update when left out.
            client: the node's number, or the place of the client among those of the round, from 0; the first when
                left out.

        Raises:
            DataError: when there is no such update; the message says which there are.
        """
        rounds = sorted({one.round for one in self.readable})
        if not rounds:
            why = "; ".join(sorted({one.missing for one in self.exchanges if one.missing})) or "no round was finished"
            raise DataError(f"recording: '{self.path}' holds no update to read: {why}")
        number = rounds[0] if number is None else number
        here = [one for one in self.readable if one.round == number]
        if not here:
            lost = [f"client {one.node}: {one.missing}" for one in self.exchanges if one.round == number]
            raise DataError(
                f"recording: round {number} holds no update to read ({'; '.join(lost) or 'it was not recorded'}); "
                f"rounds with updates: {', '.join(map(str, rounds))}"
            )
        if client is None:
            return here[0]
        by_node = [one for one in here if one.node == str(client)]
        if by_node:
            return by_node[0]
        if isinstance(client, int) and 0 <= client < len(here):
            return here[client]
        nodes = ", ".join(one.node for one in here)
        lost = [one.missing for one in self.exchanges if (one.round, one.node) == (number, str(client)) and one.missing]
        why = f" that can be read: {lost[0]}" if lost else ""
        raise DataError(
            f"recording: round {number} has no client {client}{why}; there are {nodes} (or 0 to {len(here) - 1})"
        )


class Writer:
    """Writes a recording, a file at a time, each whole or not there.

    Args:
        path: its folder, made when missing; one that holds a recording already is refused.
        about: framework, version, configuration of the run.

    Raises:
        DataError: for a folder that holds something else.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]):
        if path.exists() and any(path.iterdir()):
            raise DataError(f"recording: '{path}' is not empty: give a new folder for each run")
        (path / _ROUNDS).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = path
        _write(path / _META, _encoded({"format": FORMAT, "version": VERSION, **about}))

    def exchange(self, done: Exchange, before: Arrays | None, after: Arrays | None) -> None:
        """One client's part in a round; the same client's again in that round gets a file of its own."""
        folder = self._path / _ROUNDS / f"{done.round:04d}"
        folder.mkdir(exist_ok=True, mode=0o700)
        stem = f"client-{done.node}"
        again = len([*folder.glob(f"{stem}.json"), *folder.glob(f"{stem}-*.json")])
        stem = f"{stem}-{again}" if again else stem
        sent = reply = None
        if before is not None:
            packed = save(before)
            sent = f"sent-{hashlib.sha256(packed).hexdigest()[:12]}.safetensors"
            if not (folder / sent).exists():
                _write(folder / sent, packed)
        if after is not None:
            reply = f"{stem}.safetensors"
            _write(folder / reply, save(after))
        told = {"round": done.round, "node": done.node, "config": dict(done.config), "metrics": dict(done.metrics)}
        told |= {"missing": done.missing, "sent": sent, "reply": reply}
        _write(folder / f"{stem}.json", _encoded(told))


def _write(path: Path, content: bytes) -> None:
    """By a temporary file in the same folder, readable by the owner alone: updates are private."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _encoded(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, indent=1, default=str, allow_nan=True).encode()


def _exchange(place: Path) -> Exchange:
    """An exchange from its file. One that is damaged costs its client alone: names tell the round and the node."""
    try:
        told = {**_json(place), "folder": place.parent}
        return _EXCHANGE.validate_python(told)
    except (DataError, ValidationError) as error:
        said = error if isinstance(error, DataError) else f"'{place}' is damaged: {_first(error)}; record the run again"
        why = str(said).removeprefix("recording: ")
        number = int(place.parent.name) if place.parent.name.isdigit() else 0
        return Exchange(number, place.stem.removeprefix("client-"), missing=why, folder=place.parent)


def _first(error: ValidationError) -> str:
    seen = error.errors()[0]
    return f"{'.'.join(map(str, seen['loc']))}: {seen['msg']}"


def _json(place: Path) -> dict[str, Any]:
    try:
        told = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"recording: '{place}' cannot be read ({error}); record the run again") from error
    if not isinstance(told, dict):
        raise DataError(f"recording: '{place}' is damaged: a table was wanted")
    return {str(name): value for name, value in told.items()}


def _read(folder: Path, name: str | None, of: Exchange) -> "Arrays | list[Array]":
    if name is None:
        raise DataError(f"recording: round {of.round}, client {of.node}: {of.missing or 'no weights were recorded'}")
    if Path(name).name != name:
        raise DataError(f"recording: '{name}' is no file of its round")
    try:
        arrays = load_file(folder / name)
    except (OSError, SafetensorError) as error:
        raise DataError(f"recording: '{folder / name}' cannot be read ({error}); record the run again") from error
    if all(one.isdigit() for one in arrays):
        return [arrays[one] for one in sorted(arrays, key=int)]
    return arrays


def _order(node: str) -> tuple[int, str]:
    return (int(node), "") if node.isdigit() else (0, node)
