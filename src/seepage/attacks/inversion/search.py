"""What the attacks with the weights in hand share: starts, the descent, selection, and frames of the way.

A batch holds `starts` rows a class, class by class. Large batches are searched in blocks of whole classes, so
that memory stays bounded however many classes there are; no row depends on another.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from seepage.attacks.inversion.optimisers import Optimiser
from seepage.attacks.inversion.parts import Array, jittered, views
from seepage.core.attack import InversionAttack
from seepage.core.knowledge import InversionKnowledge, Knowledge
from seepage.core.target import WhiteBox
from seepage.core.vocabulary import Modality
from seepage.models.priors import Decoder, Prior, Shelf, prior_for

PriorName = Literal["auto", "own", "pca", "gan", "diffusion"]
Identity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Penalty = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

FRAMES = 8
# Most record values in one block, and most records in one pass without gradients.
BLOCK = 2**22
PASS = 256
# The smallest picture that a trained generator draws.
LEAST_SIDE = 8
# Fewer steps than these are no search.
FEW = 10


def prior_named(knowledge: InversionKnowledge, kind: PriorName, published: PriorName, components: int) -> Prior:
    """The prior an attack's `prior` field asks for.

    Args:
        knowledge: what the adversary holds.
        kind: "auto" is the user's own generator where one was brought, and `published` elsewhere; for what no
            network here can draw (tables, pictures below 8 x 8) it is "pca".
        published: the kind that the attack's paper uses.
        components: size of a "pca" prior at the most; the others have their own.

    Raises:
        ConfigError, DataError: as `Shelf.get`.
    """
    kind = kind_of(knowledge, kind, published)
    return prior_for(knowledge, kind, **({"components": components} if kind == "pca" else {}))


def kind_of(knowledge: InversionKnowledge, kind: PriorName, published: PriorName) -> PriorName:
    """The kind that "auto" stands for; any other kind is itself. See `prior_named`."""
    if kind == "auto":
        brought = isinstance(knowledge.priors, Shelf) and knowledge.priors.own is not None
        shape = knowledge.spec.shape
        drawn = knowledge.spec.modality is Modality.IMAGE and min(shape[1:]) >= LEAST_SIDE
        return "own" if brought else published if drawn else "pca"
    return kind


def steps_within(wanted: int, budget: int | None, fixed: int, each: int) -> int:
    """How many of the `wanted` steps a budget allows, `fixed` queries beside them and `each` a step; 0 or more."""
    return wanted if budget is None else max(min(wanted, (budget - fixed) // max(each, 1)), 0)


def too_few(steps: int, wanted: int, fixed: int, each: int, budget: int | None) -> str | None:
    """Why a search of `steps` steps is refused, or None."""
    least = min(wanted, FEW)
    if steps >= least:
        return None
    return f"it needs {fixed + least * each} gradient queries at the least, and the budget is {budget}"


class WeightsSearch(InversionAttack):
    """Base of the searches in a prior with the weights: what they ask is something fixed and so much a step.

    Class variables:
        published: the kind of prior that the attack's paper uses: what "auto" stands for.
    """

    published: ClassVar[PriorName]

    if TYPE_CHECKING:
        # Fields of each attack, in its own order: the seed of a run is named by them.
        prior: PriorName
        steps: int

    @abstractmethod
    def _fixed(self, knowledge: InversionKnowledge) -> tuple[int, int]:
        """Queries beside the steps, and those of one step."""

    def cost(self, knowledge: InversionKnowledge, budget: int | None) -> int:
        fixed, each = self._fixed(knowledge)
        return fixed + each * steps_within(self.steps, budget, fixed, each)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if budget is not None and isinstance(knowledge, InversionKnowledge):
            fixed, each = self._fixed(knowledge)
            refused = too_few(steps_within(self.steps, budget, fixed, each), self.steps, fixed, each, budget)
            if refused:
                return refused
        return super().obstacle(knowledge, budget)

    def priors(self, knowledge: InversionKnowledge) -> tuple[str, ...]:
        return (kind_of(knowledge, self.prior, self.published),)


def candidates(
    prior: Prior, public: Float[Array, " m ..."] | None, drawn: int, limit: float, draws: torch.Generator
) -> Float[torch.Tensor, " p k"]:
    """Latents to choose starts from: those of public records (if given), then `drawn` draws of the prior."""
    made = (0.8 * torch.randn(drawn, prior.size, generator=draws)).clamp(-limit, limit)
    if public is None:
        return made
    return torch.cat([torch.from_numpy(prior.encode(public)).clamp(-limit, limit), made])


def screened(
    net: WhiteBox, decode: Decoder, pool: Float[torch.Tensor, " p k"], classes: torch.Tensor, count: int, seen: int = 1
) -> Float[torch.Tensor, " c s k"]:
    """For each class the `count` candidates the victim takes for it most readily, best first.

    Args:
        net: the victim.
        decode: the prior.
        pool: the candidates.
        classes: (c,) the classes.
        count: starts a class; where the pool is smaller, the mean record (a latent of zeros) fills up.
        seen: over how many of the four fixed views (flips and crops) the probability is averaged.
    """
    with torch.no_grad():
        logs = [_over_views(net, decode(part), seen)[:, classes] for part in pool.split(PASS)]
    count_had = min(count, len(pool))
    chosen = pool[torch.cat(logs).topk(count_had, dim=0).indices.T]
    blank = torch.zeros(len(classes), count - count_had, pool.shape[1])
    return torch.cat([chosen, blank], dim=1)


def _over_views(net: WhiteBox, x: torch.Tensor, seen: int) -> torch.Tensor:
    shown = views(x)[:seen]
    return torch.stack([net(view).log_softmax(dim=1) for view in shown]).logsumexp(dim=0)


def views_of(knowledge: InversionKnowledge, wanted: int) -> int:
    """How many views a record of this kind has, at most `wanted`."""
    return wanted if len(knowledge.spec.shape) == 3 else 1


def decoded(decode: Callable[[torch.Tensor], torch.Tensor], z: Float[torch.Tensor, " n ..."]) -> torch.Tensor:
    """What `decode` makes of many rows, without gradients and some at a time."""
    with torch.no_grad():
        return torch.cat([decode(part) for part in z.split(PASS)])


def sureness(
    net: WhiteBox,
    x: Float[torch.Tensor, " n ..."],
    wanted: Int[torch.Tensor, " n"],
    checks: int,
    draws: torch.Generator,
    amount: float,
) -> Float[Array, " n"]:
    """The victim's mean log-probability of each row's class over `checks` random moves by up to `amount`."""
    seen = torch.zeros(len(x))
    with torch.no_grad():
        for _ in range(checks):
            parts = zip(x.split(PASS), wanted.split(PASS), strict=True)
            logs = [
                net(jittered(part, draws, amount) if amount > 0 else part)
                .log_softmax(dim=1)
                .gather(1, classes[:, None])[:, 0]
                for part, classes in parts
            ]
            seen = seen + torch.cat(logs)
    return (seen / max(checks, 1)).numpy()


def surest(sure: Float[Array, " n"], starts: int, draws: int = 1) -> Int[Array, " c d"]:
    """For each class the rows of its `draws` surest starts, surest first; rows lie class by class."""
    rows = np.argsort(-sure.reshape(-1, starts), axis=1, kind="stable")[:, :draws]
    return rows + np.arange(len(rows))[:, None] * starts


class Frames:
    """What a search held on its way: the best start of every class, at about eight moments of it.

    Args:
        steps: how long the search is at the most.
        count: how many frames, the first start and the end among them.
        early: moments crowd at the start, for searches that mostly end long before `steps`.
    """

    def __init__(self, steps: int, count: int = FRAMES, early: bool = False):
        moments = np.geomspace(1, steps + 1, count) - 1 if early else np.linspace(0, steps, count)
        self._at = np.unique(np.round(moments).astype(np.int64))
        self._held: list[list[Array]] = [[] for _ in self._at]
        self._next = 0
        self._reached = 0
        self._taken = 0

    def begin(self) -> None:
        """A new block of classes starts its search."""
        self._next = 0

    def due(self, step: int) -> bool:
        """Whether a frame is wanted after `step` steps; the last one is not: the guess itself is it."""
        return self._next < len(self._at) - 1 and step >= int(self._at[self._next])

    def note(self, x: Float[Array, " c ..."]) -> None:
        """The records that the block's classes have now."""
        self._held[self._next].append(x)
        self._next += 1
        self._reached = max(self._reached, self._next)

    def end(self, taken: int) -> None:
        """The block's search is over after `taken` steps; moments that only others live to see show its last."""
        self._taken = max(self._taken, taken)
        for held in self._held[self._next : -1] if self._next else ():
            held.append(self._held[self._next - 1][-1])

    def arrays(self, final: Float[Array, " c ..."], order: Int[Array, " c"]) -> tuple[Array, Array]:
        """Frames (f, c, ...) with `final` as the last, the classes in `order`, and the steps taken at each (f,)."""
        shown = [np.concatenate(held)[order] for held in self._held[: self._reached]]
        at = np.concatenate([self._at[: self._reached], [self._taken]])
        return np.stack([*shown, final[order]]).astype(np.float32), at


