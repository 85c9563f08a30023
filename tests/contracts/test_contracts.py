"""The contracts let sound plugins pass, and catch every fault planted here by the right contract."""

import os
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from plain_attacks import Ascent, Loss, Search
from plain_defenses import Blur, Blurred, Halve, LabelsOnly, NoisyUpdate, OneHot, Wide
from pydantic import ConfigDict

from seepage.core.attack import Attack
from seepage.core.case import Case
from seepage.core.defense import Defense
from seepage.core.errors import AccessDenied, ConfigError
from seepage.core.guess import Guess, Reconstruction, Scores
from seepage.core.knowledge import Knowledge, MembershipKnowledge
from seepage.core.recipe import Recipe
from seepage.core.record import Estimate
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import Secret
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Leak, Task
from seepage.scoring import inversion, membership
from seepage.testing.cases import case_for, inversion_case, membership_case
from seepage.testing.contracts import (
    ATTACK_CONTRACTS,
    DEFENSE_CONTRACTS,
    ContractBroken,
    check_attack,
    check_defense,
    check_scorer,
)
from seepage.testing.victims import TemplateVictim


@pytest.mark.parametrize("attack", [Ascent, Search, Loss])
@pytest.mark.parametrize("contract", ATTACK_CONTRACTS)
def test_sound_attacks_pass(attack: type[Attack], contract: str) -> None:
    check_attack(attack, only=[contract])


@pytest.mark.parametrize("defense", [LabelsOnly, Blur, NoisyUpdate, Wide, Halve])
@pytest.mark.parametrize("contract", DEFENSE_CONTRACTS)
def test_sound_defenses_pass(defense: type[Defense], contract: str) -> None:
    check_defense(defense, only=[contract])


class Peeks(Search):
    """Uses `tries` and, undeclared, the logits."""

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Reconstruction:
        target.logits(knowledge.public.x[:1])
        return super().run(target, knowledge, rng)


class GoesAround(Search):
    """Uses `tries` and asks behind the meter's back."""

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Reconstruction:
        target._ask["predict"](knowledge.public.x[:1])
        return super().run(target, knowledge, rng)


class DeclaresTooMuch(Search):
    """Uses `tries`, and declares weights it has no use for."""

    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES, Access.WEIGHTS})


class SwallowsDenial(Loss):
    """Makes something up where it is refused."""

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Scores:
        try:
            return super().run(target, knowledge, rng)
        except AccessDenied:
            return Scores(np.zeros(len(knowledge.candidates)))


class Overspends(Search):
    """Uses all `tries` whatever the budget, and says otherwise."""

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Reconstruction:
        target.scores(np.repeat(knowledge.public.x[:1], 200, axis=0))
        return super().run(target, knowledge, rng)


class Underestimates(Loss):
    """Says that it asks half of what it asks."""

    def cost(self, knowledge: Any, budget: int | None) -> int:
        return len(knowledge.candidates) // 2


class RefusesItsPrice(Loss):
    """Finds no budget large enough."""

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return None if budget is None else "no budget is enough"


class TakesNumbersForScores(Loss):
    """Reads numbers as it reads scores, the wrong way round."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.CLASSES, Task.VALUES})

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Scores:
        if knowledge.candidates.task is Task.CLASSES:
            return super().run(target, knowledge, rng)
        return Scores(-target.scores(knowledge.candidates.x).max(axis=1))


class CannotDoNumbers(Loss):
    """Says that it works on numbers, and refuses them."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.CLASSES, Task.VALUES})

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        lacking = isinstance(knowledge, MembershipKnowledge) and knowledge.candidates.y is None
        return "it needs classes" if lacking else super().obstacle(knowledge, budget)


class AsksNothing(Loss):
    """Never touches the victim."""

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Scores:
        return Scores(knowledge.candidates.x.reshape(len(knowledge.candidates), -1)[:, 0])


