"""The round that searches for texts share: every client's update, one search after another, and the guess."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from seepage.attacks.gradient.embedded import Distance, Embedded, Heard, heard, matched_names, written
from seepage.attacks.gradient.embedding_search import Descent, Ended, Moves, Search
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
    texts: list[tuple[str, ...]] = []
    ended: list[Ended] = []
    guessed: dict[str, Any] = {}
    lengths: list[Heard] = []
    for client in range(knowledge.clients):
        got = heard(knowledge, target.update(client), client, rows, length)
        guessed |= got.guessed
        lengths.append(got)
        if got.silent:
            texts.append(())
            continue
        found = Search(simulate, got, distance(got), net.classes).run(plan, restarts, draws, moves)
        ended.append(found)
        texts.append(written(net, got, found.ids) if np.isfinite(found.objective) else ())
    finite = [one.objective for one in ended if np.isfinite(one.objective)]
    facts: Facts = told(guessed) | {
        "length_mean": float(np.mean([got.length for got in lengths])) if lengths else None,
        "length_from": ", ".join(sorted({got.length_from for got in lengths})) or None,
        "objective_median": float(np.median(finite)) if finite else None,
    }
    return Texts(tuple(texts), facts=facts, notes=_notes(lengths))


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