@dataclass(frozen=True)
class Hunt:
    """A descent over latents, composed of parts.

    Attributes:
        decode: latents to records.
        identity: (records, classes) -> (n,) what the victim is asked for.
        penalty: (latents, records) -> (n,) what keeps the search near what is likely; None for nothing.
        optimiser: gives an optimiser for starts (n, k).
        steps: how many.
        draws: where the random moves come from.
        amount: greatest random move before each evaluation; 0 for none.
        cosine: whether the rate falls to a twentieth along half a cosine.
        patience: a row leaves the search when its cost has not fallen for so many steps, and gives the latents
            of least cost; None runs all steps and gives the last.
    """

    decode: Callable[[torch.Tensor], torch.Tensor]
    identity: Identity
    penalty: Penalty | None
    optimiser: Callable[[torch.Tensor], Optimiser]
    steps: int
    draws: torch.Generator
    amount: float = 0.0
    cosine: bool = False
    patience: int | None = None

    def run(
        self, starts: Float[torch.Tensor, " c s ..."], classes: Int[torch.Tensor, " c"], frames: Frames, size: int
    ) -> Float[torch.Tensor, " c s ..."]:
        """Latents after the search, in blocks of whole classes.

        Args:
            starts: latents (or whatever `decode` takes), `s` starts for every class.
            classes: the class each row of starts goes for.
            frames: takes what the search holds on its way.
            size: values in a record, by which blocks are cut.
        """
        each = max(BLOCK // max(starts.shape[1] * size, 1), 1)
        found = [self._block(part, c, frames) for part, c in zip(starts.split(each), classes.split(each), strict=True)]
        return torch.cat(found)

    def _block(self, starts: torch.Tensor, classes: torch.Tensor, frames: Frames) -> torch.Tensor:
        count = starts.shape[1]
        z = starts.reshape(-1, *starts.shape[2:]).clone()
        wanted = classes.repeat_interleave(count)
        optimiser = self.optimiser(z)
        least, since, best = torch.full((len(z),), torch.inf), torch.zeros(len(z)), z.clone()
        seed = torch.Generator()
        latest = torch.zeros(len(z))

        def ask(now: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            x = self.decode(now)
            # The same moves at every evaluation of one step, for line searches.
            shown = jittered(x, seed.manual_seed(at), self.amount) if self.amount > 0 else x
            cost = self.identity(shown, wanted[rows])
            if self.penalty is not None:
                cost = cost + self.penalty(now, x)
            held = cost.detach()
            latest[rows] = held
            better = held < least[rows]
            kept = rows[better]
            least[kept], since[kept], best[kept] = held[better], -1.0, now.detach()[better]
            return cost

        frames.begin()
        live, taken = torch.arange(len(z)), 0
        for step in range(self.steps):
            if frames.due(step):
                frames.note(self._leaders(z, latest, count))
            at = int(torch.randint(2**62, (1,), generator=self.draws))
            z[live] = optimiser.step(z[live], live, ask, self._scale(step))
            since[live] += 1
            taken = step + 1
            if self.patience is not None:
                live = live[since[live] < self.patience]
                if not len(live):
                    break
        frames.end(taken)
        return (z if self.patience is None else best).reshape(starts.shape)

    def _scale(self, step: int) -> float:
        if not self.cosine:
            return 1.0
        return 0.05 + 0.95 * (1 + float(np.cos(np.pi * step / self.steps))) / 2

    def _leaders(self, z: torch.Tensor, cost: torch.Tensor, count: int) -> Array:
        """The records of each class's start of least cost."""
        rows = cost.reshape(-1, count).argmin(dim=1) + torch.arange(len(z) // count) * count
        with torch.no_grad():
            return self.decode(z[rows]).numpy()


def latent_norm(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """|z|^2 of each row: twice the negative log-density of a latent, but for a constant; (n,)."""
    return (z**2).flatten(1).sum(dim=1)


def realism(prior: Prior, decode: Decoder) -> tuple[Penalty, bool]:
    """What an adversary's critic says against a record: -critic(x), and whether the prior has a critic.

    Without one the latent's negative log-density, |z|^2 / 2, stands in: it too is small for what the prior makes
    often, and says nothing of the record itself.
    """
    with torch.no_grad():
        has = decode.critic(decode(torch.zeros(1, prior.size))) is not None
    if not has:
        return lambda z, x: latent_norm(z, x) / 2, False

    def against(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        said = decode.critic(x)
        return torch.zeros(len(x)) if said is None else -said

    return against, True


def facts_of(prior: Prior) -> str:
    """One line for a guess's notes: which prior it was."""
    return f"prior: {prior.kind}, {prior.size} latents"


def unit_scale(knowledge: InversionKnowledge) -> Callable[[Any], Any]:
    """Torch records in the input's bounds to unit scale, differentiable."""
    low = torch.from_numpy(np.asarray(knowledge.spec.bounds.low))
    width = torch.from_numpy(np.asarray(knowledge.spec.bounds.width))
    return lambda x: (x - low) / width
