"""The contracts every attack, scorer and defense must keep, as functions to call from a plugin's own tests.

    from seepage.testing.contracts import check_attack
    def test_contracts():
        check_attack(MyAttack, params={"steps": 20})

Each contract is also an entry of `ATTACK_CONTRACTS` or `DEFENSE_CONTRACTS`, so that a test can be
parametrised by it (`only=`). What is broken raises `ContractBroken` with what was wanted and what to do.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seepage.core.attack import Attack
from seepage.core.case import Case
from seepage.core.errors import AccessDenied, BudgetExceeded, ConfigError, SeepageError
from seepage.core.guess import Guess, Posterior, Reconstruction, Scores, Surrogate, Texts
from seepage.core.knowledge import (
    AttributeKnowledge,
    ExtractionKnowledge,
    GradientKnowledge,
    InversionKnowledge,
    MembershipKnowledge,
    PropertyKnowledge,
    TextGradientKnowledge,
    TextInversionKnowledge,
)
from seepage.core.secrets import MembershipSecret
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import LanguageModel, Victim
from seepage.core.vocabulary import Access, Leak, Task, closure
from seepage.testing.cases import CaseFactory, case_for
from seepage.testing.defense_contracts import DEFENSE_CONTRACTS as DEFENSE_CONTRACTS
from seepage.testing.defense_contracts import check_defense as check_defense
from seepage.testing.fingerprints import fingerprint, finite, global_generators, probe_of, reached
from seepage.testing.plugins import ContractBroken as ContractBroken
from seepage.testing.plugins import check_card, check_configuration, demand
from seepage.testing.recording import Recording, recording
from seepage.testing.scorer_contracts import check_scorer as check_scorer
from seepage.testing.tasks import retold

Array = np.ndarray

# What a guess is, by leak; of a form of a leak that guesses something else, by both.
GUESS_OF_FORM: Mapping[tuple[Leak, str], type[Guess]] = {
    (Leak.INVERSION, "text"): Texts,
    (Leak.GRADIENT, "labels"): Posterior,
    (Leak.GRADIENT, "text"): Texts,
}
GUESS_OF: Mapping[Leak, type[Guess]] = {
    Leak.INVERSION: Reconstruction,
    Leak.GRADIENT: Reconstruction,
    Leak.MEMBERSHIP: Scores,
    Leak.ATTRIBUTE: Posterior,
    Leak.EXTRACTION: Texts,
    Leak.STEALING: Surrogate,
}


@dataclass(frozen=True)
class Played:
    """One run of an attack: its guess, the target it held, and what the victim was really asked."""

    guess: Guess
    target: Target
    watched: Recording | None
    attack: Attack
    case: Case


@dataclass(frozen=True)
class AttackBench:
    """An attack class on a small case, ready to be played.

    Attributes:
        cls: the attack.
        factory: gives the case from a seed.
        params: parameters of the attack; small ones keep the contracts fast.
        docs_dir: the documentation folder, or None to leave it unchecked.
    """

    cls: type[Attack]
    factory: CaseFactory
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    docs_dir: Path | None = None

    @property
    def who(self) -> str:
        return self.cls.__name__

    def attack(self) -> Attack:
        return self.cls(**self.params)

    def play(
        self,
        attack: Attack | None = None,
        access: Iterable[Access] | None = None,
        budget: int | None = None,
        seed: int = 0,
        case: Case | None = None,
    ) -> Played:
        """Run the attack (a new one by default) on a target that opens what it declares, and no more."""
        attack = attack or self.attack()
        case = case or self.factory(seed)
        watched = recording(case.victim, case.captured)
        opened = self.cls.needs if access is None else access
        target = Target(watched or case.victim, opened, budget, captured=case.captured)
        guess = attack.run(target, case.knowledge, stream(seed, "contracts"))
        return Played(guess, target, watched, attack, case)

    @cached_property
    def first(self) -> Played:
        """The attack played once, with no budget."""
        attack, case = self.attack(), self.factory(0)
        obstacle = attack.obstacle(case.knowledge, None)
        if obstacle:
            raise ConfigError(f"{self.who} cannot be played on the case it is checked with: {obstacle}; give another")
        return self.play(attack, case=case)


def card(bench: AttackBench) -> None:
    """Name, title, leak, needs, citations with a year, docstring, parameters described, page in the docs."""
    cls = bench.cls
    leak = getattr(cls, "leak", None)
    demand(isinstance(leak, Leak), f"{bench.who}: a Leak was wanted in `leak`, got {leak!r}")
    needs = getattr(cls, "needs", None)
    demand(
        isinstance(needs, frozenset) and needs and all(isinstance(a, Access) for a in needs),
        f"{bench.who}: a non-empty frozenset of Access was wanted in `needs`, got {needs!r}",
    )
    demand(cls.modalities, f"{bench.who}: `modalities` is empty: it would never be run")
    page = None if bench.docs_dir is None else bench.docs_dir / "leaks" / f"{cls.leak}.md"
    check_card(cls, page)


def configuration(bench: AttackBench) -> None:
    """JSON round trip, unknown parameters refused, frozen."""
    check_configuration(bench.cls, dict(bench.params))


def determinism(bench: AttackBench) -> None:
    """The same stream gives the same guess, whatever was attacked before; no global randomness is used."""
    first = bench.first
    probe = probe_of(first.case.victim)
    wanted = fingerprint(first.guess, probe)
    attack = bench.attack()
    with global_generators(1) as drawn:
        again = bench.play(attack)
    demand(not drawn, f"{bench.who} draws from the global generator of {', '.join(drawn)}; draw from `rng` alone")
    demand(fingerprint(again.guess, probe) == wanted, f"{bench.who}: the same stream gave another guess")
    bench.play(attack, seed=1)
    with global_generators(2):
        third = bench.play(attack)
    demand(
        fingerprint(third.guess, probe) == wanted,
        f"{bench.who}: its guess depends on what it attacked before; keep no state between runs",
    )


def access(bench: AttackBench) -> None:
    """It runs on what it declares, asks for nothing else, and declares nothing it can do without."""
    needs = bench.cls.needs
    try:
        played = bench.first
    except AccessDenied as error:
        raise ContractBroken(
            f"{bench.who} declares {', '.join(sorted(needs))} and asks for more: {error}; add it to `needs`"
        ) from error
    for one in sorted(needs):
        less = frozenset(a for a in played.target.access if one not in closure({a}))
        if played.attack.opens(less) <= less:
            # It says that it can do with less: then it must.
            bench.play(access=played.attack.opens(less), case=played.case)
            continue
        try:
            bench.play(access=less, case=played.case)
        except AccessDenied:
            continue
        except SeepageError as error:
            raise ContractBroken(f"{bench.who} without {one}: AccessDenied was wanted, got {error!r}") from error
        raise ContractBroken(f"{bench.who} declares {one} in `needs` and runs without it; declare what it uses")


def meter(bench: AttackBench) -> None:
    """Everything the victim is asked goes through the meter."""
    played = bench.first
    if played.watched is not None:
        demand(
            played.watched.total == played.target.queries,
            f"{bench.who}: the victim was asked {played.watched.total} times and the meter says "
            f"{played.target.queries}; ask through the target alone",
        )


def budget(bench: AttackBench) -> None:
    """It keeps within any budget or says beforehand that it cannot; `cost` is an upper bound."""
    played = bench.first
    attack, knowledge, spent = bench.attack(), played.case.knowledge, played.target.queries
    demand(spent > 0, f"{bench.who} asks the victim nothing: that is a control, not an attack")
    most = attack.cost(knowledge, None)
    demand(most >= spent, f"{bench.who}: cost() said {most} queries at the most, and {spent} were asked")
    for limit in sorted({0, 1, spent // 3, spent // 2, spent - 1, spent, most}):
        obstacle = attack.obstacle(knowledge, limit)
        if obstacle is not None:
            demand(obstacle.strip(), f"{bench.who}: obstacle() with a budget of {limit} is an empty message")
            demand(limit < most, f"{bench.who}: cost() says {most} queries, and a budget of as many is refused")
            continue
        bound = attack.cost(knowledge, limit)
        demand(bound <= limit, f"{bench.who}: cost() says {bound} within a budget of {limit}, and no obstacle")
        try:
            asked = bench.play(budget=limit, case=played.case).target.queries
        except BudgetExceeded as error:
            raise ContractBroken(
                f"{bench.who} breaks a budget of {limit} queries it had no obstacle to; ask less, or say so"
            ) from error
        demand(asked <= bound, f"{bench.who}: cost() said {bound} queries with a budget of {limit}, {asked} were asked")


def guess(bench: AttackBench) -> None:
    """The guess has the type, the shape and the range of its leak, and covers what was asked."""
    played = bench.first
    made, knowledge = played.guess, played.case.knowledge
    wanted = GUESS_OF_FORM.get((bench.cls.leak, bench.cls.form), GUESS_OF[bench.cls.leak])
    demand(isinstance(made, wanted), f"{bench.who}: a {wanted.__name__} was wanted, got a {type(made).__name__}")
    demand(finite(made), f"{bench.who}: the guess holds NaN or infinite values")
    if isinstance(made, Scores) and isinstance(knowledge, MembershipKnowledge):
        n = len(knowledge.candidates)
        demand(made.values.shape == (n,), f"{bench.who}: {n} scores were wanted, got {made.values.shape}")
    if isinstance(made, Scores) and isinstance(knowledge, PropertyKnowledge):
        _shares(bench, made, knowledge.models)
    if isinstance(made, Posterior) and isinstance(knowledge, AttributeKnowledge | GradientKnowledge):
        if isinstance(knowledge, AttributeKnowledge):
            shape = (len(knowledge.partial), len(knowledge.values))
        else:
            shape = (knowledge.clients, knowledge.classes)
        demand(made.values.shape == shape, f"{bench.who}: shape {shape} was wanted, got {made.values.shape}")
        sums = made.values.sum(axis=1)
        demand(
            (made.values >= 0).all() and np.allclose(sums, 1, atol=1e-5),
            f"{bench.who}: each row should be a distribution, got sums from {sums.min():g} to {sums.max():g}",
        )
    if isinstance(made, Reconstruction):
        _reconstruction(bench, made, played)
    if isinstance(made, Texts) and isinstance(knowledge, ExtractionKnowledge):
        n = len(knowledge.prompts)
        demand(
            len(made.values) == n and all(made.values),
            f"{bench.who}: a text or more for each of {n} prompts was wanted",
        )
    if isinstance(made, Texts) and isinstance(knowledge, TextInversionKnowledge):
        n, got = knowledge.captured, len(made.values)
        demand(got == n, f"{bench.who}: texts for each of {n} captured vectors were wanted, got {got}")
    if isinstance(made, Texts) and isinstance(knowledge, TextGradientKnowledge):
        n, got = knowledge.clients, len(made.values)
        demand(got == n, f"{bench.who}: texts for each of {n} clients were wanted, got {got}")
    if isinstance(made, Surrogate):
        spec, classes = played.target.spec, played.target.classes
        demand(
            spec is not None and made.model.spec.shape == spec.shape and made.model.classes == classes,
            f"{bench.who}: the copy should take and give what the victim does",
        )


def _shares(bench: AttackBench, made: Scores, n: int) -> None:
    demand(made.values.shape == (n,), f"{bench.who}: a score for each of {n} models was wanted, {made.values.shape}")
    rows = made.trace.get("shares")
    demand(
        rows is not None and rows.shape == (n, 3), f"{bench.who}: a share with its ends is wanted in trace['shares']"
    )
    assert rows is not None
    demand(
        rows.min() >= 0 and rows.max() <= 1 and (np.diff(rows[:, [1, 0, 2]], axis=1) >= 0).all(),
        f"{bench.who}: shares lie in [0, 1] and between the ends of their interval",
    )


def _reconstruction(bench: AttackBench, made: Reconstruction, played: Played) -> None:
    knowledge = played.case.knowledge
    spec: InputSpec | None = getattr(knowledge, "spec", None)
    if spec is not None:
        demand(
            made.x.shape[1:] == spec.shape, f"{bench.who}: records of {spec.shape} were wanted, got {made.x.shape[1:]}"
        )
        demand(
            spec.bounds.contain(made.x),
            f"{bench.who}: records within [{spec.bounds.low.min():g}, {spec.bounds.high.max():g}] were wanted, "
            f"got [{made.x.min():g}, {made.x.max():g}]",
        )
    for name in ("labels", "confidence", "client"):
        along = getattr(made, name)
        demand(along is None or len(along) == len(made.x), f"{bench.who}: `{name}` should have one entry a record")
    if isinstance(knowledge, InversionKnowledge) and bench.cls.form == "record":
        demand(
            len(made.x) == knowledge.captured,
            f"{bench.who}: one record for each of {knowledge.captured} captured answers was wanted, got {len(made.x)}",
        )
    elif isinstance(knowledge, InversionKnowledge):
        asked = set(knowledge.classes.tolist())
        got = set() if made.labels is None else set(made.labels.tolist())
        demand(got == asked, f"{bench.who}: classes {sorted(asked)} were asked for, got {sorted(got)}")


def tasks(bench: AttackBench) -> None:
    """What it says of victims of numbers and labels holds: it plays on them, and finds what it finds of classes."""
    told = sorted(bench.cls.tasks - {Task.CLASSES})
    demand(not told or bench.cls.leak is Leak.MEMBERSHIP, f"{bench.who}: only membership is audited of {told}")
    for task in told:
        case = retold(bench.factory(0), Task(task))
        obstacle = bench.attack().obstacle(case.knowledge, None)
        demand(obstacle is None, f"{bench.who} says that it works on {task}, and cannot run there: {obstacle}")
        made = bench.play(case=case).guess
        values = made.values if isinstance(made, Scores) else np.full(1, np.nan)
        demand(bool(np.isfinite(values).all()), f"{bench.who}: its scores of {task} are not finite, or no scores")
        secret = case.secret
        if isinstance(secret, MembershipSecret):
            pos, neg = values[secret.is_member], values[~secret.is_member]
            higher = float((pos[:, None] > neg).mean() + (pos[:, None] == neg).mean() / 2)
            demand(
                higher > 0.5,
                f"{bench.who}: of {task} members should score above others, as they do of classes (AUC {higher:.2f})",
            )


def purity(bench: AttackBench) -> None:
    """It changes neither what it was told, nor the victim, nor itself."""
    case, attack = bench.factory(0), bench.attack()
    probe = probe_of(case.victim)
    before = (fingerprint(case.knowledge, probe), _answers(case.victim, probe), attack.model_dump_json())
    bench.play(attack, case=case)
    after = (fingerprint(case.knowledge, probe), _answers(case.victim, probe), attack.model_dump_json())
    for what, was, now in zip(("the knowledge", "the victim", "its own parameters"), before, after, strict=True):
        demand(was == now, f"{bench.who} changes {what}; work on copies")


def blindness(bench: AttackBench) -> None:
    """Neither victim nor secret can be reached from the attack, its target or its guess."""
    played = bench.first
    hidden: list[Any] = [played.case, played.case.secret, played.case.victim, played.watched, played.case.captured]
    hidden = [thing for thing in hidden if thing is not None]
    for root in (played.attack, played.target, played.guess, played.case.knowledge):
        path = reached(root, hidden)
        demand(path is None, f"{bench.who}: the victim or the secret can be reached by {path}")


ATTACK_CONTRACTS: Mapping[str, Callable[[AttackBench], None]] = {
    contract.__name__: contract
    for contract in (card, configuration, determinism, access, meter, budget, guess, tasks, purity, blindness)
}


def check_attack(
    cls: type[Attack],
    case: CaseFactory | None = None,
    params: Mapping[str, Any] | None = None,
    docs_dir: Path | None = None,
    only: Iterable[str] | None = None,
) -> None:
    """Hold an attack against every contract. It is played about fifteen times: choose small `params`.

    Args:
        cls: the attack class.
        case: gives a small case from a seed, the same one every time; by default one of `seepage.testing.cases`.
        params: parameters to construct it with.
        docs_dir: folder whose `leaks/<leak>.md` must mention the attack's name; None leaves that unchecked.
        only: names out of `ATTACK_CONTRACTS`; all by default.

    Raises:
        ContractBroken: with the first contract that does not hold.
        ConfigError: when there is no small case of its leak and none was given, or it cannot be played on it.
    """
    bench = AttackBench(cls, case or case_for(cls), dict(params or {}), docs_dir)
    for name in ATTACK_CONTRACTS if only is None else only:
        ATTACK_CONTRACTS[name](bench)


def _answers(victim: Victim, probe: Array | None) -> str:
    """What the victim answers, and what a captured update holds, as a digest."""
    if isinstance(victim, LanguageModel):
        return fingerprint(victim.generate(["a"], 8), None)
    return fingerprint(victim, probe)
