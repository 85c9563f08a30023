"""A run of Flower in one process, without its servers: real `ServerApp`, real `ClientApp`, one after another.

For tests, and for trying a recording out; `flwr run` is for the real thing.
"""

import copy
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

_FAILED, _RUN = 100, 1


class OneProcess(Grid):
    """Hands every message to the client's app at once; a client that raises answers with an error.

    Args:
        client: the app of all clients.
        contexts: the state and configuration of each, by number.
    """

    def __init__(self, client: ClientApp, contexts: Mapping[int, Context]):
        self._client, self._contexts = client, dict(contexts)
        self._replies: dict[str, Message] = {}

    def set_run(self, run: Any) -> None:
        """There is one run alone."""

    @property
    def run(self) -> Any:
        return Run.create_empty(_RUN)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        names: list[str] = []
        for message in messages:
            name = str(uuid.uuid4())
            # What a server does when a message reaches it.
            message.metadata.__dict__["_message_id"] = name
            self._replies[name] = self._answered(message)
            names.append(name)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(name) for name in list(message_ids) if name in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))

    def _answered(self, message: Message) -> Message:
        try:
            # A copy, as after a journey: what a client takes out of its message stays in the server's.
            return self._client(copy.deepcopy(message), self._contexts[message.metadata.dst_node_id])
        except Exception as error:  # noqa: BLE001 a client may raise anything, and its server sees an error
            return Message(Error(_FAILED, f"{type(error).__name__}: {error}"), reply_to=message)


def play(server: ServerApp, client: ClientApp, clients: int, run_config: Mapping[str, Any]) -> None:
    """Run an app on `clients` nodes, numbered from 1, each told its `partition-id` and `num-partitions`."""
    contexts = {
        number + 1: Context(
            run_id=_RUN,
            node_id=number + 1,
            node_config={"partition-id": number, "num-partitions": clients},
            state=RecordDict(),
            run_config=dict(run_config),
        )
        for number in range(clients)
    }
    # Messages name the run and the node that they are made in; the framework's launchers set both.
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = _RUN, 0, 0
    own = Context(run_id=_RUN, node_id=0, node_config={}, state=RecordDict(), run_config=dict(run_config))
    server(OneProcess(client, contexts), own)
