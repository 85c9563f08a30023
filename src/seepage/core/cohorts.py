"""Clients summed together: what knowledge, secret and guesses about single clients become.

A group of clients takes the place of a client: its records are theirs, one after another.
"""

from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import Int

from seepage.core.assumptions import UNKNOWN, Assumptions, Rung, Standing
from seepage.core.defense import Groups
from seepage.core.errors import ConfigError
from seepage.core.guess import Guess, Posterior, Reconstruction, Texts
from seepage.core.knowledge import Knowledge, UpdateKnowledge
from seepage.core.secrets import GradientSecret, Secret

Array = np.ndarray
Some = TypeVar("Some", bound=Knowledge)


def owners(groups: Groups, clients: int) -> Int[Array, " k"]:
    """(clients,) the group that each client is in; -1 for one that is in none."""
    found = np.full(clients, -1, dtype=np.int64)
    for number, group in enumerate(groups):
        found[list(group)] = number
    return found


def _rows(client: Int[Array, " n"], groups: Groups) -> tuple[Int[Array, " m"], Int[Array, " m"]]:
    """The rows that are left, group by group in the order of its clients, and the group of each."""
    picked = [np.nonzero(client == one)[0] for group in groups for one in group]
    number = [np.full(len(p), k) for p, k in zip(picked, (k for k, g in enumerate(groups) for _ in g), strict=True)]
    return np.concatenate(picked), np.concatenate(number).astype(np.int64)


def pooled_secret(secret: Secret, groups: Groups) -> Secret:
    """The union of each group's records.

    Raises:
        ConfigError: for a secret that is not of updates, or names no clients.
    """
    if not isinstance(secret, GradientSecret) or secret.client is None:
        raise ConfigError(f"sums over clients need records by client, got a {type(secret).__name__} without them")
    rows, client = _rows(secret.client, groups)
    return replace(secret, batch=secret.batch[rows], client=client)


def pooled_guess(guess: Guess, groups: Groups) -> Guess:
    """A guess about clients as one about groups: records and texts change hands, shares of classes are averaged."""
    if isinstance(guess, Texts):
        return Texts(tuple(tuple(text for one in group for text in guess.values[one]) for group in groups))
    if isinstance(guess, Posterior):
        return replace(guess, values=np.stack([guess.values[list(group)].mean(axis=0) for group in groups]))
    if isinstance(guess, Reconstruction):
        rows, client = _rows(np.zeros(len(guess.x), dtype=np.int64) if guess.client is None else guess.client, groups)
        kept = {
            name: None if getattr(guess, name) is None else getattr(guess, name)[rows]
            for name in ("labels", "confidence")
        }
        return replace(guess, x=guess.x[rows], client=client, **kept)
    raise ConfigError(f"a {type(guess).__name__} says nothing of clients that could be summed")


def pooled_knowledge(knowledge: Some, groups: Groups) -> Some:
    """What the adversary holds when it sees one update a group.

    Raises:
        ConfigError: for knowledge that is not of updates.
    """
    if not isinstance(knowledge, UpdateKnowledge):
        raise ConfigError(f"sums over clients are seen by an adversary of updates, not with {type(knowledge).__name__}")
    return replace(knowledge, clients=len(groups), assumptions=pooled_assumptions(knowledge.assumptions, groups))


def pooled_assumptions(ladder: Assumptions, groups: Groups) -> Assumptions:
    """The ladder of a mean over the clients of a group.

    A mean of gradients is the gradient over the union of the records. A mean of changes of weights is one step
    over them too where every client made one; for more steps, a step with all the clients' batches together is what
    an adversary can best assume, and the rung is then a guess. Statistics of single clients are not known of a
    group.
    """
    members = len(groups[0])
    alone = ladder.steps.value == 1

    def times(rung: Rung) -> Rung:
        return rung if rung.value is None else replace(rung, value=rung.value * members)

    def grouped(rung: Rung, join: str) -> Rung:
        if rung.value is None:
            return rung
        by_client = [[np.asarray(rung.value[client]) for client in group] for group in groups]
        whole = [np.concatenate(g) if join == "after" else np.sum(g, axis=0) for g in by_client]
        return replace(rung, value=np.stack(whole))

    local = times(ladder.local_batch)
    if not alone and local.standing is Standing.KNOWN and members > 1:
        local = replace(local, standing=Standing.GUESSED)
    return replace(
        ladder,
        batch=times(ladder.batch),
        local_batch=local,
        labels=grouped(ladder.labels, "after"),
        counts=grouped(ladder.counts, "sum"),
        statistics=ladder.statistics if members == 1 else UNKNOWN,
    )
