"""`[victim] kind = "flower"`: one client's update of one round of a recorded federated run, as a captured update."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from seepage.audit.round import Round
from seepage.audit.sent import Sent, read
from seepage.audit.tables import FederatedTable
from seepage.core.errors import ConfigError, DataError
from seepage.targets.recordings import Exchange, Recording

# Keys of `[victim]` that say which update of which recording.
KEYS = ("recording", "round", "client")
ALL = "all"
# Bytes of a number in single precision.
_SINGLE = 4
# What servers call the things they tell their clients; the first that is there counts.
_SAID: Mapping[str, tuple[str, ...]] = {
    "rate": ("lr", "learning-rate", "learning_rate", "eta"),
    "epochs": ("local-epochs", "local_epochs", "epochs", "num-epochs", "num_epochs"),
    "local_batch": ("batch-size", "batch_size", "local-batch", "local_batch"),
    "momentum": ("momentum",),
}


def from_recording(options: Mapping[str, Any], table: FederatedTable | None, module: nn.Module) -> Sent:
    """The update of a recorded run that `[victim]` picks; its weights before are put into the module.

    `{client}` and `{round}` in the paths of `[data]` stand for those of the update that is audited.

    Args:
        options: those of `[victim]`, their paths resolved.
        table: `[federated]`: what is known of the round besides what the recording tells.
        module: the model.

    Raises:
        ConfigError, DataError: for what cannot be used.
    """
    if not isinstance(options.get("recording"), str):
        raise ConfigError('[victim] kind = "flower" needs recording = "...": the folder that a run was recorded in')
    recording = Recording.open(Path(options["recording"]))
    chosen = picked(recording, options.get("round"), options.get("client"))
    update = read(module, (chosen.before, chosen.after), "delta", weights=False)
    known = filled(Round.of_table(table, True), chosen, recording.about.get("run_config") or {})
    told = {"round": float(chosen.round), "client": chosen.node, "records_said": known.batch, "clients": known.clients}
    told["arrays_as"] = chosen.rounded
    return Sent(
        module,
        update,
        known,
        facts={name: value for name, value in told.items() if value is not None},
        digest={"recorded": [chosen.round, chosen.node]},
        words={"client": chosen.node, "round": str(chosen.round)},
    )


class Picked:
    """An update of a recording: the weights on both sides, and what was said of its making.

    Attributes:
        round: number of the round.
        node: the client's number, or "all".
        clients: how many clients it is of.
        records: how many records the client says it trained on; each, of several that say the same.
        config: what the server told the clients.
    """

    def __init__(self, round: int, node: str, exchanges: list[Exchange], before: Any, after: Any):
        self.round, self.node, self.before, self.after = round, node, before, after
        self.clients = len(exchanges)
        said = {one.records for one in exchanges}
        self.records = said.pop() if len(said) == 1 else None
        self.config: Mapping[str, Any] = exchanges[0].config

    @property
    def rounded(self) -> str | None:
        """The type of arrays that were sent in less than single precision, which swallows small changes, or None."""
        kinds = {np.asarray(one).dtype for side in (self.before, self.after) for one in _arrays(side)}
        short = sorted(str(kind) for kind in kinds if np.issubdtype(kind, np.floating) and kind.itemsize < _SINGLE)
        return ", ".join(short) or None


def picked(recording: Recording, number: Any = None, client: Any = None) -> Picked:
    """One client's update, or (`client` "all") the mean of a round: what the next round's weights differ by.

    Raises:
        ConfigError, DataError: when there is no such update; the message says which there are.
    """
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
        raise ConfigError(f"[victim] round: a whole number, 1 or more, was wanted, got {number!r}")
    if client is not None and (isinstance(client, bool) or not isinstance(client, int | str)):
        raise ConfigError(f"[victim] client: a client's number, or 'all', was wanted, got {client!r}")
    if client != ALL:
        one = recording.pick(number, client)
        return Picked(one.round, one.node, [one], one.before(), one.after())
    rounds = sorted({one.round for one in recording.exchanges if one.sent is not None})
    number = rounds[0] if number is None and rounds else number
    if number not in rounds or number + 1 not in rounds:
        raise DataError(
            f"recording: the mean of round {number} shows in the weights sent out in the next one; weights were sent "
            f"out in rounds {', '.join(map(str, rounds)) or 'none'}"
        )
    here = [one for one in recording.exchanges if one.round == number]
    before = next(one for one in here if one.sent is not None)
    after = next(one for one in recording.exchanges if one.round == number + 1 and one.sent is not None)
    return Picked(number, ALL, _took_part(here), before.before(), after.before())


def _took_part(here: list[Exchange]) -> list[Exchange]:
    """One exchange of each client whose update is in the mean of a round.

    Those who say how many records they trained on, which in a protocol of several messages is said with the masked
    update alone; where nobody says, those who sent one; and all, where that is not known either.
    """
    said = [one for one in here if one.records is not None]
    sent = said or [one for one in here if one.missing is None] or here
    return list({one.node: one for one in sent}.values())


def filled(known: Round, chosen: Picked, run_config: Mapping[str, Any]) -> Round:
    """What is known of the round: as the file says, else as clients were told, else as the run was configured."""
    found: dict[str, Any] = {"records": chosen.records, "clients": chosen.clients}
    for name, words in _SAID.items():
        value = next((place[w] for place in (chosen.config, run_config) for w in words if w in place), None)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            found[name] = float(value) if name in ("rate", "momentum") else int(value)
    if found.get("rate") == 0.0:
        del found["rate"]
    missing = {
        name: value
        for name, value in found.items()
        if value is not None and (name == "clients" or getattr(known, name) is None)
    }
    return replace(known, **missing)


def _arrays(side: Any) -> list[Any]:
    return list(side.values()) if isinstance(side, Mapping) else list(side)
