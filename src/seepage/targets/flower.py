"""Recording a run of Flower: what the server of a real `ServerApp` sends out and gets back (the extra `[fl]`).

The adversary of gradient inversion is the server, so that recording is done there, in one line of the server's app;
clients run as they are:

    from seepage.targets.flower import recorded

    app = recorded(app, "recording")
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seepage.core.errors import ConfigError, StoreError
from seepage.targets.recordings import Arrays, Exchange, Writer

try:
    import flwr
    from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
    from flwr.serverapp import Grid, ServerApp
except ModuleNotFoundError as error:
    raise ConfigError(
        f"recording a run of Flower needs the package '{error.name}': pip install 'seepage[fl]'"
    ) from error

log = logging.getLogger(__name__)
TRAIN = "train"
_ROUND = ("server-round", "server_round", "round", "current_round")
# Sums that are masked: what a client sends tells nothing by itself, and is not kept.
_SECURE = "secaggplus"


def recorded(app: ServerApp, folder: str | Path) -> ServerApp:
    """The same app, with what it sends out and gets back written to a folder.

    Works for apps with a main function and for those made of a `Strategy`. Nothing that the run computes changes;
    a disk that is full ends the recording with a warning, and not the run.

    Args:
        app: a `flwr.serverapp.ServerApp`.
        folder: a new one for each run.

    Raises:
        DataError: when the app is run, for a folder that is not empty.
    """
    whole = ServerApp()

    @whole.main()
    def main(grid: Grid, context: Context) -> None:
        about = {"framework": "flwr", "framework_version": flwr.__version__, "run_config": dict(context.run_config)}
        app(RecordingGrid(grid, Writer(Path(folder), about)), context)

    return whole


class RecordingGrid(Grid):
    """A grid that writes down every training message and its reply.

    Args:
        grid: the one that messages travel by.
        writer: where to.
    """

    def __init__(self, grid: Grid, writer: Writer):
        self._grid, self._writer = grid, writer
        self._asked: dict[str, Message] = {}
        self._times: dict[int, int] = {}
        self._full = False

    def set_run(self, run: Any) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        return self._grid.get_node_ids()

    def get_nodes(self) -> Iterable[Any]:
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        listed = list(messages)
        names = list(self._grid.push_messages(listed))
        self._asked |= {name: message for name, message in zip(names, listed, strict=False) if _trains(message)}
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = list(self._grid.pull_messages(message_ids))
        for reply in replies:
            asked = self._asked.pop(reply.metadata.reply_to_message_id, None)
            if asked is not None:
                self._keep(asked, reply)
        return replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        listed = list(messages)
        replies = list(self._grid.send_and_receive(listed, timeout=timeout))
        waiting = {message.metadata.dst_node_id: message for message in listed if _trains(message)}
        for reply in replies:
            asked = waiting.pop(reply.metadata.src_node_id, None)
            if asked is not None:
                self._keep(asked, reply)
        for message in waiting.values():
            self._keep(message, None)
        return replies

    def _keep(self, asked: Message, reply: Message | None) -> None:
        if self._full:
            return
        try:
            self._writer.exchange(*self._exchange(asked, reply))
        except (OSError, StoreError) as error:
            self._full = True
            log.warning("the run is recorded no further (%s); the run itself goes on", error)

    def _exchange(self, asked: Message, reply: Message | None) -> tuple[Exchange, Arrays | None, Arrays | None]:
        before, config, _ = _parts(asked)
        metrics: dict[str, Any] = {}
        after = missing = None
        if reply is None:
            missing = "the client did not answer in time"
        elif reply.has_error():
            missing = f"the client failed: {reply.error.reason or 'code ' + str(reply.error.code)}"
        elif any(name.startswith(_SECURE) for name in _records(asked)):
            missing = "it went through secure aggregation: what a client sends is masked"
            # What is masked are weights; how many records they are of is told in the clear.
            metrics = _parts(reply)[2]
        else:
            after, said, metrics = _parts(reply)
            metrics = {**said, **metrics}
            if before is None or after is None:
                after, missing = None, "no weights were sent back" if after is None else "no weights were sent out"
            elif set(before) != set(after):
                after, missing = None, "other tensors came back than were sent out"
        done = Exchange(self._round(asked, config), str(asked.metadata.dst_node_id), config, metrics, missing)
        return done, before, after

    def _round(self, asked: Message, config: Mapping[str, Any]) -> int:
        """As strategies tell their clients, else as the message's group is called, else counted by client."""
        node = asked.metadata.dst_node_id
        self._times[node] = self._times.get(node, 0) + 1
        told = next((config[name] for name in _ROUND if name in config), asked.metadata.group_id)
        number = int(told) if isinstance(told, int | float) or str(told).isdigit() else 0
        return number if number > 0 else self._times[node]


def _trains(message: Message) -> bool:
    return message.metadata.message_type.partition(".")[0] == TRAIN and message.has_content()


def _records(message: Message) -> list[str]:
    return list(message.content) if message.has_content() else []


def _parts(message: Message) -> tuple[Arrays | None, dict[str, Any], dict[str, Any]]:
    """Weights, configuration and metrics of a message, by the kind of its records."""
    arrays: Arrays | None = None
    config: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    for name, record in message.content.items():
        if name.startswith(_SECURE):
            # Keys, ciphertexts and stages of the protocol say nothing of the training.
            continue
        if isinstance(record, ArrayRecord):
            # Models are sent as one record; of several the first is the model's.
            if arrays is None:
                arrays = {key: np.array(value.numpy(), order="C") for key, value in record.items()}
        elif isinstance(record, ConfigRecord):
            config |= {key: value for key, value in record.items() if not isinstance(value, bytes)}
        else:
            metrics |= dict(record.items())
    return arrays or None, config, metrics
