"""What attacks on labels share: the model along a client's steps, shares of classes and whole counts of them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int

from seepage.attacks.gradient.last import LastGradient, LastLayer, last_gradient, last_layer, last_layer_obstacle
from seepage.core.attack import LabelAttack
from seepage.core.counts import whole_counts
from seepage.core.guess import Posterior
from seepage.core.knowledge import GradientKnowledge
from seepage.core.outlook import Outlook
from seepage.core.victim import Update
from seepage.models.federated import ClientNet, Mode, Named
from seepage.models.training import seeded

Array = np.ndarray
# Features and softmax of some records.
Passed = tuple[Array, Array]
# Records that means are estimated from, and records a forward pass where the update's batch is not known.
PROBES = 512
BATCH = 32
# A batch is taken to be as large as its counts come this near to whole numbers (root mean square).
WHOLE = 0.1
MOST = 512
# Below this spread of its answers a model is blind enough for the closed form.
BLIND = 0.3


@dataclass(frozen=True)
class Counts:
    """What an update says of its labels.

    Attributes:
        shares: (classes,) of the batch, at least 0, summing to one.
        batch: how many records the update was taken to be of.
        guessed: the rungs of the ladder that were guessed.
        way: how the shares were found, in a word or two.
    """

    shares: Float[Array, " c"]
    batch: int
    guessed: tuple[str, ...]
    way: str

    @property
    def counts(self) -> Int[Array, " c"]:
        return whole_counts(self.shares, self.batch)

    @property
    def labels(self) -> Int[Array, " n"]:
        """The classes with repeats, rising."""
        return np.repeat(np.arange(len(self.shares)), self.counts)


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


class Probed:
    """Records passed through the model at the ends of a client's path: when first asked for, and kept.

    All clients of a round start from the same weights, so that one pass there serves them all.

    Args:
        knowledge: what the adversary holds.
        rng: draws the records, and what dropout drops.
        x: records to probe with, in this order; by default some public ones where there are any, else noise.
    """

    def __init__(self, knowledge: GradientKnowledge, rng: np.random.Generator, x: Float[Array, " n ..."] | None = None):
        if x is None:
            x = probes(knowledge, rng)
            x = x[rng.permutation(len(x))[:PROBES]]
        self.x = x
        self._net: ClientNet = knowledge.net
        self._seed = int(rng.integers(2**62))
        self._kept: dict[tuple[str, Mode, int], Passed] = {}

    def ends(self, path: Path, layer: str) -> tuple[list[Array], list[Array]]:
        """Features (n, d) of the last layer and softmax (n, classes), at each end of the path."""
        key = (layer, path.mode, path.batch if path.mode == "train" else 0)
        if key not in self._kept:
            self._kept[key] = self._passed(path, path.ends[0], layer)
        passed = [self._kept[key], *(self._passed(path, held, layer) for held in path.ends[1:])]
        return [z for z, _ in passed], [p for _, p in passed]

    def _passed(self, path: Path, held: Named, layer: str) -> Passed:
        return passed(self._net, layer, self.x, path, held, self._seed)


@dataclass(frozen=True)
class Reading:
    """What one update tells before anything is made of it.

    Attributes:
        given: the mean gradient of the last layer, in its right scale as far as that can be known or guessed.
        slope: (classes,) mean residual of the records: the gradient of the biases, or what stands in for it.
        path: the model along the client's steps.
        batch: how many records it is of.
        guessed: what of the ladder was guessed for this.
        probed: the records probed with; passed through the model where a rule asks for it.
    """

    given: LastGradient
    slope: Float[Array, " c"]
    path: Path
    batch: int
    guessed: tuple[str, ...]
    probed: Probed

    @cached_property
    def _ends(self) -> tuple[list[Array], list[Array]]:
        return self.probed.ends(self.path, self.given.layer.name)

    @property
    def features(self) -> list[Float[Array, " n d"]]:
        """Of the last layer, of the records probed with, at each end of the path."""
        return self._ends[0]

    @property
    def answers(self) -> list[Float[Array, " n c"]]:
        """The softmax of the same."""
        return self._ends[1]

    @property
    def mean(self) -> Float[Array, " c"]:
        """(classes,) mean softmax of the records probed with, over the client's steps."""
        return self.path.mean([p.mean(axis=0) for p in self.answers])

    @property
    def for_batch(self) -> tuple[str, ...]:
        """What was guessed, for a rule that needs the batch and no scale."""
        return self.guessed if "batch" in self.guessed else ()

    @property
    def spread(self) -> float:
        """How much answers differ between records: standard deviations summed over classes; 0 for a blind model."""
        return float(self.answers[0].std(axis=0).sum())