class GlobalDraws(Loss):
    """Breaks ties with the process-wide generator."""

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Scores:
        made = super().run(target, knowledge, rng)
        return Scores(made.values + np.random.rand(len(made.values)) * 1e-9)  # noqa: NPY002


class SeedsTorch(Loss):
    """Reseeds everybody's torch."""

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Scores:
        torch.manual_seed(0)
        return super().run(target, knowledge, rng)


class PlainDraws(Loss):
    """Breaks ties with Python's own generator."""

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Scores:
        made = super().run(target, knowledge, rng)
        return Scores(made.values + random.random() * 1e-9)


class SystemDraws(Loss):
    """Breaks ties with the system's entropy."""

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Scores:
        made = super().run(target, knowledge, rng)
        return Scores(made.values + os.urandom(1)[0] * 1e-9 + os.urandom(1)[0] * 1e-6)


class Remembers(Loss):
    """Adds up what it has seen."""

    seen: ClassVar[list[float]] = []

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Scores:
        made = super().run(target, knowledge, rng)
        self.seen.append(float(made.values[0]))
        return Scores(made.values + len(self.seen))


class NotANumber(Search):
    """Uses `tries` and divides by zero somewhere."""

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Reconstruction:
        made = super().run(target, knowledge, rng)
        x = made.x.copy()
        x[0, 0, 0, 0] = np.nan
        return replace(made, x=x)


class OutOfBounds(Search):
    """Uses `tries` and forgets to clip."""

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Reconstruction:
        made = super().run(target, knowledge, rng)
        return replace(made, x=made.x * 1.5)


class ForgetsAClass(Search):
    """Uses `tries` and gives up on the last class."""

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Reconstruction:
        made = super().run(target, knowledge, rng)
        assert made.labels is not None
        return replace(made, x=made.x[:-1], labels=made.labels[:-1])


class AnotherGuess(Search):
    """Uses `tries` and returns scores for a reconstruction."""

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Any:
        return Scores(super().run(target, knowledge, rng).x.reshape(-1))


class ChangesKnowledge(Loss):
    """Normalises the candidates in place."""

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Scores:
        made = super().run(target, knowledge, rng)
        knowledge.candidates.x[:] *= 0.5
        return made


class ChangesVictim(Ascent):
    """Uses `steps` and `rate`, and reaches into what it was lent."""

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Reconstruction:
        made = super().run(target, knowledge, rng)
        with torch.no_grad():
            target.weights().parameters()["templates"].mul_(0.5)
        return made


class StealsVictim(Loss):
    """Takes the victim out of the target's closure and keeps it."""

    loot: ClassVar[list[Any]] = []

    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Scores:
        cells = target._ask["predict"].__closure__
        assert cells
        self.loot.append(cells[0].cell_contents)
        return super().run(target, knowledge, rng)


