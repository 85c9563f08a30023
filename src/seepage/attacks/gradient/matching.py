"""Records searched for whose update would be the one that was sent: the engine of the optimisation attacks.

A problem is one client's batch from one random start. All problems (clients times restarts) go through every
evaluation together, in groups as large as memory allows; an attack is a choice of coordinates, simulated
update, objective, penalty and optimiser. Restarts are chosen by the objective alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from seepage.attacks.gradient.coordinates import Coordinates
from seepage.attacks.gradient.descent import Found, Optimiser
from seepage.attacks.gradient.objectives import Measure
from seepage.attacks.gradient.received import Received
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge
from seepage.core.memory import out_of_memory
from seepage.models.federated import ClientNet

Array = np.ndarray
# Values (weights of a problem's gradients, and its records') that are worked on at once.
AT_ONCE = 2**25
Simulated = Callable[[Tensor, Tensor], Tensor]
# Records (p, b, *shape) prepared for the network, the numbers that stand for them, and the clients (p,) they are
# for, to one number a problem. It is asked right after `simulate`, on the same problems.
Penalty = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Search:
    """How the records of an update are searched for.

    Attributes:
        coordinates: what is searched.
        simulate: the update that records would make, from prepared records and distributions over classes.
        objective: how far it lies from the one sent.
        optimiser: lowers the objective and the penalty.
        penalty: what else the records should satisfy; None for nothing.
        restarts: random starts a client.
        slots: records searched for a client; as many as its batch, unless it makes several passes over them.
        spread: how far the random starts lie from the middle, in the units of the coordinates.
        onward: what is searched after that, one after the other. Of all ends that of the lowest objective is kept.
    """

    coordinates: Coordinates
    simulate: Simulated
    objective: Measure
    optimiser: Optimiser
    penalty: Penalty | None = None
    restarts: int = 1
    slots: int = 1
    spread: float = 1.0
    onward: tuple["Onward", ...] = ()


@dataclass(frozen=True)
class Onward:
    """What is searched next, from where a search ended.

    Attributes:
        begin: from the numbers (p, b, *shape) where it ended: what is searched next, and the numbers to start from.
        optimiser: lowers the objective and the penalty.
        size: numbers of one record that are searched.
        penalty: as of a search.
        narrowed: whether of each client's restarts only the one matched best so far goes on.
    """

    begin: Callable[[Tensor], tuple[Coordinates, Tensor]]
    optimiser: Optimiser
    size: int
    penalty: Penalty | None = None
    narrowed: bool = False


@dataclass(frozen=True)
class Solved:
    """What a search found for each client.

    Attributes:
        x: (k, slots, *shape) records, in their own values.
        labels: (k, slots) their classes.
        objective: (k,) how far their update lies from the one sent.
        curve: (s, k) the cost of the restart chosen, on its way.
        at: (s,) evaluations spent there.
        leg: (k,) after which part of the search this was found: 0, or the place in `onward` and one; None where there
            was one part alone.
        groups: in how many groups the clients were worked on.
    """

    x: Float[Array, " k b ..."]
    labels: Int[Array, " k b"]
    objective: Float[Array, " k"]
    curve: Float[Array, " s k"] = field(repr=False)
    at: Int[Array, " s"] = field(repr=False)
    groups: int = 1
    leg: Int[Array, " k"] | None = None


def solve(net: ClientNet, got: Received, search: Search, draws: torch.Generator) -> Solved:
    """Search for the records of every client; the start of a client does not hang on who else is searched for."""
    dtype, size = got.wanted.dtype, int(np.prod(search.coordinates.shape))
    joint = got.labels is None
    numbers = search.slots * (size + (net.classes if joint else 0))
    # One problem at a time: torch draws the same numbers for a problem only where it draws as many at once.
    drawn = [torch.randn(numbers, generator=draws, dtype=torch.float64) for _ in range(got.clients * search.restarts)]
    starts = search.spread * torch.stack(drawn).to(dtype).unflatten(0, (got.clients, search.restarts))
    held = max(got.wanted.shape[1], numbers) * search.restarts
    for leg in search.onward:
        held = max(held, search.slots * leg.size * (1 if leg.narrowed else search.restarts))
    parts = _in_groups(net, got, search, starts, max(1, AT_ONCE // held))
    longest = max(len(part.curve) for part in parts)
    return Solved(
        x=np.concatenate([part.x for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        objective=np.concatenate([part.objective for part in parts]),
        # A group that ended early stayed where it was.
        curve=np.concatenate([np.pad(p.curve, ((0, longest - len(p.curve)), (0, 0)), mode="edge") for p in parts], 1),
        at=max((part.at for part in parts), key=len),
        leg=np.concatenate([part.leg for part in parts if part.leg is not None]) if search.onward else None,
        groups=len(parts),
    )


def _in_groups(net: ClientNet, got: Received, search: Search, starts: Tensor, together: int) -> list[Solved]:
    """The clients in groups of `together`; where memory runs out, the rest in groups half as large.

    Raises:
        MemoryError: where it does not even do for one client.
    """
    parts: list[Solved] = []
    first, every = 0, torch.arange(got.clients)
    while first < got.clients:
        now = slice(first, first + together)
        try:
            parts.append(_solve(net, got, search, starts[now], every[now]))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if together == 1:
                raise MemoryError(
                    f"the records of one client do not fit into memory with {search.restarts} restarts: fewer "
                    "restarts, or single precision"
                ) from error
            together = (min(together, got.clients) + 1) // 2
            continue
        first += together
    return parts


class _Problems:
    """Problems that are searched together by the same numbers; `owner` (p,) says which clients they are of."""

    def __init__(
        self,
        net: ClientNet,
        got: Received,
        search: Search,
        owner: Tensor,
        coordinates: Coordinates,
        penalty: Penalty | None,
    ):
        self._net, self._got, self._search, self._owner = net, got, search, owner
        self._coordinates, self._penalty = coordinates, penalty
        self._aims = got.wanted[owner]
        self._size = search.slots * int(np.prod(coordinates.shape))
        self._fixed: Tensor | None = None
        if got.labels is not None:
            fixed = functional.one_hot(torch.from_numpy(got.labels), net.classes).to(got.wanted)
            self._fixed = fixed.repeat(1, search.slots // fixed.shape[1], 1)

    def numbers(self, v: Tensor) -> Tensor:
        return v[:, : self._size].unflatten(1, (self._search.slots, *self._coordinates.shape))

    def logits(self, v: Tensor) -> Tensor:
        """The numbers that labels are searched by; none where they are known."""
        return v[:, self._size :]

    def records(self, v: Tensor) -> Tensor:
        return self._coordinates.records(self.numbers(v))

    def classes(self, v: Tensor, rows: Tensor) -> Tensor:
        if self._fixed is not None:
            return self._fixed[self._owner[rows]]
        return torch.softmax(self.logits(v).unflatten(1, (self._search.slots, self._net.classes)), dim=-1)

    def match(self, v: Tensor, rows: Tensor, x: Tensor) -> Tensor:
        got, mine = self._got, self._owner[rows]
        passed = got.through if got.applied is None else got.applied
        # All rows in order need no copy.
        aim = self._aims if len(rows) == len(self._aims) else self._aims[rows]
        found, wanted = passed(self._search.simulate(x, self.classes(v, rows)), aim, mine)
        if got.kept is not None:
            found, wanted = found * got.kept, wanted * got.kept
        return self._search.objective(found, wanted)

    def ask(self, v: Tensor, rows: Tensor) -> Tensor:
        x = self._net.prepare(self.records(v))
        cost = self.match(v, rows, x)
        return cost if self._penalty is None else cost + self._penalty(x, self.numbers(v), self._owner[rows])

    def within(self, v: Tensor) -> Tensor:
        inside = self._coordinates.inside(self.numbers(v)).flatten(1)
        return torch.cat([inside, self.logits(v)], dim=1)

    def ends(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How far each problem's update lies from the one sent, its records, and their classes."""
        rows = torch.arange(len(v))
        off = self.match(v, rows, self._net.prepare(self.records(v.requires_grad_(True)))).detach()
        with torch.no_grad():
            x, labels = self.records(v), self.classes(v, rows).argmax(dim=-1)
        return torch.where(torch.isfinite(off), off, torch.full_like(off, torch.inf)), x, labels

    def of(self, rows: Tensor) -> "_Problems":
        """Some of the problems."""
        owner = self._owner[rows]
        return _Problems(self._net, self._got, self._search, owner, self._coordinates, self._penalty)

    def onward(self, leg: Onward, v: Tensor) -> tuple["_Problems", Tensor]:
        """The same problems by the next numbers, and where these start."""
        coordinates, begun = leg.begin(self.numbers(v))
        after = _Problems(self._net, self._got, self._search, self._owner, coordinates, leg.penalty)
        return after, torch.cat([begun.flatten(1), self.logits(v)], dim=1)