def read(knowledge: GradientKnowledge, update: Update, probed: Probed, layer: LastLayer | None = None) -> Reading:
    """What an update tells.

    Args:
        knowledge: what the adversary holds.
        update: what the client sent.
        probed: records to probe the model with.
        layer: the last layer, where it is already known.

    Raises:
        DataError: for an update that is not of the model, or not finite.
    """
    given = last_gradient(knowledge, update, layer)
    path = passing(knowledge, update)
    told = knowledge.assumptions.batch.value
    slope = given.bias
    if slope is None:
        # Where all features are much alike the weight gradient is g z^T, z the mean feature.
        features, _ = probed.ends(path, given.layer.name)
        centre = path.mean([one.mean(axis=0) for one in features])
        slope = given.weight @ centre / max(float(centre @ centre), 1e-300)
    if given.scaled and told:
        return Reading(given, slope, path, int(told), (), probed)
    _, answers = probed.ends(path, given.layer.name)
    mean = path.mean([one.mean(axis=0) for one in answers])
    guessed: tuple[str, ...] = ()
    if not given.scaled:
        unit = _unit(mean, slope)
        given, slope = given.times(unit), slope * unit
        guessed += tuple(n for n in ("rate", "steps") if not getattr(knowledge.assumptions, n).value)
    if not told:
        guessed += ("batch",)
    batch = int(told) if told else guessed_batch(given, mean - slope)
    return Reading(given, slope, path, batch, guessed, probed)


def _unit(mean: Float[Array, " c"], slope: Float[Array, " c"]) -> float:
    """What brings a gradient of unknown scale into its own: as much as leaves no share of a class below zero.

    That is right where some class is in no record of the batch.
    """
    up = slope > 1e-12 * max(float(np.abs(slope).max()), 1e-300)
    return float((mean[up] / slope[up]).min()) if up.any() else 1.0


def passed(net: ClientNet, layer: str, x: Array, path: Path, held: Named, seed: int) -> Passed:
    """Features (n, d) of the last layer and softmax (n, classes) at some weights of a path.

    In "train" mode a batch at a time, and none alone. `seed` decides what dropout drops.
    """
    size = path.batch if path.mode == "train" else len(x)
    whole_batches = max(len(x) // size, 1) * size
    # Dropout draws from torch's own generator.
    with torch.no_grad(), seeded(seed):
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


def public_records(knowledge: GradientKnowledge) -> Float[Array, " n ..."] | None:
    """What the adversary owns, where it is enough to pass through a model in batches."""
    public = knowledge.public
    return None if public is None or len(public) < 2 else public.x


def probes(knowledge: GradientKnowledge, rng: np.random.Generator) -> Float[Array, " n ..."]:
    """Public records where there are any, else noise."""
    public = public_records(knowledge)
    return noise(knowledge, rng) if public is None else public


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


def posterior(attack: LabelAttack, knowledge: GradientKnowledge, found: list[Counts]) -> Posterior:
    """Shares of all clients, as whole counts where the batch is told, with what they rest on."""
    told = knowledge.assumptions.batch.value
    shares = np.stack([one.counts / one.batch if told else one.shares for one in found])
    values: dict[str, int | str] = {"batch": int(np.median([one.batch for one in found])), "rate": "by scale"}
    values["steps"] = "by scale"
    names = sorted({name for one in found for name in one.guessed})
    facts = attack.assumed(knowledge, **{name: values[name] for name in names})
    facts["counted_by"] = ", ".join(sorted({one.way for one in found}))
    return Posterior(shares, facts=facts)


def scale_outlook(knowledge: GradientKnowledge, update: Update) -> Outlook | None:
    """What can be said of any counts: whether there is a last layer to read, and whether its scale is known."""
    why = last_layer_obstacle(knowledge)
    if why is not None:
        return Outlook(prospect="impossible", why=why, change="a fully connected last layer")
    told = knowledge.assumptions
    missing = " and ".join(n for n in ("rate", "steps") if not getattr(told, n).value)
    if update.kind == "delta" and missing:
        return Outlook(
            prospect="possible",
            why=f"the update is a change of weights and its {missing} is not known: its scale is guessed such that "
            "no class has fewer than no records, which is right where some class is absent",
            change="knowing the learning rate and the number of local steps",
        )
    return None


def spread_of(knowledge: GradientKnowledge) -> tuple[float, str]:
    """How much the model's answers differ between records (0 for a blind model), and what they were asked."""
    layer = last_layer(knowledge.net)
    if layer is None:
        return 0.0, "nothing"
    rng = np.random.default_rng(0)
    x = probes(knowledge, rng)
    path = Path((knowledge.net.weights(),), 1, "eval", 64)
    _, answers = passed(knowledge.net, layer.name, x[rng.permutation(len(x))[:64]], path, path.ends[0], 0)
    return float(answers.std(axis=0).sum()), "noise" if public_records(knowledge) is None else "public records"