class Loose(Loss):
    """Takes any parameter."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Soft(Search):
    """Uses `tries`, which can be set afterwards."""

    model_config = ConfigDict(frozen=False, extra="forbid")


class NoYear(Loss):
    """A citation without a year."""

    cites: ClassVar[tuple[str, ...]] = ("Yeom et al., Privacy risk in machine learning",)


class NoDocstring(Loss):
    pass


class Undescribed(Loss):
    """A parameter that nobody explains."""

    strength: float = 1.0


class Shouts(Loss):
    """A name that no audit file could hold."""

    name: ClassVar[str] = "Plain Loss!"


PLANTED_IN_ATTACKS: list[tuple[type[Attack], str, str]] = [
    (Peeks, "access", "asks for more"),
    (DeclaresTooMuch, "access", "runs without it"),
    (SwallowsDenial, "access", "runs without it"),
    (GoesAround, "meter", "through the target alone"),
    (Overspends, "budget", "cost"),
    (Underestimates, "budget", "cost"),
    (RefusesItsPrice, "budget", "a budget of as many is refused"),
    (AsksNothing, "budget", "a control, not an attack"),
    (TakesNumbersForScores, "tasks", "of values members should score above others"),
    (CannotDoNumbers, "tasks", "says that it works on values, and cannot run there: it needs classes"),
    (GlobalDraws, "determinism", "global generator of numpy.random"),
    (SeedsTorch, "determinism", "global generator of torch"),
    (PlainDraws, "determinism", "another guess"),
    (SystemDraws, "determinism", "another guess"),
    (Remembers, "determinism", "guess"),
    (NotANumber, "guess", "NaN"),
    (OutOfBounds, "guess", "records within"),
    (ForgetsAClass, "guess", "were asked for"),
    (AnotherGuess, "guess", "a Reconstruction was wanted"),
    (ChangesKnowledge, "purity", "changes the knowledge"),
    (StealsVictim, "blindness", "can be reached"),
    (Loose, "configuration", "unknown parameter is taken"),
    (Soft, "configuration", "can be set"),
    (NoYear, "card", "cites"),
    (NoDocstring, "card", "docstring"),
    (Undescribed, "card", "'strength'"),
    (Shouts, "card", "catalogue name"),
]


@pytest.mark.parametrize(("attack", "contract", "message"), PLANTED_IN_ATTACKS, ids=lambda v: getattr(v, "__name__", v))
def test_planted_faults_of_attacks_are_caught(attack: type[Attack], contract: str, message: str) -> None:
    with pytest.raises(ContractBroken, match=message):
        check_attack(attack, only=[contract])


def test_a_budget_that_is_overrun_half_way_is_caught() -> None:
    class Greedy(Loss):
        """Asks twice, and tells the price of once."""

        def cost(self, knowledge: Any, budget: int | None) -> int:
            return len(knowledge.candidates) * (2 if budget is None else 1)

        def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Scores:
            target.scores(knowledge.candidates.x)
            return super().run(target, knowledge, rng)

    with pytest.raises(ContractBroken, match="breaks a budget of"):
        check_attack(Greedy, only=["budget"])


def test_a_victim_whose_weights_are_changed_is_caught() -> None:
    """The network must be the victim's own for that; the template victim hands out a copy."""

    class Lends(TemplateVictim):
        def __init__(self, templates: np.ndarray):
            super().__init__(templates)
            self._module = super().differentiable()

        def differentiable(self) -> Any:
            return self._module

        def predict(self, x: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return self._module(torch.from_numpy(x)).softmax(1).double().numpy()

    def case(seed: int) -> Case:
        plain = inversion_case(seed)
        assert isinstance(plain.victim, TemplateVictim)
        return replace(plain, victim=Lends(plain.victim.templates))

    check_attack(Ascent, case=case, only=["purity", "meter"])
    with pytest.raises(ContractBroken, match="changes the victim"):
        check_attack(ChangesVictim, case=case, only=["purity"])


def test_a_secret_within_the_knowledge_is_caught() -> None:
    def case(seed: int) -> Case:
        plain = membership_case(seed)

        class Told(type(plain.knowledge)):  # type: ignore[misc]
            pass

        told = Told(**vars(plain.knowledge))
        object.__setattr__(told, "answer", plain.secret)
        return replace(plain, knowledge=told)

    with pytest.raises(ContractBroken, match=r"Told\.answer"):
        check_attack(Loss, case=case, only=["blindness"])


def test_the_documentation_must_mention_the_attack(tmp_path: Any) -> None:
    with pytest.raises(ContractBroken, match=r"membership\.md is missing"):
        check_attack(Loss, docs_dir=tmp_path, only=["card"])
    page = tmp_path / "leaks" / "membership.md"
    page.parent.mkdir()
    page.write_text("# Membership")
    with pytest.raises(ContractBroken, match="does not mention 'plain-loss'"):
        check_attack(Loss, docs_dir=tmp_path, only=["card"])
    page.write_text("# Membership\n`plain-loss`")
    check_attack(Loss, docs_dir=tmp_path, only=["card"])


def test_a_leak_without_a_small_case_asks_for_one() -> None:
    class Copies(Loss):
        """Of a leak that has no small case."""

        leak: ClassVar[Leak] = Leak.STEALING

    with pytest.raises(ConfigError, match="give one as `case`"):
        case_for(Copies)


class LeaksWeights(LabelsOnly):
    """Hides the scores and hands out the network."""

    def wrap(self, model: Any, rng: np.random.Generator) -> Any:
        behind = OneHot(model)
        behind.differentiable = model.differentiable  # type: ignore[attr-defined]
        return behind


class OffersMore(LabelsOnly):
    """Offers what it says it takes away."""

    def wrap(self, model: Any, rng: np.random.Generator) -> Any:
        behind = OneHot(model)
        behind.offers = model.offers
        return behind


class SoftLabels(LabelsOnly):
    """Says labels and gives scores."""

    def wrap(self, model: Any, rng: np.random.Generator) -> Any:
        behind = Blurred(model, 0.1, rng)
        behind.offers = frozenset({Access.LABELS})
        return behind


class LosesAClass(Blur):
    """Blurs by `level`, and drops a class."""

    def wrap(self, model: Any, rng: np.random.Generator) -> Any:
        class Short(Blurred):
            classes = property(lambda self: model.classes - 1)

        return Short(model, self.level, np.random.default_rng(0))


class Negative(Blur):
    """Blurs by `level`, and gives scores below zero."""

    def wrap(self, model: Any, rng: np.random.Generator) -> Any:
        class Below(Blurred):
            def predict(self, x: np.ndarray) -> np.ndarray:
                return super().predict(x) - 0.5

        return Below(model, self.level, rng)


class GlobalBlur(Blur):
    """Blurs by `level` with the process-wide generator."""

    def wrap(self, model: Any, rng: np.random.Generator) -> Any:
        return Blurred(model, self.level, np.random.default_rng(np.random.randint(2**31)))  # noqa: NPY002


class Tampers(Blur):
    """Blurs by `level`, and the victim with it."""

    def wrap(self, model: Any, rng: np.random.Generator) -> Any:
        model.templates *= 0.9
        return super().wrap(model, rng)


class DoesNothing(Wide):
    """Trains as before, `width` or not."""

    def on_recipe(self, recipe: Recipe) -> Recipe:
        return recipe.with_options(f"{recipe.name}+{self.name}")


class SameName(Halve):
    """Trains on half of the records, under the old name."""

    def on_recipe(self, recipe: Recipe) -> Recipe:
        return replace(super().on_recipe(recipe), name=recipe.name)


class Unreachable(LabelsOnly):
    """Leaves the reference models bare."""

    def on_recipe(self, recipe: Recipe) -> Recipe:
        return replace(recipe, name="other")


class DropsTensor(NoisyUpdate):
    """Adds noise of `sigma`, and loses the bias."""

    def apply(self, update: Any, rng: np.random.Generator) -> Any:
        made = super().apply(update, rng)
        return replace(made, tensors={"weight": made.tensors["weight"]})


PLANTED_IN_DEFENSES: list[tuple[type[Defense], str, str]] = [
    (LeaksWeights, "hiding", "still has 'differentiable'"),
    (OffersMore, "hiding", "at the most"),
    (SoftLabels, "hiding", "not one-hot"),
    (LosesAClass, "shape", "6 classes became 5"),
    (Negative, "shape", "scores from 0 to 1"),
    (DropsTensor, "shape", "tensors"),
    (GlobalBlur, "determinism", "global generator of numpy.random"),
    (Tampers, "purity", "changes the victim"),
    (DoesNothing, "recipe", "trains the bare victim"),
    (SameName, "recipe", "keeps the name"),
    (Unreachable, "recipe", "offer more"),
]


@pytest.mark.parametrize(
    ("defense", "contract", "message"), PLANTED_IN_DEFENSES, ids=lambda v: getattr(v, "__name__", v)
)
def test_planted_faults_of_defenses_are_caught(defense: type[Defense], contract: str, message: str) -> None:
    with pytest.raises(ContractBroken, match=message):
        check_defense(defense, only=[contract])


def _membership_guesses(case: Case) -> tuple[Scores, Scores, list[Guess]]:
    truth = case.secret.is_member.astype(float)  # type: ignore[attr-defined]
    noise = np.random.default_rng(0).random(len(truth))
    return Scores(truth), Scores(np.zeros(len(truth))), [Scores(truth * k + noise) for k in (0.0, 0.3, 0.6, 1.0)]


def test_the_membership_scorer_keeps_its_contract() -> None:
    case = membership_case(0)
    perfect, blind, ordered = _membership_guesses(case)
    check_scorer(membership.score, case.secret, perfect, blind, worse_to_better=ordered)


def test_the_inversion_scorer_keeps_its_contract() -> None:
    case = inversion_case(0)
    assert isinstance(case.victim, TemplateVictim)
    templates, classes = case.victim.templates.astype(np.float32), np.arange(6)

    def confused(k: int) -> Reconstruction:
        """The first k classes in a circle, the others right."""
        return Reconstruction(templates[[*np.roll(np.arange(k), 1), *range(k, 6)]], classes)

    blind = Reconstruction(np.repeat(templates[:1], 6, axis=0), classes)
    check_scorer(
        inversion.score,
        case.secret,
        Reconstruction(templates, classes),
        blind,
        worse_to_better=[confused(k) for k in (6, 5, 4, 3, 2, 0)],
    )


def _with_headline(change: Callable[[Any], dict[str, Any]]) -> Callable[[Guess, Secret, Controls], Scored]:
    """The membership scorer with its headline changed."""

    def score(guess: Guess, secret: Secret, controls: Controls) -> Scored:
        scored = membership.score(guess, secret, controls)
        head = scored.scores[scored.headline]
        return replace(scored, scores={**scored.scores, head.name: head.model_copy(update=change(head))})

    return score


PLANTED_IN_SCORERS: dict[str, tuple[Callable[[Any], dict[str, Any]], str]] = {
    "lower is better": (lambda s: {"value": 1 - s.value, "low": 1 - s.high, "high": 1 - s.low}, "perfect guess"),
    "blind guess leaks": (lambda s: {"low": s.value, "high": s.value, "chance": 0.4}, "at chance"),
    "no interval": (lambda s: {"low": None, "high": None}, "needs an interval"),
    "no chance": (lambda s: {"chance": None}, "`chance`"),
    "controls dropped": (lambda s: {"controls": {}}, "is not reported"),
    "leakage is the value": (
        lambda s: {"leakage": s.leakage and Estimate(value=s.value, low=s.low, high=s.high)},
        "minus the strongest control",
    ),
    "interval elsewhere": (lambda s: {"low": s.value + 0.1, "high": s.value + 0.2}, "outside its interval"),
    "missing unsaid": (lambda s: {"missing": {}}, "missing controls"),
    "no unit": (lambda s: {"unit": ""}, "a title, a unit and a method"),
}


@pytest.mark.parametrize("fault", PLANTED_IN_SCORERS)
def test_planted_faults_of_scorers_are_caught(fault: str) -> None:
    case = membership_case(0)
    perfect, blind, ordered = _membership_guesses(case)
    change, message = PLANTED_IN_SCORERS[fault]
    with pytest.raises(ContractBroken, match=message):
        check_scorer(_with_headline(change), case.secret, perfect, blind, worse_to_better=ordered)


def test_a_scorer_that_draws_or_does_not_rise_is_caught() -> None:
    case = membership_case(0)
    perfect, blind, ordered = _membership_guesses(case)
    count = iter(range(100))
    moving = _with_headline(lambda s: {"p_value": next(count) / 100})
    with pytest.raises(ContractBroken, match="the same guess got other scores"):
        check_scorer(moving, case.secret, perfect, blind)
    with pytest.raises(ContractBroken, match="falls as the guess gets better"):
        check_scorer(membership.score, case.secret, perfect, blind, worse_to_better=ordered[::-1])
