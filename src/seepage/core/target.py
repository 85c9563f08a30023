"""A victim behind one access and one query budget. Every method charges the meter before it asks."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from seepage.core.errors import AccessDenied, BudgetExceeded, ConfigError, DataError
from seepage.core.spec import InputSpec
from seepage.core.victim import (
    Captured,
    GivesEmbeddings,
    GivesLogits,
    GivesWeights,
    LanguageModel,
    Model,
    Models,
    TextEncoder,
    Update,
    Updates,
    Victim,
)
from seepage.core.vocabulary import Access, closure

Array = np.ndarray


class Meter:
    """Counts queries (one record asked is one query) and refuses those beyond the budget.

    Charged before the victim is asked: a refused query costs nothing, one that crashes is counted.
    """

    def __init__(self, budget: int | None = None, on_charge: Callable[[int], None] | None = None):
        if budget is not None and budget < 0:
            raise ConfigError(f"a query budget is zero or more, got {budget}")
        self.budget = budget
        self._spent = 0
        self._by_access: dict[Access, int] = {}
        self._on_charge = on_charge

    @property
    def spent(self) -> int:
        return self._spent

    @property
    def remaining(self) -> int | None:
        """Queries left, or None without a budget."""
        return None if self.budget is None else self.budget - self._spent

    @property
    def by_access(self) -> dict[Access, int]:
        """Queries spent through each access."""
        return dict(self._by_access)

    def charge(self, n: int, access: Access) -> None:
        if self.budget is not None and self._spent + n > self.budget:
            raise BudgetExceeded(
                f"{n} more queries were asked with {self.budget - self._spent} left of {self.budget}; "
                "raise the budget, or give the attack less to do"
            )
        self._spent += n
        self._by_access[access] = self._by_access.get(access, 0) + n
        if self._on_charge is not None:
            self._on_charge(self._spent)


class WhiteBox:
    """A victim's network in the adversary's hands: differentiable, its forward passes counted.

    Calling it maps a torch tensor of records (n, *shape), in the input's bounds, to logits
    (n, classes), with preprocessing inside, so that gradients reach the record itself. A pass of n
    records through any of its layers by hand is counted as n queries too.
    """

    def __init__(self, module: Any, charge: Callable[[int], None]):
        self._module = module
        self._charge = charge
        self._depth = 0
        for layer in module.modules():
            layer.register_forward_pre_hook(self._enter)
            layer.register_forward_hook(self._leave, always_call=True)

    def __call__(self, x: Any) -> Any:
        return self._module(x)

    def _enter(self, _: Any, arguments: tuple[Any, ...]) -> None:
        # Layers inside a pass that is counted already cost nothing more.
        if self._depth == 0:
            self._charge(int(arguments[0].shape[0]))
        self._depth += 1

    def _leave(self, *_: Any) -> None:
        self._depth = max(self._depth - 1, 0)

    def features(self, x: Any) -> tuple[Any, Any]:
        """Penultimate features (n, d) and logits (n, classes) of records (n, *shape), from one counted pass.

        Raises:
            AccessDenied: when the network has no such layer.
        """
        if not hasattr(self._module, "features"):
            raise AccessDenied("this victim's network gives no penultimate features")
        return self._module.features(x)

    def parameters(self) -> dict[str, Any]:
        """The weights by name."""
        return dict(self._module.named_parameters())

    @property
    def layers(self) -> dict[str, Any]:
        """Submodules by name, for attacks that read the structure (an autoencoder's decoder, say).

        Passes through them are counted like passes through the whole.
        """
        return {name: layer for name, layer in self._module.named_modules() if name}


def _possible(victim: Victim) -> frozenset[Access]:
    """The accesses that such a kind of victim has the methods for, whatever it says it offers."""
    if isinstance(victim, Models):
        return frozenset(Access).intersection(*(_possible(model) for model in victim.models))
    if isinstance(victim, Updates):
        return closure({Access.UPDATES} if victim.asked is None else {Access.ROUNDS})
    if isinstance(victim, Update):
        return frozenset({Access.UPDATES})
    can: set[Access] = set()
    if isinstance(victim, Model):
        can |= {Access.LABELS, Access.TOP_K, Access.SCORES}
        can |= {Access.LOGITS} if isinstance(victim, GivesLogits) else set[Access]()
        can |= {Access.EMBEDDINGS} if isinstance(victim, GivesEmbeddings) else set[Access]()
        can |= {Access.WEIGHTS} if isinstance(victim, GivesWeights) else set[Access]()
    if isinstance(victim, LanguageModel):
        can |= {Access.TEXT, Access.TOKEN_LOGPROBS}
    if isinstance(victim, TextEncoder):
        can |= {Access.EMBEDDINGS}
    return frozenset(can)


class Target:
    """What an attack holds instead of the victim.

    The victim itself is kept in closures, not in an attribute: an attack can only ask what
    `access` opens, and everything it asks is counted.

    Args:
        victim: what stands behind.
        access: the accesses opened; what follows from them is opened too.
        budget: the greatest number of queries, or None for no limit.
        on_charge: called with the number of queries spent, after every charge (for progress).
        captured: (n, ...) private records, or n texts, whose answers fell into the adversary's hands: it sees
            what the victim said of them (`captured_scores`, `captured_embeddings`), never the records.
        most: how many classes an adversary sees who is opened the top k and not all scores; None for as many
            as the victim gives.

    Raises:
        AccessDenied: on construction when the victim cannot give `access`; on use when the access
            is not opened.
        BudgetExceeded: on use, before the victim is asked.
    """

    def __init__(
        self,
        victim: Victim,
        access: Iterable[Access],
        budget: int | None = None,
        on_charge: Callable[[int], None] | None = None,
        captured: Captured | None = None,
        most: int | None = None,
    ):
        wanted = frozenset(access)
        offered = closure(victim.offers) & _possible(victim)
        if not wanted <= offered:
            missing = ", ".join(sorted(wanted - offered))
            raise AccessDenied(
                f"the victim offers {', '.join(sorted(victim.offers))}; "
                f"an attack that needs {missing} cannot be run on it"
            )
        self.access = closure(wanted) & offered
        self.meter = Meter(budget, on_charge)
        self._most = most if Access.SCORES not in self.access else None
        self._rounds = 0
        self._kept: dict[str, Array] = {}
        self._ask: dict[str, Callable[..., Any]] = {}
        self.spec: InputSpec | None = None
        self.classes: int | None = None
        self.clients: int | None = None
        self.models: int | None = None
        self._apart: dict[int, Target] = {}
        # Lambdas, not bound methods: a bound method carries the victim in its __self__.
        if isinstance(victim, Updates):
            self.clients = len(victim)
            self._ask["update"] = lambda client: victim.clients[client]
            asked = victim.asked
            if asked is not None:
                self._ask["round"] = lambda net, turn: asked(net, turn)
        elif isinstance(victim, Update):
            self.clients = 1
            self._ask["update"] = lambda client: (victim,)[client]
        elif isinstance(victim, Models):
            self.models = len(victim)
            self._ask["model"] = lambda number: victim.models[number]
        elif isinstance(victim, Model):
            self.spec, self.classes = victim.spec, victim.classes
            self._ask["predict"] = lambda x: victim.predict(x)
            if isinstance(captured, np.ndarray):
                self._ask["captured scores"] = lambda: victim.predict(captured)
            if isinstance(captured, np.ndarray) and isinstance(victim, GivesEmbeddings):
                self._ask["captured embeddings"] = lambda: victim.embeddings(captured)
            if isinstance(victim, GivesLogits):
                self._ask["logits"] = lambda x: victim.logits(x)
            if isinstance(victim, GivesEmbeddings):
                self._ask["embeddings"] = lambda x: victim.embeddings(x)
            if isinstance(victim, GivesWeights):
                self._ask["weights"] = lambda: victim.differentiable()
        if isinstance(victim, TextEncoder):
            self._ask["embed"] = lambda texts: victim.embed(texts)
            if isinstance(captured, tuple):
                self._ask["captured embeddings"] = lambda: victim.embed(captured)
        if isinstance(victim, LanguageModel):
            self._ask["generate"] = lambda prompts, length, rng: victim.generate(prompts, length, rng)
            self._ask["logprobs"] = lambda texts: victim.logprobs(texts)

    @property
    def queries(self) -> int:
        """Queries spent so far."""
        return self.meter.spent

    @property
    def budget(self) -> int | None:
        return self.meter.budget

    @property
    def remaining(self) -> int | None:
        """Queries left, or None without a budget."""
        return self.meter.remaining

    def _open(self, access: Access, how: str) -> Callable[..., Any]:
        if access not in self.access:
            raise AccessDenied(
                f"this attack was given {', '.join(sorted(self.access)) or 'no access'} and asked for {access}; "
                f"declare it in the attack's needs, and grant it to the audit"
            )
        if how not in self._ask:
            raise AccessDenied(f"the victim cannot give {access}")
        return self._ask[how]

    def _records(self, x: Array) -> Array:
        if self.spec is None:
            raise DataError("this victim takes no records")
        return self.spec.check(x, "queries")

    def scores(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """One score a class for every record; each row sums to one."""
        ask = self._open(Access.SCORES, "predict")
        x = self._records(x)
        self.meter.charge(len(x), Access.SCORES)
        return ask(x)

    def labels(self, x: Float[Array, " n ..."]) -> Int[Array, " n"]:
        """The predicted class of every record."""
        ask = self._open(Access.LABELS, "predict")
        x = self._records(x)
        self.meter.charge(len(x), Access.LABELS)
        return ask(x).argmax(axis=1)

    def top_k(self, x: Float[Array, " n ..."], k: int) -> tuple[Int[Array, " n k"], Float[Array, " n k"]]:
        """The k likeliest classes of every record and their scores, likeliest first; no more than are to be seen."""
        ask = self._open(Access.TOP_K, "predict")
        x = self._records(x)
        self.meter.charge(len(x), Access.TOP_K)
        scores = ask(x)
        order = np.argsort(-scores, axis=1, kind="stable")[:, : k if self._most is None else min(k, self._most)]
        return order, np.take_along_axis(scores, order, axis=1)

    def answers(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """The scores as far as they are opened: all of them, or the likeliest few and 0 for the others."""
        if Access.SCORES in self.access:
            return self.scores(x)
        return self._cut(lambda: self.top_k(x, self.classes or 1))

    def _cut(self, ask: Callable[[], tuple[Array, Array]]) -> Array:
        order, values = ask()
        rows = np.zeros((len(order), self.classes or 1), dtype=values.dtype)
        np.put_along_axis(rows, order, values, axis=1)
        return rows

    def logits(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """Unnormalised outputs, one a class, any real value."""
        ask = self._open(Access.LOGITS, "logits")
        x = self._records(x)
        self.meter.charge(len(x), Access.LOGITS)
        return ask(x)

    def embeddings(self, x: Float[Array, " n ..."]) -> Float[Array, " n d"]:
        """Penultimate features, any real value."""
        ask = self._open(Access.EMBEDDINGS, "embeddings")
        x = self._records(x)
        self.meter.charge(len(x), Access.EMBEDDINGS)
        return ask(x)

    def embed(self, texts: Sequence[str]) -> Float[Array, " n d"]:
        """The vectors that an encoder of texts answers, any real value. One query a text."""
        ask = self._open(Access.EMBEDDINGS, "embed")
        self.meter.charge(len(texts), Access.EMBEDDINGS)
        return ask(list(texts))

    def captured_scores(self) -> Float[Array, " n c"]:
        """The victim's scores of private records, as captured: they cost the adversary no query."""
        return self._captured(Access.SCORES, "captured scores")

    def captured_answers(self) -> Float[Array, " n c"]:
        """The victim's scores of private records as far as they are opened: see `answers`."""
        if Access.SCORES in self.access:
            return self.captured_scores()
        scores = self._captured(Access.TOP_K, "captured scores")
        kept = np.argsort(-scores, axis=1, kind="stable")[:, : self._most]
        return self._cut(lambda: (kept, np.take_along_axis(scores, kept, axis=1)))

    def captured_embeddings(self) -> Float[Array, " n d"]:
        """The victim's features of private records (or texts), as captured: they cost the adversary no query."""
        return self._captured(Access.EMBEDDINGS, "captured embeddings")

    def _captured(self, access: Access, what: str) -> Array:
        """An answer was captured once: asking again would average a defense's noise away."""
        ask = self._open(access, what)
        if what not in self._kept:
            self._kept[what] = ask()
        return self._kept[what].copy()

    def weights(self) -> WhiteBox:
        """The victim's network: differentiable, each record passed through it counted as a query."""
        ask = self._open(Access.WEIGHTS, "weights")
        return WhiteBox(ask(), lambda n: self.meter.charge(n, Access.WEIGHTS))

    def generate(self, prompts: Sequence[str], length: int, rng: np.random.Generator | None = None) -> list[str]:
        """`length` further tokens for each prompt, greedy or, with `rng`, sampled. One query a prompt."""
        ask = self._open(Access.TEXT, "generate")
        self.meter.charge(len(prompts), Access.TEXT)
        return ask(prompts, length, rng)

    def logprobs(self, texts: Sequence[str]) -> list[Float[Array, " t"]]:
        """The natural log-probability of every token of each text. One query a text."""
        ask = self._open(Access.TOKEN_LOGPROBS, "logprobs")
        self.meter.charge(len(texts), Access.TOKEN_LOGPROBS)
        return ask(texts)

    def model(self, number: int) -> "Target":
        """One of the `models` behind the same access, with the whole budget for itself.

        An adversary meets one of them, and the others are there for an interval: what was spent on the one that was
        asked most is what an attack has spent.

        Raises:
            DataError: where there is no such model.
        """
        if self.models is None or not 0 <= number < self.models:
            raise DataError(f"a model from 0 to {(self.models or 0) - 1} was wanted, got {number}")
        if number not in self._apart:

            def spent(queries: int) -> None:
                more = queries - self.meter.spent
                for access, asked in one.meter.by_access.items():
                    part = min(asked - self.meter.by_access.get(access, 0), more)
                    if part > 0:
                        self.meter.charge(part, access)
                        more -= part

            one = Target(self._ask["model"](number), self.access, self.budget, spent, most=self._most)
            self._apart[number] = one
        return self._apart[number]

    def update(self, client: int = 0) -> Update:
        """The update that one of the `clients` sent. Counted as one query."""
        ask = self._open(Access.UPDATES, "update")
        if self.clients is None or not 0 <= client < self.clients:
            raise DataError(f"clients are numbered 0 to {(self.clients or 0) - 1}, got {client}")
        self.meter.charge(1, Access.UPDATES)
        return ask(client)

    def round(self, net: Any) -> tuple[Update, ...]:
        """The updates that all clients send for a model of the adversary's own. One query a client.

        Args:
            net: the model (`seepage.models.federated.ClientNet`).
        """
        ask = self._open(Access.ROUNDS, "round")
        self.meter.charge(self.clients or 1, Access.ROUNDS)
        self._rounds += 1
        return ask(net, self._rounds).clients
