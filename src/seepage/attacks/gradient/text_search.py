"""The round that searches for texts share: every client's update, those of one shape together, and the guess."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from seepage.attacks.gradient.embedded import Embedded
from seepage.attacks.gradient.embedding_search import Descent, Ended, Moves, Search, together
from seepage.attacks.gradient.heard import Heard, heard, matched_names, written
from seepage.attacks.gradient.text_distances import Distance
from seepage.core.guess import Texts
from seepage.core.knowledge import TextGradientKnowledge
from seepage.core.target import Target

Facts = dict[str, float | str | None]


def searched(
    target: Target,
    knowledge: TextGradientKnowledge,
    distance: Callable[[Heard], Distance],
    plan: Descent,
    restarts: int,
    draws: torch.Generator,
    told: Callable[[Mapping[str, Any]], Facts],
    moves: Moves | None = None,
    rows: bool = False,
    length: int | None = None,
) -> Texts:
    """Search for the texts of every client; a client whose update is zero gets none.

    Args:
        target: the updates.
        knowledge: what the adversary holds.
        distance: between gradients, for what a client sent.
        plan: how embeddings move.
        restarts: chance starts a client.
        draws: all chance.
        told: the facts of the ladder, given what was guessed.
        moves: discrete moves between steps; None for none.
        rows: search only among tokens whose row of the embedding moved.
        length: tokens of a text, where they are told.

    Raises:
        DataError: for an update that does not fit the model, or is not finite.
    """
    net = knowledge.net
    simulate = Embedded(net, matched_names(knowledge))
    most = max(1, together(simulate) // restarts)
    ended: dict[int, Ended] = {}
    texts: dict[int, tuple[str, ...]] = {}
    waiting: dict[tuple[Any, ...], list[tuple[int, Heard]]] = {}

    def search(some: list[tuple[int, Heard]]) -> None:
        asked = Search(simulate, [got for _, got in some], distance(some[0][1]), net.classes)
        for (client, got), found in zip(some, asked.run(plan, restarts, draws, moves), strict=True):
            ended[client] = found
            texts[client] = written(net, got, found.ids) if np.isfinite(found.objective) else ()

    guessed: dict[str, Any] = {}
    lengths: list[Heard] = []
    for client in range(knowledge.clients):
        got = heard(knowledge, target.update(client), client, rows, length)
        guessed |= got.guessed
        # What was sent is large, and no longer needed once its client has been searched for.
        lengths.append(replace(got, wanted={}))
        if got.silent:
            texts[client] = ()
            continue
        some = waiting.setdefault(got.shape, [])
        some.append((client, got))
        if len(some) == most:
            search(waiting.pop(got.shape))
    for some in waiting.values():
        search(some)
    finite = [one.objective for one in ended.values() if np.isfinite(one.objective)]
    facts: Facts = told(guessed) | {
        "length_mean": float(np.mean([got.length for got in lengths])) if lengths else None,
        "length_from": ", ".join(sorted({got.length_from for got in lengths})) or None,
        "objective_median": float(np.median(finite)) if finite else None,
    }
    return Texts(tuple(texts[client] for client in range(knowledge.clients)), facts=facts, notes=_notes(lengths))


def _notes(lengths: list[Heard]) -> tuple[str, ...]:
    notes: list[str] = []
    silent = sum(got.silent for got in lengths)
    if silent:
        notes.append(f"{silent} of {len(lengths)} updates are zero throughout: there is nothing to match.")
    if any(got.batch > 1 for got in lengths):
        notes.append("Every text of a client is taken to be as long as its longest: shorter ones are not told apart.")
    if any(not got.scaled for got in lengths):
        notes.append("The scale of the updates is not believed: their direction alone is matched.")
    return tuple(notes)
