"""How many records of each class a client trained on, from the mean residual in the last layer's gradient.

For cross-entropy the gradient of the last layer's biases is g_k = mean softmax_k - n_k / b, so that the shares of
the classes are `mean softmax - g`: all that is to be guessed is the mean softmax of the client's records. A net that
has learned nothing answers much the same to anything, so that the answers to noise will do.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field

from seepage.attacks.gradient.last import LastGradient, last_gradient, last_layer, last_layer_obstacle
from seepage.core.attack import LabelAttack
from seepage.core.guess import Posterior
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.models.federated import ClientNet, Mode, Named
from seepage.models.recipes import seeded

Array = np.ndarray
Source = Literal["auto", "public", "noise", "update"]
# Records that the mean softmax is estimated from, and records a forward pass where the update's batch is not known.
PROBES = 512
BATCH = 32
# A batch is taken to be as large as its counts come this near to whole numbers (root mean square).
WHOLE = 0.1
MOST = 512


@dataclass(frozen=True)
class Counts:
    """What an update says of its labels.

    Attributes:
        shares: (classes,) of the batch, at least 0, summing to one.
        batch: how many records the update was taken to be of.
        guessed: whether that number was guessed.
        source: where the mean softmax came from: "public", "noise" or "update".
        offness: how far the counts were from whole numbers not below zero, root mean square; 0.29 for none.
    """

    shares: Float[Array, " c"]
    batch: int
    guessed: bool
    source: str
    offness: float

    @property
    def counts(self) -> Int[Array, " c"]:
        return whole(self.shares, self.batch)

    @property
    def labels(self) -> Int[Array, " n"]:
        """The classes with repeats, rising."""
        return np.repeat(np.arange(len(self.shares)), self.counts)


def recovered_labels(knowledge: GradientKnowledge, update: Update, rng: np.random.Generator) -> Int[Array, " n"]:
    """The classes of the records behind an update, with repeats, rising: (n,), n the batch.

    For attacks that need labels and have not been told any; they then stand "guessed" on the ladder. n is the
    batch of the ladder, or a guess where that is not known. Which record has which class is not said.

    Raises:
        DataError: for an update that is not of the model, or not finite.
        ValueError: where `last.last_layer_obstacle` has something to say.
    """
    return recovered_counts(knowledge, update, rng).labels


def recovered_counts(
    knowledge: GradientKnowledge, update: Update, rng: np.random.Generator, source: Source = "auto"
) -> Counts:
    """The closed form `shares = mean softmax - g`, its mean softmax from `source`.

    "auto" takes public records where the adversary holds them; else, of noise and of the update's own features,
    what brings the counts nearest to whole numbers.
    """
    given = last_gradient(knowledge, update)
    path = passing(knowledge, update)
    told = knowledge.assumptions.batch.value
    if source == "auto":
        tried: tuple[Source, ...] = ("public",) if _public(knowledge) is not None else ("noise", "update")
    else:
        tried = (source,)
    found: list[Counts] = []
    for name in tried:
        mean, slope = path.mean_softmax(knowledge, given, rng, name)
        shares = mean - _scaled(mean, slope, given.scaled)
        n = int(told) if told else guessed_batch(given, shares)
        found.append(Counts(on_simplex(shares), n, not told, name, offness(shares, n)))
    return min(found, key=lambda counts: counts.offness)


@dataclass(frozen=True)
class Path:
    """The model along the local steps of a client: at the weights that were sent, and at those that came back.

    Attributes:
        ends: the weights at the first and (for several steps) after the last step.
        steps: how many steps lie between.
        mode: which statistics batch normalisation computes with.
        batch: records a forward pass, where that mode is "train".
    """

    ends: tuple[Named, ...]
    steps: int
    mode: Mode
    batch: int

    def mean(self, values: list[Array]) -> Array:
        """The mean of something over the steps, which is interpolated between the ends."""
        if len(values) == 1:
            return values[0]
        # Step t of T starts at the fraction t / T of the way, t = 0 .. T - 1.
        late = (self.steps - 1) / (2 * self.steps)
        return (1 - late) * values[0] + late * values[1]

    def passed(
        self, net: ClientNet, layer: str, x: Float[Array, " n ..."], rng: np.random.Generator
    ) -> tuple[list[Array], list[Array]]:
        """Features (n, d) of the last layer and softmax (n, classes) of records, at each end."""
        features: list[Array] = []
        answers: list[Array] = []
        for held in self.ends:
            z, p = _passed(net, layer, x, self, held, rng)
            features.append(z)
            answers.append(p)
        return features, answers

    def mean_softmax(
        self, knowledge: GradientKnowledge, given: LastGradient, rng: np.random.Generator, source: Source
    ) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        """The mean softmax over a client's records and steps, and the gradient of its biases."""
        if source == "update":
            slope = given.weight.sum(axis=1) if given.bias is None else given.bias
            return softmax(given.layer.w @ own_feature(given, slope) + given.layer.c), slope
        public = _public(knowledge)
        if source == "public" and public is None:
            raise ValueError("public records are needed; `obstacle` says so")
        x = noise(knowledge, rng) if source == "noise" or public is None else public
        x = x[rng.permutation(len(x))[:PROBES]]
        z, p = self.passed(knowledge.net, given.layer.name, x, rng)
        slope = given.bias
        if slope is None:
            # Where all features are much alike the weight gradient is g z^T, z the mean feature.
            centre = self.mean([one.mean(axis=0) for one in z])
            slope = given.weight @ centre / max(float(centre @ centre), 1e-300)
        return self.mean([one.mean(axis=0) for one in p]), slope


