"""The contracts every defense must keep."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seepage.core.case import Training
from seepage.core.defense import AggregateDefense, Defense, OutputDefense, UpdateDefense
from seepage.core.errors import AccessDenied, ConfigError
from seepage.core.seeds import stream
from seepage.core.target import Target
from seepage.core.victim import LanguageModel, Model, Update, Updates, Victim
from seepage.core.vocabulary import Access, closure
from seepage.testing.cases import gradient_case, inversion_case
from seepage.testing.fingerprints import fingerprint, finite, global_generators, probe_of
from seepage.testing.plugins import check_card, check_configuration, demand

ANSWERS = frozenset({Access.LABELS, Access.TOP_K, Access.SCORES})


def _training() -> Training:
    training = inversion_case(0).training
    assert training is not None
    return training


def _round() -> Training:
    training = gradient_case(0).training
    assert training is not None
    return training


@dataclass(frozen=True)
class DefenseBench:
    """A defense class before a small victim.

    Attributes:
        cls: the defense.
        victim: gives what stands behind it, the same every time.
        training: gives a training for it to defend, the same every time.
        params: its parameters.
        docs_dir: the documentation folder, or None to leave it unchecked.
    """

    cls: type[Defense]
    victim: Callable[[], Victim]
    training: Callable[[], Training] = _training
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    docs_dir: Path | None = None

    @property
    def who(self) -> str:
        return self.cls.__name__

    def defense(self) -> Defense:
        return self.cls(**self.params)

    def stand(self, seed: int = 0) -> Victim:
        """The victim behind the defense: retrained by one that retrains, wrapped by any other."""
        defense = self.defense()
        if defense.retrains:
            return self.training().defended(defense).fit()[0]
        return defense.on_victim(self.victim(), stream(seed, "contracts"))

    def bare(self) -> Victim:
        """The victim without the defense."""
        return self.training().fit()[0] if self.cls.retrains else self.victim()


def card(bench: DefenseBench) -> None:
    """Name, title, citations with a year, docstring, parameters described, page in the docs."""
    check_card(bench.cls, None if bench.docs_dir is None else bench.docs_dir / "defenses.md")


def configuration(bench: DefenseBench) -> None:
    """JSON round trip, unknown parameters refused, frozen."""
    check_configuration(bench.cls, dict(bench.params))


def shape(bench: DefenseBench) -> None:
    """The victim behind it takes and gives what the victim did, and nothing that is not finite."""
    bare, behind = bench.bare(), bench.stand()
    demand(_kind(behind) == _kind(bare), f"{bench.who}: a {_kind(bare)} became a {_kind(behind)}")
    if isinstance(bare, Update) and isinstance(behind, Update):
        _same_form(bench, bare, behind)
    if isinstance(bare, Updates) and isinstance(behind, Updates):
        demand(behind.clients, f"{bench.who}: no update is left")
        for update in behind.clients:
            _same_form(bench, bare.clients[0], update)
    if isinstance(bare, Model) and isinstance(behind, Model):
        demand(behind.spec == bare.spec, f"{bench.who}: the defended victim takes another input")
        demand(behind.classes == bare.classes, f"{bench.who}: {bare.classes} classes became {behind.classes}")
        demand(behind.family == bare.family, f"{bench.who}: the family '{bare.family}' became '{behind.family}'")
        probe = probe_of(bare)
        assert probe is not None
        scores = behind.predict(probe)
        demand(scores.shape == (len(probe), bare.classes), f"{bench.who}: scores of shape {scores.shape}")
        demand(
            finite(scores) and scores.min() >= 0 and scores.max() <= 1 + 1e-6,
            f"{bench.who}: scores from 0 to 1 were wanted, got {scores.min():g} to {scores.max():g}",
        )


def _same_form(bench: DefenseBench, bare: Update, behind: Update) -> None:
    was = {name: (tensor.shape, tensor.dtype) for name, tensor in bare.tensors.items()}
    now = {name: (tensor.shape, tensor.dtype) for name, tensor in behind.tensors.items()}
    if bench.cls.extends:
        demand(was != now, f"{bench.who}: it says that it extends the model, and the tensors are the same")
        demand(bare.kind == behind.kind, f"{bench.who}: a {bare.kind} became a {behind.kind}")
    else:
        demand(was == now and bare.kind == behind.kind, f"{bench.who}: tensors {was} were wanted, got {now}")
    demand(finite(behind), f"{bench.who}: the update holds NaN or infinite values")


def determinism(bench: DefenseBench) -> None:
    """The same stream gives the same defended victim; no global randomness is used."""
    probe = probe_of(bench.bare())
    with global_generators(1) as drawn:
        one = bench.stand()
        told = fingerprint(one, probe)
    with global_generators(2):
        two = bench.stand()
    demand(not drawn, f"{bench.who} draws from the global generator of {', '.join(drawn)}; draw from `rng` alone")
    if bench.cls.slack and isinstance(one, Updates) and isinstance(two, Updates):
        apart, most = np.abs(_values(one) - _values(two)).max(), np.abs(_values(one)).max()
        demand(apart <= bench.cls.slack * most, f"{bench.who}: two runs lie {apart / most:g} apart, beyond `slack`")
        return
    demand(told == fingerprint(two, probe), f"{bench.who}: the same stream gave another defended victim")


def purity(bench: DefenseBench) -> None:
    """The victim behind it is left as it was."""
    victim = bench.bare()
    probe = probe_of(victim)
    before = fingerprint(victim, probe)
    defense = bench.defense()
    if not defense.retrains:
        behind = defense.on_victim(victim, stream(0, "contracts"))
        fingerprint(behind, probe)
    demand(fingerprint(victim, probe) == before, f"{bench.who} changes the victim it stands before; work on copies")


def hiding(bench: DefenseBench) -> None:
    """Behind an output defense there is nothing but what it leaves: no weights, logits or embeddings."""
    if not issubclass(bench.cls, OutputDefense):
        return
    bare, behind = bench.bare(), bench.stand()
    demand(bench.cls.leaves <= ANSWERS, f"{bench.who}: `leaves` names more than answers: {sorted(bench.cls.leaves)}")
    most = closure(bench.cls.leaves) & closure(bare.offers)
    demand(
        behind.offers <= most, f"{bench.who}: it leaves {sorted(most)} at the most, and offers {sorted(behind.offers)}"
    )
    for refused in sorted(closure(bare.offers) - most):
        try:
            Target(behind, {refused})
        except AccessDenied:
            continue
        demand(False, f"{bench.who}: {refused} can still be had behind it")
    for method in ("differentiable", "logits", "embeddings"):
        demand(not hasattr(behind, method), f"{bench.who}: the defended victim still has '{method}'")
    probe = probe_of(behind)
    if isinstance(behind, Model) and probe is not None and Access.TOP_K not in closure(behind.offers):
        scores = behind.predict(probe)
        demand(
            ((scores == 0) | (scores == 1)).all() and (scores.sum(axis=1) == 1).all(),
            f"{bench.who}: it offers labels alone, and its rows are not one-hot",
        )


def noise(bench: DefenseBench) -> None:
    """Noise on updates is as declared, and drawn anew for every client and every tensor."""
    defense = bench.defense()
    zeros = Update({"a": np.zeros((60, 100)), "b": np.zeros((60, 100))})
    declared = defense.noise(zeros.tensors["a"]) if isinstance(defense, UpdateDefense) else 0.0
    # What is rounded has no noise of its own where there is nothing to round.
    if declared == 0:
        return
    sent = defense.on_victim(Updates((zeros, zeros)), stream(0, "contracts"))
    assert isinstance(sent, Updates)
    drawn = np.stack([t.reshape(-1) for update in sent.clients for t in update.tensors.values()])
    alike = np.abs(np.corrcoef(drawn) - np.eye(len(drawn))).max()
    demand(alike < 0.1, f"{bench.who}: clients or tensors share noise (correlation {alike:.2f})")
    spread = drawn.std(axis=1) / declared
    demand(
        np.abs(spread - 1).max() < 0.1,
        f"{bench.who}: noise of deviation {declared:g} was declared, it is {spread * declared}",
    )


def sums(bench: DefenseBench) -> None:
    """Sums over clients: groups are equal, no client is in two, and each gives the mean of its clients."""
    defense, bare = bench.defense(), bench.bare()
    if not isinstance(defense, AggregateDefense) or not isinstance(bare, Updates):
        return
    groups = defense.groups(len(bare))
    members = [client for group in groups for client in group]
    demand(groups and len({len(group) for group in groups}) == 1, f"{bench.who}: groups of one size, got {groups}")
    demand(len(set(members)) == len(members), f"{bench.who}: a client is in two groups: {groups}")
    behind = bench.stand()
    assert isinstance(behind, Updates)
    demand(len(behind) == len(groups), f"{bench.who}: {len(groups)} groups and {len(behind)} updates")
    means = np.stack([_values(bare)[list(group)].mean(axis=0) for group in groups])
    apart = np.abs(_values(behind) - means).max() / np.abs(means).max()
    demand(apart < 1e-3, f"{bench.who}: an update is {apart:g} away from the mean of its group")


def recipe(bench: DefenseBench) -> None:
    """A defended recipe trains defended victims, reproducibly, under a name of its own."""
    if issubclass(bench.cls, UpdateDefense | AggregateDefense):
        return
    training, defense = bench.training(), bench.defense()
    defended = defense.on_recipe(training.recipe)
    demand(defended.name != training.recipe.name, f"{bench.who}: the defended recipe keeps the name of the bare one")
    one, two = defended.fit(training.members, 3), defended.fit(training.members, 3)
    probe = probe_of(one)
    demand(fingerprint(one, probe) == fingerprint(two, probe), f"{bench.who}: two fits with one seed differ")
    if isinstance(defense, OutputDefense):
        demand(one.offers <= closure(defense.leaves), f"{bench.who}: its recipe trains victims that offer more")
    elif defense.retrains:
        bare = training.recipe.fit(training.members, 3)
        demand(fingerprint(one, probe) != fingerprint(bare, probe), f"{bench.who}: its recipe trains the bare victim")


DEFENSE_CONTRACTS: Mapping[str, Callable[[DefenseBench], None]] = {
    contract.__name__: contract
    for contract in (card, configuration, shape, determinism, purity, hiding, noise, sums, recipe)
}


def check_defense(
    cls: type[Defense],
    params: Mapping[str, Any] | None = None,
    victim: Callable[[], Victim] | None = None,
    training: Callable[[], Training] | None = None,
    docs_dir: Path | None = None,
    only: Iterable[str] | None = None,
) -> None:
    """Hold a defense against every contract.

    Args:
        cls: the defense class.
        params: parameters to construct it with.
        victim: gives what stands behind it; by default a `TemplateVictim`, or a small gradient (several, for a
            defense that sums) for a defense of updates.
        training: gives a training whose recipe it defends; by default that of class means, or of a round of
            clients where the defense acts inside a client.
        docs_dir: folder whose `defenses.md` must mention its name; None leaves that unchecked.
        only: names out of `DEFENSE_CONTRACTS`; all by default.

    Raises:
        ContractBroken: with the first contract that does not hold.
    """
    given = victim or _victim_for(cls)
    bench = DefenseBench(cls, given, training or _training_for(cls(**(params or {}))), dict(params or {}), docs_dir)
    for name in DEFENSE_CONTRACTS if only is None else only:
        DEFENSE_CONTRACTS[name](bench)


def _kind(victim: Victim) -> str:
    if isinstance(victim, Model):
        return "model"
    if isinstance(victim, LanguageModel):
        return "language model"
    return "set of updates" if isinstance(victim, Updates) else "update"


def _victim_for(cls: type[Defense]) -> Callable[[], Victim]:
    if issubclass(cls, AggregateDefense):
        return lambda: Updates(tuple(_small_update(client) for client in range(4)))
    return _small_update if issubclass(cls, UpdateDefense) else lambda: inversion_case(0).victim


def _training_for(defense: Defense) -> Callable[[], Training]:
    """A small training whose trainer takes what the defense sets: of a model, or of a round of clients."""
    if not defense.retrains:
        return _training
    try:
        defense.on_recipe(_training().recipe)
    except ConfigError:
        return _round
    return _training


def _values(updates: Updates) -> np.ndarray:
    """(clients, values)"""
    return np.stack([np.concatenate([t.reshape(-1) for t in u.tensors.values()]) for u in updates.clients])


def _small_update(client: int = 0) -> Update:
    rng = stream(0, "testing", "update", client)
    return Update({"weight": rng.normal(size=(4, 9)), "bias": rng.normal(size=4)})