@dataclass
class _Best:
    """The best end of every problem so far, after which part of the search that was, and the costs on the way."""

    off: Tensor
    x: Tensor
    labels: Tensor
    leg: Tensor
    curve: Tensor
    at: list[int]

    def of(self, rows: Tensor) -> "_Best":
        """Of some of the problems."""
        return _Best(self.off[rows], self.x[rows], self.labels[rows], self.leg[rows], self.curve[:, rows], self.at)

    def after(self, leg: int, found: Found, off: Tensor, x: Tensor, labels: Tensor) -> "_Best":
        """With another part of the search, which is kept where it lies nearer."""
        nearer = off < self.off

        def kept(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(nearer.reshape(-1, *[1] * (new.dim() - 1)), new, old)

        at = [*self.at, *(self.at[-1] + spent for spent in found.at)]
        legs = kept(torch.full_like(self.leg, leg), self.leg)
        curve = torch.cat([self.curve, found.cost])
        return _Best(kept(off, self.off), kept(x, self.x), kept(labels, self.labels), legs, curve, at)


def _solve(net: ClientNet, got: Received, search: Search, starts: Tensor, clients: Tensor) -> Solved:
    owner = clients.repeat_interleave(search.restarts)
    problems = _Problems(net, got, search, owner, search.coordinates, search.penalty)
    found = search.optimiser(starts.flatten(0, 1), problems.ask, problems.within)
    v = problems.within(found.v).detach()
    best = _Best(*problems.ends(v), torch.zeros(len(v), dtype=torch.long), found.cost, list(found.at))
    for number, leg in enumerate(search.onward, 1):
        v = v.detach()
        if leg.narrowed:
            rows = _chosen(best.off, len(clients))
            problems, best, v = problems.of(rows), best.of(rows), v[rows]
        problems, v = problems.onward(leg, v)
        found = leg.optimiser(v, problems.ask, problems.within)
        v = problems.within(found.v).detach()
        best = best.after(number, found, *problems.ends(v))
    best = best.of(_chosen(best.off, len(clients)))
    return Solved(
        x=best.x.double().numpy(),
        labels=best.labels.numpy(),
        objective=best.off.double().numpy(),
        curve=best.curve.double().numpy(),
        at=np.array(best.at),
        leg=best.leg.numpy(),
    )


def _chosen(off: Tensor, clients: int) -> Tensor:
    """Of each client's problems, which lie one after another, the one matched best."""
    each = off.unflatten(0, (clients, -1))
    return each.argmin(dim=1) + torch.arange(clients) * each.shape[1]


def reconstruction(
    knowledge: GradientKnowledge, got: Received, solved: Solved, facts: dict[str, float | str | None]
) -> Reconstruction:
    """The guess that a search makes: a record a slot, those of a client together."""
    slots = solved.x.shape[1]
    finite = np.isfinite(solved.objective)
    told = dict(facts)
    told["objective_median"] = float(np.median(solved.objective[finite])) if finite.any() else None
    notes = list(got.notes)
    if solved.groups > 1:
        notes.append(f"the clients were worked on in {solved.groups} groups, to keep within memory")
    x = np.nan_to_num(solved.x.reshape(-1, *knowledge.spec.shape))
    sure = np.where(finite, -solved.objective, -1e30)
    return Reconstruction(
        knowledge.spec.bounds.clip(x),
        # Labels that were told are nothing that was found.
        solved.labels.reshape(-1) if "labels" in got.guessed else None,
        confidence=np.repeat(sure, slots),
        client=np.repeat(np.arange(got.clients), slots),
        trace={"objective": solved.curve, "objective_at": solved.at},
        facts=told,
        notes=tuple(notes),
    )
