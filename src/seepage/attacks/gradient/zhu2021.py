"""R-GAP: one record in closed form, layer by layer from the last to the first."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from seepage.attacks.gradient.chain import ChainError, Link, chain
from seepage.attacks.gradient.entry import entry
from seepage.attacks.gradient.recursion import Ending, back, endings, settled
from seepage.core.attack import GradientAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Modality
from seepage.models.federated import ClientNet

Array = np.ndarray

# A record whose own gradient differs by less than this share from the one sent is called consistent.
CONSISTENT = 1e-2


class RGap(GradientAttack):
    """Recovers one record by solving linear equations, one layer at a time.

    The last layer's gradient gives its input and the slope of the loss in the logits. For every layer before it
    the output is known (the activation inverted) and the slope in it (by the chain rule): its weights make the output
    of the input, and its gradient is linear in the input, which together are linear equations for the input. As
    published for a single logit without biases; here for cross-entropy over any number of classes, with or without
    biases. Of several solutions (the paper's twin data, with two classes) the one within the record's bounds is
    taken, among those whose own gradient is the one sent.

    Constraints are built sparse. Where a layer's gradient alone settles its input, channel by channel, the weights
    are left aside, which takes a thousandth of the time.
    """

    name: ClassVar[str] = "r-gap"
    title: ClassVar[str] = "R-GAP, layer by layer in closed form"
    cites: ClassVar[tuple[str, ...]] = (
        "Zhu, Blaschko 2021, R-GAP: Recursive Gradient Attack on Privacy, ICLR (sections 3.1 to 3.4)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "rate", "steps", "normalisation"})

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, GradientKnowledge) and (why := _architecture(knowledge)):
            return why
        return super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        if why := _architecture(knowledge):
            return Outlook(
                prospect="impossible",
                why=why,
                change="a chain of convolutions and fully connected layers with invertible activations",
            )
        if why := _scale(knowledge, update):
            return Outlook(prospect="impossible", why=why, change="the learning rate, and a single local step")
        ranks = rank_analysis(knowledge.net)
        open_ = [f"'{name}' {equations} for {unknowns}" for name, equations, unknowns, ok in ranks if not ok]
        told = f"equations of each layer cover its input ({len(ranks)} layers)"
        if open_:
            told = f"layers with fewer equations than unknowns, or dependent ones: {', '.join(open_)}"
        batch = knowledge.assumptions.batch.value
        if batch != 1:
            return Outlook(
                prospect="unlikely",
                why=f"it reads one record from an update, and a client has {batch or 'an unknown number'}; {told}",
                change="one record an update",
            )
        return Outlook(
            prospect="unlikely" if open_ else "expected",
            why=told,
            change="wider layers, an activation that can be inverted" if open_ else "narrower or strided first layers",
        )

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        net: ClientNet = knowledge.net
        updates = [target.update(client) for client in range(knowledge.clients)]
        try:
            links = chain(net)
        except ChainError as error:
            # A defense may have put another model in the place of the one that was planned for.
            return _nothing(knowledge, f"nothing can be solved for: {error}")
        found: list[Found] = []
        twins = 0
        for update in updates:
            one, solutions = _chosen(net, links, Sent.read(links, update, _unit(knowledge, update)))
            found.append(one)
            twins += solutions > 1
        apart = np.array([min(one.apart, 1e9) for one in found])
        consistent = int((apart < CONSISTENT).sum())
        notes: tuple[str, ...] = ()
        if consistent < len(found):
            notes = (
                f"{len(found) - consistent} of {len(found)} records do not have the gradient that was sent: the "
                "update is of more than one record, or a layer's equations do not settle its input",
            )
        return Reconstruction(
            np.clip(np.concatenate([one.record for one in found]), net.spec.bounds.low, net.spec.bounds.high),
            labels=np.array([one.label for one in found], dtype=np.int64),
            confidence=-apart,
            client=np.arange(knowledge.clients),
            notes=notes,
            facts={
                "gradient_mismatch_median": float(np.median(apart)),
                "clients_consistent": float(consistent),
                "clients_with_twins": float(twins),
            }
            | self.assumed(knowledge),
        )


def rank_analysis(net: ClientNet) -> list[tuple[str, int, int, bool]]:
    """For each layer but the last: its name, equations for its input, unknowns, and whether they settle it.

    By the architecture and the weights: the record and its label are stand-ins.

    Raises:
        ChainError: for a network that is no chain of layers.
    """
    links = chain(net)
    found: list[tuple[str, int, int, bool]] = []
    for link, (z, k) in zip(links[:-1], _passed(net, links[:-1]), strict=True):
        known = z > 0 if link.behind.zero else np.ones(z.shape, dtype=bool)
        found.append((link.name, *settled(link, known, k)))
    return found


def _passed(net: ClientNet, links: list[Link]) -> list[tuple[Array, Array]]:
    """What each of the layers makes of a made-up record, and the slope of the loss in it."""
    body, made = net.body("eval", torch.float64), list[Tensor]()

    def keep(_: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> None:
        made.append(out)

    handles = [body.get_submodule(link.name).register_forward_hook(keep) for link in links]
    low, high = (np.broadcast_to(side, net.spec.shape) for side in (net.spec.bounds.low, net.spec.bounds.high))
    record = np.random.default_rng(0).random(net.spec.shape) * (high - low) + low
    try:
        logits = body(net.prepare(torch.from_numpy(record[None].astype(np.float64))))
    finally:
        for handle in handles:
            handle.remove()
    slopes = torch.autograd.grad(functional.cross_entropy(logits, torch.zeros(1, dtype=torch.long)), made)
    return [(z[0].detach().numpy(), k[0].numpy()) for z, k in zip(made, slopes, strict=True)]


@dataclass(frozen=True)
class Found:
    """One solution.

    Attributes:
        record: (1, *shape) in the record's own range, not clipped.
        label: its class.
        apart: by how much its gradient differs from the one sent, as a share.
        outside: how far it reaches out of the bounds of a record, on average.
    """

    record: Float[Array, " 1 ..."]
    label: int
    apart: float
    outside: float


@dataclass(frozen=True)
class Sent:
    """The gradients that a client sent, in the order of the layers."""

    weights: list[Array]
    biases: list[Float[Array, " _"] | None]

    @classmethod
    def read(cls, links: list[Link], update: Update, unit: float) -> "Sent":
        """Of an update, in float64 and the scale of a gradient.

        Raises:
            DataError: for tensors that are missing, of other shapes or not finite.
        """

        def tensor(name: str, shape: tuple[int, ...]) -> Array:
            return update.tensor(name, shape).astype(np.float64) * unit

        held = [tensor(link.parameter("weight"), link.weight.shape) for link in links]
        return cls(held, [tensor(one.parameter("bias"), one.bias.shape) if one.biased else None for one in links])


def _found(net: ClientNet, links: list[Link], sent: Sent, ending: Ending) -> Found:
    """The record that an ending leads to, held against all that the client sent."""
    first = entry(net)
    assert first is not None
    spec = net.spec
    record = first.records(back(links, sent.weights, ending).reshape(1, -1), spec.shape)
    label = int(ending.k.argmin())
    own = net.gradient(torch.from_numpy(record), torch.tensor([label]))
    off = total = 0.0
    for link, g in zip(links, sent.weights, strict=True):
        off += float(((own[link.parameter("weight")].numpy() - g) ** 2).sum())
        total += float((g**2).sum())
    beyond = np.maximum(record - spec.bounds.high, 0) + np.maximum(spec.bounds.low - record, 0)
    return Found(record, label, float(np.sqrt(off / max(total, 1e-300))), float(beyond.mean()))


def _chosen(net: ClientNet, links: list[Link], sent: Sent) -> tuple[Found, int]:
    """The solution whose gradient is the one sent; of twins the one within bounds; and how many there are."""
    solutions = [_found(net, links, sent, one) for one in endings(links[-1], sent.weights[-1], sent.biases[-1])]
    if not solutions:
        grey = np.full((1, *net.spec.shape), 0.5) * (np.asarray(net.spec.bounds.low) + np.asarray(net.spec.bounds.high))
        return Found(grey, 0, np.inf, 0.0), 0
    least = min(one.apart for one in solutions)
    agreeing = [one for one in solutions if one.apart <= max(CONSISTENT, 2 * least)]
    return min(agreeing, key=lambda one: (one.outside, one.apart)), len(agreeing)


def _architecture(knowledge: GradientKnowledge) -> str | None:
    """Why the model cannot be attacked this way, or None when it can."""
    if knowledge.net is None:
        return "it needs the model that the update is of"
    try:
        links = chain(knowledge.net)
    except ChainError as error:
        return str(error)
    dropout = any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in knowledge.net.module.modules())  # pyright: ignore[reportPrivateUsage]
    if dropout and knowledge.assumptions.mode.value != "eval":
        return "dropout in 'train' mode: its masks are the client's alone"
    return None if len(links) > 1 else "a single layer is what 'linear-layer' reads, and no recursion"


def _unit(knowledge: GradientKnowledge, update: Update) -> float:
    """What a tensor of the update is multiplied with to be a gradient; a rate that is not known leaves it 1."""
    rate = knowledge.assumptions.rate.value
    return 1.0 if update.kind == "gradient" else -1.0 / float(rate or 1.0)


def _scale(knowledge: GradientKnowledge, update: Update) -> str | None:
    """Why an update is no gradient of known scale, or None."""
    told = knowledge.assumptions
    if update.kind == "gradient":
        return None
    if told.steps.value != 1:
        return f"the update sums {told.steps.value or 'an unknown number of'} local steps, each at other weights"
    return None if told.rate.value else "the learning rate is not known, and with it the scale of the gradient"


def _nothing(knowledge: GradientKnowledge, note: str) -> Reconstruction:
    return Reconstruction(
        np.zeros((0, *knowledge.spec.shape), np.float32), client=np.zeros(0, dtype=np.int64), notes=(note,)
    )
