"""What can be said of searches for texts before they run: whether they can, what to expect, and how long."""

import time

import torch

from seepage.attacks.gradient.embedded import Embedded
from seepage.attacks.gradient.embedding_search import together
from seepage.attacks.gradient.heard import Heard, heard, matched_names
from seepage.core.knowledge import Knowledge, TextGradientKnowledge
from seepage.core.outlook import Outlook
from seepage.core.victim import Update
from seepage.models.text_clients import TextNet

# The most problems that one evaluation is timed with.
TIMED = 16


def search_obstacle(knowledge: Knowledge) -> str | None:
    """Why no gradient can be simulated at all, or None."""
    if not isinstance(knowledge, TextGradientKnowledge):
        return None
    if knowledge.net is None:
        return "it needs the model that the update is of"
    if not matched_names(knowledge):
        return "nothing but the token embedding is trained: there is no gradient to match"
    return None


def search_outlook(knowledge: TextGradientKnowledge, update: Update, steps: float, restarts: int) -> Outlook:
    """What matching gradients of texts can do, and the seconds it takes: `steps` evaluations a restart and client."""
    why = search_obstacle(knowledge)
    if why is not None:
        return Outlook(prospect="impossible", why=why, change="a client that trains more than its token embedding")
    got = heard(knowledge, update, 0, rows=False, length=None)
    if got.silent:
        return Outlook(prospect="impossible", why="the update is zero throughout: there is nothing to match")
    problems = restarts * knowledge.clients
    seconds = _seconds(knowledge.net, got, problems) * steps * problems
    told, net = knowledge.assumptions, knowledge.net
    if told.mode.value == "train" and net.drops:
        return Outlook(
            prospect="unlikely",
            why="clients train with dropout: no text makes this gradient without the same draws",
            change="a client who computes its gradient without dropout",
            seconds=seconds,
        )
    if update.kind == "delta" and (told.steps.value or 2) > 1:
        return Outlook(
            prospect="unlikely",
            why="the update sums several local steps, each at other weights, and is matched as if it were one",
            change="a single local step",
            seconds=seconds,
        )
    shape = f"{got.batch} text{'s' * (got.batch > 1)} of {got.length} tokens an update ({got.length_from})"
    if got.batch > 4:
        return Outlook(
            prospect="unlikely",
            why=f"{shape}: published results are of 1 to 4 texts",
            change="fewer texts an update",
            seconds=seconds,
        )
    return Outlook(
        prospect="possible",
        why=f"{shape}: a search over embeddings",
        change="longer texts or more of them an update, or noise",
        seconds=seconds,
    )


def _seconds(net: TextNet, got: Heard, problems: int) -> float:
    """Of one evaluation of one problem, with its slope, where so many are worked on together as far as they can be."""
    simulate = Embedded(net, tuple(got.wanted))
    n = min(problems, together(simulate), TIMED)
    x = simulate.table[1].expand(n, got.batch, got.length, -1).clone().requires_grad_(True)
    y = None if net.task == "causal-lm" else torch.full((n, got.batch, net.classes), 1 / net.classes)
    begun = time.perf_counter()
    found = simulate(x, y)
    torch.autograd.grad(torch.stack([g.pow(2).sum() for g in found.values()]).sum(), x, allow_unused=True)
    return (time.perf_counter() - begun) / n
