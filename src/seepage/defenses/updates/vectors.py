"""An update as one vector, and a vector as an update."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from seepage.core.errors import ConfigError, DataError
from seepage.core.victim import Update, Updates

Array = np.ndarray


def flat(update: Update) -> Float[Array, " d"]:
    """All values of all tensors, in their order, in double precision.

    Raises:
        DataError: for an update without values, or with values that are not finite.
    """
    if not update.tensors:
        raise DataError("an update with tensors was wanted, it has none")
    for name, tensor in update.tensors.items():
        if not np.isfinite(tensor).all():
            raise DataError(f"the update's tensor '{name}' holds NaN or infinite values: local training diverged")
    return np.concatenate([np.asarray(t, dtype=np.float64).reshape(-1) for t in update.tensors.values()])


def like(update: Update, vector: Float[Array, " d"]) -> Update:
    """An update with the values of `vector` in the tensors of `update`, in their precision; the rest as it was."""
    tensors: dict[str, Array] = {}
    first = 0
    for name, tensor in update.tensors.items():
        part = vector[first : first + tensor.size].reshape(tensor.shape)
        tensors[name] = part.astype(tensor.dtype)
        first += tensor.size
    return replace(update, tensors=tensors)


def refuse_buffers(update: Update, name: str) -> None:
    """Nothing, unless the update carries statistics of the records that noise on its tensors would not cover.

    Raises:
        ConfigError: when it does.
    """
    if update.buffers:
        raise ConfigError(
            f"the defense '{name}' adds noise to gradients, and this update also sends running statistics of the "
            f"records (first: '{next(iter(update.buffers))}'): train with torch.nn.GroupNorm instead of batch "
            "normalisation, or do not send them"
        )


def stacked(group: Updates) -> Float[Array, " k d"]:
    """(clients, values) all that each client of a group sends, statistics included.

    Raises:
        DataError: when two clients send different tensors.
    """
    forms = [{name: t.shape for name, t in _whole(update).tensors.items()} for update in group.clients]
    for client, form in enumerate(forms):
        if form != forms[0]:
            raise DataError(f"clients of one model were wanted: client {client} sends {form}, client 0 {forms[0]}")
    return np.stack([flat(_whole(update)) for update in group.clients])


def unstacked(group: Updates, vector: Float[Array, " d"]) -> Update:
    """An update of the form that a group's clients send, with the values of `vector`."""
    first = group.clients[0]
    filled = like(_whole(first), vector).tensors
    return replace(
        first,
        tensors={name: filled[name] for name in first.tensors},
        buffers={name: filled[name] for name in first.buffers},
    )


def _whole(update: Update) -> Update:
    """An update whose statistics stand among its tensors: no module gives one name to both."""
    return replace(update, tensors={**update.tensors, **update.buffers})
