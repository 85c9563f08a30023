"""What can be said of matching attacks before they run: whether they can, what to expect, and how long."""

import time

import torch

from seepage.attacks.gradient.gradients import gradients_of
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.victim import Update
from seepage.models.federated import ClientNet


def several_steps(knowledge: GradientKnowledge, update: Update) -> Outlook | None:
    """What stands against reading a layer's gradient: that the update is no gradient, but several steps; or None."""
    steps = knowledge.assumptions.steps.value
    if update.kind != "delta" or steps == 1:
        return None
    told = f"the update sums {steps or 'an unknown number of'} local steps, each at other weights"
    return Outlook(prospect="unlikely", why=told, change="a single local step")


def matching_obstacle(knowledge: Knowledge) -> str | None:
    """Why no update can be simulated at all, or None."""
    if not isinstance(knowledge, GradientKnowledge):
        return None
    if knowledge.net is None:
        return "it needs the model that the update is of"
    told = knowledge.assumptions
    if knowledge.net.has_batch_norm and told.mode.value == "train" and told.batch.value == 1:
        return "batch normalisation in 'train' mode over a single record answers nothing of the record"
    return None


def matching_outlook(
    knowledge: GradientKnowledge, update: Update, steps: int, restarts: int, most: int
) -> Outlook | None:
    """What matching gradients can do: numbers sent against numbers wanted, the batch, dropout, batch normalisation.

    `most` is up to how many records a client published results show recognisable pictures on small networks.
    """
    why = matching_obstacle(knowledge)
    if why is not None:
        return Outlook(prospect="impossible", why=why, change="batches of two records or more, or mode = 'eval'")
    net: ClientNet = knowledge.net
    told = knowledge.assumptions
    batch = int(told.batch.value or 1)
    seconds = _seconds(net, batch, knowledge.clients * restarts) * steps
    if update.kind == "delta" and (told.steps.value or 2) > 1:
        return Outlook(
            prospect="unlikely",
            why="the update sums several local steps, each at other weights",
            change="a single local step; 'fedavg-matching' simulates several",
            seconds=seconds,
        )
    sent, sought = net.parameters, batch * knowledge.spec.size
    ratio = f"{sent} numbers were sent for {sought} that are sought"
    if sent < sought:
        return Outlook(
            prospect="unlikely",
            why=f"{ratio}: many batches have this gradient",
            change="fewer records an update, or a larger model",
            seconds=seconds,
        )
    whys, changes = list[str](), list[str]()
    if net.drops and told.mode.value == "train":
        whys.append("clients train with dropout: the true records do not make this update without the same draws")
        changes.append("a client who computes its gradient without dropout")
    if net.has_batch_norm and told.mode.value != "eval":
        whys.append("batch normalisation by the batch's own statistics ties the records of a batch together")
        changes.append("mode = 'eval', or knowing the statistics (the rung 'statistics', used by 'grad-inversion')")
    if whys:
        return Outlook(prospect="unlikely", why="; ".join(whys), change="; ".join(changes), seconds=seconds)
    published = "a single record" if most == 1 else f"1 to {most} records"
    return Outlook(
        prospect="possible",
        why=f"{ratio}; {batch} record{'s' * (batch > 1)} an update",
        change=f"published results are of {published}; smooth activations help, larger batches do not",
        seconds=seconds,
    )


def _seconds(net: ClientNet, batch: int, problems: int) -> float:
    """Of one evaluation of all problems, by timing one problem; three passes and the overhead are shared."""
    x = torch.zeros(1, batch, *net.spec.shape, requires_grad=True)
    y = torch.full((1, batch, net.classes), 1 / net.classes)
    simulate = gradients_of(net, "eval")
    begun = time.perf_counter()
    torch.autograd.grad(simulate(x, y).pow(2).sum(), x)
    return (time.perf_counter() - begun) * (0.5 + 0.5 * problems)


def steps_outlook(
    knowledge: GradientKnowledge, update: Update, obstacle: str | None, steps: int, restarts: int
) -> Outlook | None:
    """What simulating a client's local steps can do."""
    if obstacle is not None:
        change = "the configuration of the local training: rate, passes, records a step and records a client"
        return Outlook(prospect="impossible", why=obstacle, change=change)
    told = knowledge.assumptions
    count = int(told.steps.value or 1)
    if update.kind == "gradient" or count == 1:
        return matching_outlook(knowledge, update, steps, restarts, most=8)
    batch = int(told.batch.value or 1)
    seconds = _seconds(knowledge.net, batch, knowledge.clients * restarts) * steps * count
    sent, sought = knowledge.net.parameters, batch * knowledge.spec.size
    few = sent < sought or batch > 50
    return Outlook(
        prospect="unlikely" if few else "possible",
        why=f"{count} local steps over {batch} records are simulated; {sent} numbers were sent for {sought} "
        "sought; the order of the records is not known",
        change="fewer records or steps an update",
        seconds=seconds,
    )
