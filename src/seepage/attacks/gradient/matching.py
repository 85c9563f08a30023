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
    """

    coordinates: Coordinates
    simulate: Simulated
    objective: Measure
    optimiser: Optimiser
    penalty: Penalty | None = None
    restarts: int = 1
    slots: int = 1
    spread: float = 1.0


@dataclass(frozen=True)
class Solved:
    """What a search found for each client.

    Attributes:
        x: (k, slots, *shape) records, in their own values.
        labels: (k, slots) their classes.
        objective: (k,) how far their update lies from the one sent.
        curve: (s, k) the cost of the restart chosen, on its way.
        at: (s,) evaluations spent there.
        groups: in how many groups the clients were worked on.
    """

    x: Float[Array, " k b ..."]
    labels: Int[Array, " k b"]
    objective: Float[Array, " k"]
    curve: Float[Array, " s k"] = field(repr=False)
    at: Int[Array, " s"] = field(repr=False)
    groups: int = 1


def solve(net: ClientNet, got: Received, search: Search, draws: torch.Generator) -> Solved:
    """Search for the records of every client; the start of a client does not hang on who else is searched for."""
    dtype, size = got.wanted.dtype, int(np.prod(search.coordinates.shape))
    joint = got.labels is None
    numbers = search.slots * (size + (net.classes if joint else 0))
    # One problem at a time: torch draws the same numbers for a problem only where it draws as many at once.
    drawn = [torch.randn(numbers, generator=draws, dtype=torch.float64) for _ in range(got.clients * search.restarts)]
    starts = search.spread * torch.stack(drawn).to(dtype).unflatten(0, (got.clients, search.restarts))
    held = max(got.wanted.shape[1], numbers) * search.restarts
    parts = _in_groups(net, got, search, starts, max(1, AT_ONCE // held))
    longest = max(len(part.curve) for part in parts)
    return Solved(
        x=np.concatenate([part.x for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        objective=np.concatenate([part.objective for part in parts]),
        # A group that ended early stayed where it was.
        curve=np.concatenate([np.pad(p.curve, ((0, longest - len(p.curve)), (0, 0)), mode="edge") for p in parts], 1),
        at=max((part.at for part in parts), key=len),
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


def _solve(net: ClientNet, got: Received, search: Search, starts: Tensor, clients: Tensor) -> Solved:
    restarts, slots, shape = search.restarts, search.slots, search.coordinates.shape
    size = slots * int(np.prod(shape))
    owner = clients.repeat_interleave(restarts)
    fixed = None
    if got.labels is not None:
        fixed = functional.one_hot(torch.from_numpy(got.labels), net.classes).to(starts)
        fixed = fixed.repeat(1, slots // fixed.shape[1], 1)

    def numbers(v: Tensor) -> Tensor:
        return v[:, :size].unflatten(1, (slots, *shape))

    def picked(v: Tensor) -> Tensor:
        return search.coordinates.records(numbers(v))

    def classes(v: Tensor, rows: Tensor) -> Tensor:
        if fixed is not None:
            return fixed[owner[rows]]
        return torch.softmax(v[:, size:].unflatten(1, (slots, net.classes)), dim=-1)

    def match(v: Tensor, rows: Tensor, x: Tensor) -> Tensor:
        found, wanted = got.through(search.simulate(x, classes(v, rows)), got.wanted[owner[rows]], owner[rows])
        if got.kept is not None:
            found, wanted = found * got.kept, wanted * got.kept
        return search.objective(found, wanted)

    def ask(v: Tensor, rows: Tensor) -> Tensor:
        x = net.prepare(picked(v))
        cost = match(v, rows, x)
        return cost if search.penalty is None else cost + search.penalty(x, numbers(v), owner[rows])

    def within(v: Tensor) -> Tensor:
        inside = search.coordinates.inside(numbers(v)).flatten(1)
        return torch.cat([inside, v[:, size:]], dim=1)

    found: Found = search.optimiser(starts.flatten(0, 1), ask, within)
    v = within(found.v).requires_grad_(True)
    rows = torch.arange(len(v))
    ended = match(v, rows, net.prepare(picked(v))).detach().unflatten(0, (-1, restarts))
    ended = torch.where(torch.isfinite(ended), ended, torch.full_like(ended, torch.inf))
    chosen = ended.argmin(dim=1) + torch.arange(len(clients)) * restarts
    with torch.no_grad():
        x, labels = picked(v)[chosen], classes(v, rows)[chosen].argmax(dim=-1)
    return Solved(
        x=x.double().numpy(),
        labels=labels.numpy(),
        objective=ended.min(dim=1).values.double().numpy(),
        curve=found.cost[:, chosen].double().numpy(),
        at=np.array(found.at),
    )


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
