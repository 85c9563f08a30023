"""Exact batches from the gradient of a fully connected layer with ReLU: SPEAR."""

from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy.stats import norm

from seepage.attacks.gradient.entry import entry, rectified
from seepage.attacks.gradient.low_rank import factorise
from seepage.attacks.gradient.outlooks import several_steps
from seepage.attacks.gradient.phong2017 import first_layer_obstacle
from seepage.attacks.gradient.record_columns import Behind
from seepage.attacks.gradient.row_sets import TESTED
from seepage.attacks.gradient.solving import AGREED, Layer, Solution, solve
from seepage.core.attack import GradientAttack
from seepage.core.errors import DataError
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Modality

# Seconds a set of rows takes, roughly, on one core.
SECONDS_A_SET = 1e-4


class Spear(GradientAttack):
    """Recovers whole batches exactly, from the rank of a gradient and the sparsity that ReLU gives it.

    The gradient of the first layer's weights is D X, with X the batch and D zero wherever a neuron is off for a
    record. Its singular vectors are D up to an invertible matrix Q, whose columns are the directions that make
    many entries zero. They are found from small sets of rows that are all zero for one record, checked against
    all rows, and scaled by the gradient of the biases; the batch follows, X = Q^-1 S V. The signs of W X + c
    against the zeros of D tell whether it is right (lambda in the paper), without knowing the batch.

    How rows are drawn is this project's own: one inverse of b rows serves b (b - 1) / 2 subsets; rows that are
    likely off, by the mean record and by the records already found, are drawn more often; zeros shared by
    several records lead to each of them; and the zeros have to lie on one side of a plane through the weights.
    The last direction need not be drawn for: its record is what is orthogonal to all others, and tells its
    column through the rest of the network. So does every other record once it is right, which settles what zeros leave
    open (a record whose neurons that are off are all off for another one), names the label of each, and proves
    the batch by the update alone.

    Attributes:
        samples: sets of rows drawn for a client at the most.
    """

    name: ClassVar[str] = "spear"
    title: ClassVar[str] = "Exact batches by ReLU sparsity"
    cites: ClassVar[tuple[str, ...]] = (
        "Dimitrov, Baader, Mueller, Vechev 2024, SPEAR: Exact Gradient Inversion of Batches in Federated Learning, "
        "NeurIPS",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "mode", "normalisation"})
    version: ClassVar[int] = 2

    samples: int = Field(default=200_000, ge=128, description="sets of rows drawn for a client at the most")

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, GradientKnowledge) and (why := _architecture(knowledge)):
            return why
        return super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        if why := _architecture(knowledge):
            return Outlook(prospect="impossible", why=why, change="a fully connected first layer with bias and ReLU")
        if (said := several_steps(knowledge, update)) is not None:
            return said
        first = entry(knowledge.net)
        assert first is not None
        return _expected(Layer.read(knowledge.net, first, update), knowledge.assumptions.batch.value)

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        first = entry(knowledge.net)
        if first is None or first.bias is None:
            raise DataError("a first layer with a bias was wanted; `obstacle` says so before a run")
        batch = knowledge.assumptions.batch.value
        # Batch normalisation by the batch's own statistics ties the records: none has a gradient of its own.
        tied = knowledge.net.has_batch_norm and knowledge.assumptions.mode.value != "eval"
        behind = None if tied else Behind(knowledge.net, first)
        solved: list[Solution] = []
        for client in range(knowledge.clients):
            layer = Layer.read(knowledge.net, first, target.update(client))
            solved.append(solve(layer, batch, self.samples, rng.spawn(1)[0], behind))
        inputs = np.concatenate([s.inputs for s in solved])
        spec = knowledge.spec
        # In double precision: what is exact to 300 dB should not end at the 150 of single precision.
        x = np.clip(first.records(inputs, spec.shape), spec.bounds.low, spec.bounds.high)
        owner = np.repeat(np.arange(len(solved)), [len(s.inputs) for s in solved])
        whole = [0 < s.rank == s.found and bool((s.agreement >= AGREED).all()) for s in solved]
        facts: dict[str, float | str | None] = {
            "rank_median": float(np.median([s.rank for s in solved])),
            "clients_solved": float(sum(whole)),
            "sets_drawn": float(sum(s.drawn for s in solved)),
            "sign_agreement": float(np.mean([s.agreement.mean() if len(s.agreement) else 0.0 for s in solved])),
        }
        guessed = {} if batch is not None else {"batch": int(np.median([s.rank for s in solved]))}
        labels = [s.labels for s in solved if s.labels is not None]
        notes = () if all(whole) else (_unsolved(solved, whole),)
        return Reconstruction(
            x,
            labels=np.concatenate(labels) if len(labels) == len(solved) else None,
            confidence=np.concatenate([s.agreement for s in solved]),
            client=owner,
            notes=notes,
            facts=facts | self.assumed(knowledge, **guessed),
        )


