"""The cocktail party attack: a gradient is a mixture of records, and independent components unmix it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from seepage.attacks.gradient.entry import Entry, entry, rectified
from seepage.attacks.gradient.low_rank import Factors, factorise
from seepage.attacks.gradient.outlooks import several_steps
from seepage.attacks.gradient.phong2017 import first_layer_obstacle
from seepage.attacks.gradient.record_columns import Behind, mixtures, rested
from seepage.attacks.gradient.solving import Layer, Solution, most_confirmed
from seepage.attacks.gradient.sparse_columns import SHARED, Search
from seepage.attacks.gradient.unmixing import components, edges, published
from seepage.core.attack import GradientAttack
from seepage.core.errors import DataError
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Modality
from seepage.models.federated import ClientNet

Array = np.ndarray
Unmixing = Callable[[Array], Array]

# Rows that are surest to be off, in multiples of those needed; and how many sets of them are drawn where a few of
# them are on after all.
POOLS = (1.0, 1.3, 1.7, 2.2, 3.0, 4.0, 6.0)
TRIES = 12
# Up to how many records the directions that are left are drawn for, as `spear` does, and by how many sets of rows.
DRAWABLE, DRAWS = 20, 40_000
# How often what is left is unmixed again, with the records found taken out of the mixtures.
LAPS = 6


@dataclass(frozen=True)
class Unmixed:
    """What was found of one update.

    Attributes:
        inputs: (n, d) of the layer, those by components alone where not closed.
        labels: (n,) those under which each fits the gradient best.
        apart: (n,) the share of each one's own gradient that lies outside the space of the one sent.
        rank: of the gradient.
        closed: how many records the network confirms.
    """

    inputs: Float[Array, " n d"]
    labels: Int[Array, " n"]
    apart: Float[Array, " n"]
    rank: int
    closed: int


class CocktailParty(GradientAttack):
    """Unmixes the gradient of a fully connected layer by independent component analysis.

    The gradient is D X: its rows are mixtures of the records, of the whole batch or of all clients of a sum.
    Independent component analysis finds the records in them, up to order and scale, for records are far from
    Gaussian and hardly depend on each other; the gradient of the biases, D 1, gives scale and sign. As published
    (`objective = "published"`) it works on pixel values with a prior of smoothness; by default on differences of
    neighbouring pixels, for which independence holds far better, and without any weight to be tuned.

    What comes out is near the records, and `closing` makes it exact: a record lies in the space of the gradient's
    rows, and its own column of D, which the network tells, in the space of its columns. Behind a ReLU the
    neurons that are surely off give the direction of a record, and in small batches what is left is drawn for as
    by `spear`; behind other activations Gauss-Newton brings its column into the space. Records found are taken out of
    the mixtures and the rest is unmixed again.
    This part is the project's own.
    """

    name: ClassVar[str] = "cocktail-party"
    title: ClassVar[str] = "Cocktail party, by independent components"
    cites: ClassVar[tuple[str, ...]] = (
        "Kariyappa, Guo, Maeng, Xiong, Suh, Qureshi, Lee 2023, Cocktail Party Attack: Breaking Aggregation-Based "
        "Privacy in Federated Learning Using Independent Component Analysis, ICML",
        "Hyvarinen 1999, Fast and Robust Fixed-Point Algorithms for Independent Component Analysis, IEEE TNN",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "mode", "normalisation"})

    objective: Literal["edges", "published"] = Field(default="edges", description="what components are found by")
    steps: int = Field(default=5000, ge=1, description="of Adam, for the 'published' objective")
    closing: bool = Field(default=True, description="whether records are made exact by the network")

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, GradientKnowledge) and (why := first_layer_obstacle(knowledge)):
            return why
        return super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        if why := first_layer_obstacle(knowledge):
            return Outlook(prospect="impossible", why=why, change="a fully connected first layer with a bias")
        if (said := several_steps(knowledge, update)) is not None:
            return said
        first = entry(knowledge.net)
        assert first is not None
        return _expected(Layer.read(knowledge.net, first, update), knowledge.assumptions.batch.value)

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        net: ClientNet = knowledge.net
        first = entry(net)
        if first is None or first.bias is None:
            raise DataError("a first layer with a bias was wanted; `obstacle` says so before a run")
        tied = net.has_batch_norm and knowledge.assumptions.mode.value != "eval"
        behind, batch, spec = None if tied else Behind(net, first), knowledge.assumptions.batch.value, knowledge.spec
        off = rectified(net, first)
        found: list[Unmixed] = []
        for client in range(knowledge.clients):
            layer = Layer.read(net, first, target.update(client))
            found.append(self._unmixed(layer, first, spec.shape, batch, behind, off, rng.spawn(1)[0]))
        inputs = np.concatenate([one.inputs for one in found])
        apart = np.concatenate([one.apart for one in found])
        guessed = {} if batch is not None else {"batch": int(np.median([one.rank for one in found]))}
        rough = len(inputs) - sum(one.closed for one in found)
        notes = (f"{rough} of {len(inputs)} records are components that the network does not confirm",) if rough else ()
        return Reconstruction(
            np.clip(first.records(inputs, spec.shape), spec.bounds.low, spec.bounds.high),
            labels=None if behind is None else np.concatenate([one.labels for one in found]),
            confidence=-apart,
            client=np.repeat(np.arange(len(found)), [len(one.inputs) for one in found]),
            notes=notes,
            facts={
                "rank_median": float(np.median([one.rank for one in found])),
                "records_confirmed": float(sum(one.closed for one in found)),
                "clients_closed": float(sum(0 < one.closed == one.rank for one in found)),
            }
            | self.assumed(knowledge, **guessed),
        )

    def _unmixed(
        self,
        layer: Layer,
        first: Entry,
        shape: tuple[int, ...],
        batch: int | None,
        behind: Behind | None,
        off: bool,
        rng: np.random.Generator,
    ) -> Unmixed:
        factors = factorise(layer.d_weight, batch)
        b = factors.rank
        if b == 0 or len(factors.live) < b or not np.abs(layer.d_bias).max(initial=0.0) > 0:
            return Unmixed(np.zeros((0, layer.weight.shape[1])), np.zeros(0, dtype=np.int64), np.zeros(0), b, 0)

        def unmixing(rows: Array) -> Array:
            # As the adversary sees pictures: what normalisation multiplies channels with is taken off.
            seen = rows / first.scale
            if self.objective == "published":
                return published(seen, shape, self.steps)
            return components(edges(seen, shape), rng)

        rough = _parted(factors, layer, np.zeros((0, b)), unmixing)
        if behind is None:
            return Unmixed(rough, np.zeros(len(rough), dtype=np.int64), np.zeros(len(rough)), b, 0)
        told = behind.told(rough, factors)
        plain = Unmixed(rough, told.label, told.apart, b, 0)
        if not self.closing or b == 1:
            return plain
        made = _closed(layer, factors, behind, off, rough, unmixing, rng)
        if not made.found or made.labels is None:
            return plain
        return Unmixed(made.inputs, made.labels, behind.told(made.inputs, factors).apart, b, made.found)


def _parted(factors: Factors, layer: Layer, found: Float[Array, " k b"], unmixing: Unmixing) -> Float[Array, " n d"]:
    """The inputs of the records without a direction, by components of the mixtures that are left of them.

    With the bias as one more input that is 1 for every record, the same unmixing that gives a record gives its scale.
    """
    rest = np.linalg.svd(found, full_matrices=True)[2][len(found) :] if len(found) else np.eye(factors.rank)
    rows = rest @ (factors.singular[:, None] * factors.right)
    last = rest @ (factors.left.T @ layer.d_bias[factors.live])
    # Of equal size first: the least mixtures would otherwise drown.
    u, size, even = np.linalg.svd(rows, full_matrices=False)
    w = (unmixing(even) if len(even) > 1 else np.eye(1)) @ (u.T / size[:, None])
    scale = w @ last
    return (w @ rows) / np.where(np.abs(scale) > 1e-12, scale, 1e-12)[:, None]


def _closed(
    layer: Layer,
    factors: Factors,
    behind: Behind,
    off: bool,
    rough: Float[Array, " n d"],
    unmixing: Unmixing,
    rng: np.random.Generator,
) -> Solution:
    """Records made exact, those found taken out of the mixtures, the rest unmixed again, until none is left or new."""
    b = factors.rank
    search = Search(factors, layer.positive(factors), layer.sides(factors))
    for _ in range(LAPS):
        before = len(search.found)
        (_by_zeros if off else _by_columns)(layer, search, behind, rough, rng)
        if len(search.found) >= b - 1 or len(search.found) == before:
            break
        rough = _parted(factors, layer, np.array(search.found).reshape(-1, b), unmixing)
    if off and b <= DRAWABLE:
        search.run(DRAWS, rng, spare=1)
    return most_confirmed(layer, search, behind, rng)


def _by_zeros(
    layer: Layer, search: Search, behind: Behind, rough: Float[Array, " n d"], rng: np.random.Generator
) -> None:
    """Offers, for each record, what is zero on the neurons that it leaves off most surely."""
    factors = search.factors
    need = factors.rank - 1
    z = rough @ layer.weight[factors.live].T + layer.bias[factors.live]
    for order, off in zip(np.argsort(z, axis=1, kind="stable"), (z < 0).sum(axis=1), strict=True):
        before = len(search.found)
        for share in POOLS:
            # Few rows may lie in what several records leave off; with more of them one record is left.
            pool = order[: min(int(np.ceil(share * need)), off)]
            size, axes = np.linalg.svd(factors.unit[pool])[1:]
            open_ = factors.rank - int((size > factors.coarse).sum())
            if open_:
                search.offer(axes[factors.rank - open_ :] if open_ <= SHARED else axes[:0])
            else:
                sets = [rng.choice(pool, need, replace=False) for _ in range(TRIES)]
                search.offer(np.array([np.linalg.svd(factors.unit[rows])[2][-1] for rows in sets]))
            if len(search.found) > before or not open_ or len(pool) == off:
                break


def _by_columns(
    layer: Layer, search: Search, behind: Behind, rough: Float[Array, " n d"], rng: np.random.Generator
) -> None:
    """Adds the direction of each record whose column Gauss-Newton brings into the space of the gradient's."""
    factors = search.factors
    space = mixtures(factors, np.array(search.found).reshape(-1, factors.rank), layer.d_bias)
    told = behind.told(rough, factors)
    for row in np.argsort(told.apart, kind="stable"):
        if len(search.found) == factors.rank:
            break
        start, label = (rough[row] - space.base) @ space.axes.T, int(told.label[row])
        t, left = rested(start, label, space, factors, behind, float(np.abs(start).max(initial=1e-3)))
        if left < factors.coarse:
            q = behind.outside(space.at(t[None]), factors, label)[1][0, 0]
            search.add(q / np.linalg.norm(q))


def _expected(layer: Layer, batch: int | None) -> Outlook:
    """The outlook from shapes and rank alone."""
    factors = factorise(layer.d_weight, batch)
    b, (m, d) = factors.rank, layer.weight.shape
    if b == 0:
        return Outlook(prospect="impossible", why="the first layer's gradient is zero", change="an update of records")
    figures = f"rank {b} of a gradient of {m} neurons and {d} inputs"
    if batch is not None and b < batch:
        return Outlook(
            prospect="unlikely",
            why=f"{figures}, fewer than the {batch} records: those cannot all be told apart",
            change="a first layer wider than all the records of a batch, or of a sum over clients",
        )
    if b > 0.8 * min(m, d):
        return Outlook(
            prospect="unlikely",
            why=f"{figures}: nothing is left over by which records could be told from mixtures",
            change="fewer records, or a wider first layer; noise on the update raises the rank",
        )
    return Outlook(
        prospect="expected" if b <= 64 and d >= 20 * b else "possible",
        why=f"{figures}, and {d / b:.0f} values a record to tell components by",
        change="more records, noise on the update, several local steps, or records that depend on each other",
        seconds=round(0.02 * b + 2e-5 * b**3, 1),
    )