def _passed(
    net: ClientNet, layer: str, x: Array, path: Path, held: Named, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Features and softmax at one end; in "train" mode a batch at a time, and none alone."""
    size = path.batch if path.mode == "train" else len(x)
    whole_batches = max(len(x) // size, 1) * size
    # Dropout draws from torch's own generator.
    with torch.no_grad(), seeded(int(rng.integers(2**62))):
        parts = [
            net.inside(layer, torch.from_numpy(x[first : first + size].astype(np.float32)), held, path.mode)
            for first in range(0, min(len(x), whole_batches), size)
        ]
    features = torch.cat([z for z, _ in parts]).double().numpy()
    return features, torch.cat([logits for _, logits in parts]).double().softmax(dim=1).numpy()


def passing(knowledge: GradientKnowledge, update: Update) -> Path:
    """The path of a client's steps, as far as the ladder tells of it."""
    net: ClientNet = knowledge.net
    told = knowledge.assumptions
    before: dict[str, torch.Tensor] = net.weights()
    ends: list[dict[str, torch.Tensor]] = [before]
    steps = int(told.steps.value or 1)
    if update.kind == "delta" and steps > 1 and all(name in update.tensors for name in before):
        moved = {name: torch.from_numpy(np.asarray(update.tensors[name], dtype=np.float32)) for name in before}
        ends.append({name: w + moved[name] for name, w in before.items()})
    size = max(int(told.local_batch.value or told.batch.value or BATCH), 2)
    return Path(tuple(ends), steps, told.mode.value or "eval", size)


def noise(knowledge: GradientKnowledge, rng: np.random.Generator, n: int = PROBES) -> Float[Array, " n ..."]:
    """Records that say nothing: every value drawn evenly from its range."""
    return knowledge.spec.bounds.from_unit(rng.random((n, *knowledge.spec.shape)))


def own_feature(given: LastGradient, slope: Float[Array, " c"]) -> Float[Array, " d"]:
    """The mean feature z of the client's own records, were all alike: the z nearest to G = slope z^T."""
    return given.weight.T @ slope / max(float(slope @ slope), 1e-300)


def softmax(logits: Float[Array, " *n c"]) -> Float[Array, " *n c"]:
    """Over the last axis; for logits of any size."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def on_simplex(shares: Float[Array, " c"]) -> Float[Array, " c"]:
    """The nearest distribution (Euclidean): the same number taken off all, those below zero put to zero."""
    falling = np.sort(shares)[::-1]
    over = (np.cumsum(falling) - 1) / np.arange(1, len(shares) + 1)
    last = int(np.nonzero(falling > over)[0][-1])
    found = np.maximum(shares - over[last], 0)
    return found / found.sum()


def whole(shares: Float[Array, " c"], n: int) -> Int[Array, " c"]:
    """Counts that sum to `n`, nearest to `n * shares`: the largest remainders are raised."""
    wanted = shares * n
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    for k in np.argsort(counts - wanted, kind="stable")[: max(n - int(counts.sum()), 0)]:
        counts[k] += 1
    return counts


def offness(shares: Float[Array, " c"], n: int) -> float:
    """How far `n * shares` are from whole numbers not below zero: root mean square."""
    wanted = shares * n
    return float(np.sqrt(np.mean((wanted - np.maximum(np.round(wanted), 0)) ** 2)))


def guessed_batch(given: LastGradient, shares: Float[Array, " c"]) -> int:
    """How many records an update is of, where nobody says.

    The weight gradient of one step has the rank of its batch while that is below the number of classes less
    one (residuals sum to zero) and the number of features. Beyond that, the least number that makes the
    counts nearly whole.
    """
    values = np.linalg.svd(given.weight, compute_uv=False)
    rank = int((values > 1e-5 * values[0]).sum()) if values[0] > 0 else 1
    full = min(given.weight.shape[1], given.classes - 1)
    if given.steps == 1 and rank < full:
        return max(rank, 1)
    least = max(rank, 1) if given.steps == 1 else 1
    near = [offness(shares, n) for n in range(least, MOST + 1)]
    fitting = [n for n, off in enumerate(near, start=least) if off < WHOLE]
    return fitting[0] if fitting else least + int(np.argmin(near[: 4 * given.classes]))


def _scaled(mean: Float[Array, " c"], slope: Float[Array, " c"], scaled: bool) -> Float[Array, " c"]:
    """The bias gradient in its own scale; where that is not known, as large as leaves no share below zero.

    That is right where some class is in no record of the batch.
    """
    up = slope > 1e-12 * max(float(np.abs(slope).max()), 1e-300)
    if scaled or not up.any():
        return slope
    return slope * float((mean[up] / slope[up]).min())


def _public(knowledge: GradientKnowledge) -> Array | None:
    public = knowledge.public
    return None if public is None or len(public) < 2 else public.x


class UntrainedCounts(LabelAttack):
    """The closed form for the counts: mean softmax less the gradient of the biases, times the batch.

    The mean softmax over the client's records is taken from records that the adversary passes through the model
    itself: exact for a model whose answers do not depend on the record, which an untrained one comes near to.
    Batch normalisation in "train" mode is given batches of the client's size. For differences of weights after
    several local steps the mean softmax is interpolated between the model sent and the model that came back.
    """

    name: ClassVar[str] = "untrained-counts"
    title: ClassVar[str] = "Label counts, closed form"
    cites: ClassVar[tuple[str, ...]] = (
        "Wainakh et al. 2022, User-Level Label Leakage from Gradients in Federated Learning, PETS",
        "Dimitrov, Balunovic, Konstantinov, Vechev 2022, Data Leakage in Federated Averaging, TMLR (section 4.3)",
    )
    uses: ClassVar[frozenset[str]] = frozenset(
        {"batch", "rate", "local_batch", "steps", "mode", "optimiser", "normalisation", "prior"}
    )

    source: Source = Field(
        default="auto",
        description="what stands in for the client's records: 'public' ones, 'noise', the features that the 'update' "
        "itself gives away, or 'auto': public ones if there are any, else the better of the others by its whole counts",
    )

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if why := last_layer_obstacle(knowledge):
            return why
        if self.source == "public" and isinstance(knowledge, GradientKnowledge) and _public(knowledge) is None:
            return "source = 'public' needs public records; none were given"
        return super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        return counts_outlook(knowledge, update)

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Posterior:
        found = [
            recovered_counts(knowledge, target.update(client), rng, self.source) for client in range(knowledge.clients)
        ]
        return posterior(self, knowledge, found)


def posterior(attack: LabelAttack, knowledge: GradientKnowledge, found: list[Counts]) -> Posterior:
    """Shares of all clients, as counts where the batch is told, with what they rest on."""
    told = knowledge.assumptions.batch.value
    shares = np.stack([one.counts / one.batch if told else one.shares for one in found])
    guessed = {} if told else {"batch": int(np.median([one.batch for one in found]))}
    facts = attack.assumed(knowledge, **guessed)
    facts["mean_softmax_from"] = ", ".join(sorted({one.source for one in found}))
    facts["counts_off_whole"] = float(np.mean([one.offness for one in found]))
    return Posterior(shares, facts=facts)


def counts_outlook(knowledge: GradientKnowledge, update: Update) -> Outlook | None:
    """What decides whether counts come out right: how much the model's answers depend on the record."""
    why = last_layer_obstacle(knowledge)
    if why is not None:
        return Outlook(prospect="impossible", why=why, change="a fully connected last layer")
    told = knowledge.assumptions
    if update.kind == "delta" and not (told.rate.value and told.steps.value):
        missing = " and ".join(n for n in ("rate", "steps") if not getattr(told, n).value)
        return Outlook(
            prospect="possible",
            why=f"the update is a change of weights and its {missing} is not known: its scale is guessed such that "
            "no class has fewer than no records, which is right where some class is absent",
            change="knowing the learning rate and the number of local steps",
        )
    net: ClientNet = knowledge.net
    layer = last_layer(net)
    if layer is None:
        return None
    x = _public(knowledge)
    x = noise(knowledge, np.random.default_rng(0), 64) if x is None else x[:64]
    path = Path((net.weights(),), 1, "eval", 64)
    _, answers = path.passed(net, layer.name, x, np.random.default_rng(0))
    spread = float(answers[0].std(axis=0).sum())
    asked = "public records" if _public(knowledge) is not None else "noise"
    if spread < 0.3:
        return Outlook(
            prospect="expected",
            why=f"the model answers much the same to any record (spread of its softmax over {asked}: {spread:.2f}): "
            "the counts follow in closed form",
            change="a trained model",
        )
    return Outlook(
        prospect="possible",
        why=f"the model tells records apart (spread of its softmax over {asked}: {spread:.2f}): its mean softmax on "
        "the client's records has to be guessed",
        change="an earlier round, before the model has learned (the counts are then exact)",
    )