def _architecture(knowledge: GradientKnowledge) -> str | None:
    """Why the model cannot be attacked this way, or None when it can."""
    if why := first_layer_obstacle(knowledge):
        return why
    first = entry(knowledge.net)
    assert first is not None
    if not rectified(knowledge.net, first):
        return f"neurons of the first layer, '{first.name}', are never exactly off: it needs a ReLU behind them"
    return None


def _expected(layer: Layer, batch: int | None) -> Outlook:
    """The outlook from an update's shapes and rank, and from how many neurons the mean record leaves off."""
    factors = factorise(layer.d_weight, batch)
    b, live, (m, d) = factors.rank, len(factors.live), layer.weight.shape
    if b == 0:
        return Outlook(prospect="impossible", why="the first layer's gradient is zero", change="an update of records")
    figures = f"rank {b} of a gradient of {m} neurons ({live} live) and {d} inputs"
    if b > 0.8 * min(live, d) or len(factors.distinct) < b + TESTED:
        return Outlook(
            prospect="unlikely",
            why=f"{figures}: no room is left for zeros to be told from accident",
            change="a smaller batch or a wider first layer; noise on the update raises the rank",
        )
    if batch is not None and b < batch:
        return Outlook(
            prospect="unlikely",
            why=f"{figures}, fewer than the {batch} records: unless records are the same, those cannot be told apart",
            change="records that no mixture of the others makes, and that each move some neuron",
        )
    off = norm.cdf(-layer.positive(factors))
    likely = np.sort(off)[::-1][: 8 * (b + TESTED)].mean()
    sets = np.log(b + 1) / (max(b - 1, 1) * b / 2 * likely ** max(b - 2, 0))
    seconds = 0.1 + SECONDS_A_SET * sets
    why = (
        f"{figures}; about {off.mean():.0%} of the live neurons are off for a record; a plain search takes about "
        f"{2.0 ** (b - 1) * max(np.log(b), 1):.2g} draws, this one {sets:.2g} inverses where no two records are alike"
    )
    prospect = "expected" if seconds < 60 and b > 0 else "possible" if seconds < 3600 else "unlikely"
    change = (
        "half the batch (each record fewer halves the draws)"
        if prospect != "expected"
        else ("a batch of 30 or more, an activation other than ReLU, noise, or several local steps")
    )
    return Outlook(prospect=prospect, why=why, change=change, seconds=round(float(min(seconds, 1e9)), 1))


def _unsolved(solved: list[Solution], whole: list[bool]) -> str:
    left = [(k, s) for k, (s, ok) in enumerate(zip(solved, whole, strict=True)) if not ok]
    told = ", ".join(f"client {k}: {s.found} of {s.rank} directions" for k, s in left[:5])
    return (
        f"{len(left)} of {len(solved)} updates were not solved ({told}): what is shown of them is what single neurons "
        "give, or disagrees with the signs of the layer"
    )
