"""The cocktail party attack: a gradient is a mixture of records, and independent components unmix it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field

from seepage.attacks.gradient.entry import Entry, entry, rectified
from seepage.attacks.gradient.features import records_of
from seepage.attacks.gradient.inside import inside
from seepage.attacks.gradient.low_rank import Factors, factorise
from seepage.attacks.gradient.outlooks import several_steps
from seepage.attacks.gradient.phong2017 import first_layer_obstacle
from seepage.attacks.gradient.record_columns import Behind, mixtures, rested
from seepage.attacks.gradient.solving import AGREED, Layer, Solution, completed, most_confirmed
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
        closed: how many records the network confirms; or the signs of its layer, where it cannot be asked.
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

    Where the first layer is none that can be unmixed (a convolution), the first fully connected layer behind it is
    taken, whose input is features of the records. Unmixing gives those, as exactly, and a search gives the records
    from them (`features.records_of`); no other record's gradient is in its way.
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
    version: ClassVar[int] = 2

    objective: Literal["edges", "published"] = Field(default="edges", description="what components are found by")
    steps: int = Field(default=5000, ge=1, description="of Adam, for the 'published' objective")
    closing: bool = Field(default=True, description="whether records are made exact by the network")
    search: int = Field(default=600, ge=1, description="of Adam, from features of a later layer to a record")
    restarts: int = Field(default=2, ge=1, description="of that search, the one kept that costs least")

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, GradientKnowledge) and (why := _obstacle(knowledge)):
            return why
        return super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        net: ClientNet | None = knowledge.net
        told = knowledge.assumptions
        met = None if net is None else _met(net, told.mode.value)
        if net is None or met is None:
            why = first_layer_obstacle(knowledge) or ""
            return Outlook(prospect="impossible", why=why, change="a fully connected layer with a bias")
        if (said := several_steps(knowledge, update)) is not None:
            return said
        found = _expected(Layer.read(net, met.entry, update), told.batch.value)
        return found if met.direct else _of_features(found, knowledge, met, self.search * self.restarts)

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        net, told = knowledge.net, knowledge.assumptions
        met = _met(net, told.mode.value)
        if met is None:
            raise DataError("a fully connected layer with a bias was wanted; `obstacle` says so before a run")
        batch, spec, off = told.batch.value, knowledge.spec, rectified(net, met.entry)
        found: list[Unmixed] = []
        for client in range(knowledge.clients):
            layer = Layer.read(net, met.entry, target.update(client))
            found.append(self._unmixed(layer, met, batch, off, rng.spawn(1)[0]))
        inputs = np.concatenate([one.inputs for one in found])
        apart = np.concatenate([one.apart for one in found])
        owner = np.repeat(np.arange(len(found)), [len(one.inputs) for one in found])
        guessed = {} if batch is not None else {"batch": int(np.median([one.rank for one in found]))}
        rough = len(inputs) - sum(one.closed for one in found)
        what = "records" if met.direct else f"inputs of the layer '{met.entry.name}'"
        notes = (f"{rough} of {len(inputs)} {what} are components that the network does not confirm",) if rough else ()
        facts = {
            "rank_median": float(np.median([one.rank for one in found])),
            "records_confirmed": float(sum(one.closed for one in found)),
            "clients_closed": float(sum(0 < one.closed == one.rank for one in found)),
        }
        if met.direct:
            x = met.entry.records(inputs, spec.shape)
        else:
            mode = "eval" if told.mode.value == "eval" else "train"
            dropout = met.dropout if mode == "train" else 0.0
            made = records_of(net, met.entry.name, inputs, owner, mode, dropout, self.search, self.restarts, rng)
            x, facts["features_apart_median"] = made.x, float(np.median(made.apart)) if len(made.apart) else 0.0
        return Reconstruction(
            np.clip(x, spec.bounds.low, spec.bounds.high),
            labels=None if met.behind is None else np.concatenate([one.labels for one in found]),
            confidence=-apart,
            client=owner,
            notes=notes,
            facts=facts | self.assumed(knowledge, **guessed),
        )

    def _unmixed(self, layer: Layer, met: "_Met", batch: int | None, off: bool, rng: np.random.Generator) -> Unmixed:
        behind = met.behind
        factors = factorise(layer.d_weight, batch)
        b = factors.rank
        if b == 0 or len(factors.live) < b or not np.abs(layer.d_bias).max(initial=0.0) > 0:
            return Unmixed(np.zeros((0, layer.weight.shape[1])), np.zeros(0, dtype=np.int64), np.zeros(0), b, 0)

        def unmixing(rows: Array) -> Array:
            # As the adversary sees pictures: what normalisation multiplies channels with is taken off.
            seen = rows / met.entry.scale
            if self.objective == "published":
                return published(seen, met.shape if met.direct else (seen.shape[1],), self.steps)
            return components(edges(seen, met.shape), rng)

        rough = _parted(factors, layer, np.zeros((0, b)), unmixing)
        told = None if behind is None else behind.told(rough, factors)
        nothing = np.zeros(len(rough), dtype=np.int64), np.zeros(len(rough))
        label, apart = nothing if told is None else (told.label, told.apart)
        # A gradient of rank one is one record's, whatever the network says.
        plain = Unmixed(rough, label, apart, b, int(b == 1))
        if not self.closing or b == 1 or (behind is None and not off):
            return plain
        made = _closed(layer, _directions(layer, factors, behind, off, rough, unmixing, rng), behind, rng)
        if made is None:
            return plain
        if behind is None or made.labels is None:
            return replace(plain, inputs=made.inputs, closed=made.found)
        return Unmixed(made.inputs, made.labels, behind.told(made.inputs, factors).apart, b, made.found)


@dataclass(frozen=True)
class _Met:
    """The layer that is unmixed.

    Attributes:
        entry: the layer.
        direct: whether its input is the record, value by value.
        shape: of its input: the record's, or that of the maps which were flattened.
        behind: the network behind it, where columns are told by it.
        dropout: see `Inside`.
    """

    entry: Entry
    direct: bool
    shape: tuple[int, ...]
    behind: Behind | None
    dropout: float = 0.0


def _met(net: ClientNet, mode: str | None) -> _Met | None:
    """The first layer where it can be unmixed; else the first further in that can; None without any."""
    first = entry(net)
    if first is not None and first.kind == "linear" and first.direct and first.bias is not None:
        tied = net.has_batch_norm and mode != "eval"
        return _Met(first, True, net.spec.shape, None if tied else Behind(net, first))
    further = inside(net)
    if further is None:
        return None
    told = further.closed or mode == "eval"
    behind = Behind(net, further.entry, (further.low, further.high)) if told else None
    return _Met(further.entry, False, further.shape, behind, further.dropout)


def _obstacle(knowledge: GradientKnowledge) -> str | None:
    """Why no layer can be unmixed, or None."""
    why = first_layer_obstacle(knowledge)
    if why is None or knowledge.net is None or inside(knowledge.net) is None:
        return why
    return None


def _of_features(found: Outlook, knowledge: GradientKnowledge, met: _Met, steps: int) -> Outlook:
    """The outlook where features are unmixed and records sought from them."""
    sought, told = knowledge.spec.size, met.entry.scale.size
    records = knowledge.clients * int(knowledge.assumptions.batch.value or 1)
    seconds = steps * _seconds_a_step(knowledge.net, met.entry.name, records)
    why = f"{found.why}; they are features ('{met.entry.name}'), {told} for the {sought} values of a record"
    prospect = "possible" if found.prospect == "expected" else found.prospect
    whole = None if found.seconds is None else round(found.seconds + seconds, 1)
    return found.model_copy(update={"why": why, "prospect": prospect, "seconds": whole})


def _seconds_a_step(net: ClientNet, layer: str, records: int) -> float:
    """Of the search for records from their features, by timing one record."""
    x, taken = torch.zeros(1, *net.spec.shape, requires_grad=True), list[float]()
    for _ in range(3):
        begun = time.perf_counter()
        torch.autograd.grad(net.inside(layer, x)[0].square().sum(), x)
        taken.append(time.perf_counter() - begun)
    return min(taken) * (0.5 + 0.5 * records)


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


def _closed(layer: Layer, search: Search, behind: Behind | None, rng: np.random.Generator) -> Solution | None:
    """The records that directions give, where the network confirms them; None where none is.

    Where it cannot be asked (what is drawn in it is not known), the signs of all neurons have to agree with the zeros,
    for every record.
    """
    if behind is not None:
        made = most_confirmed(layer, search, behind, rng)
        return made if made.found and made.labels is not None else None
    if len(search.found) < search.factors.rank - 1:
        return None
    made = completed(layer, search)
    return made if made.found == search.factors.rank and (made.agreement >= AGREED).all() else None


def _directions(
    layer: Layer,
    factors: Factors,
    behind: Behind | None,
    off: bool,
    rough: Float[Array, " n d"],
    unmixing: Unmixing,
    rng: np.random.Generator,
) -> Search:
    """Directions of records: those found are taken out of the mixtures and the rest unmixed again, until none is."""
    b = factors.rank
    search = Search(factors, layer.positive(factors), layer.sides(factors))
    for _ in range(LAPS):
        before = len(search.found)
        if off:
            _by_zeros(layer, search, rough, rng)
        elif behind is not None:
            _by_columns(layer, search, behind, rough, rng)
        if len(search.found) >= b - 1 or len(search.found) == before:
            break
        rough = _parted(factors, layer, np.array(search.found).reshape(-1, b), unmixing)
    if off and b <= DRAWABLE:
        search.run(DRAWS, rng, spare=0 if behind is None else 1)
    return search


def _by_zeros(layer: Layer, search: Search, rough: Float[Array, " n d"], rng: np.random.Generator) -> None:
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
