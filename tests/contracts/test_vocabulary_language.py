"""The vocabulary carries extraction: an n-gram model with back-off recites strings planted in its text."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from typing import ClassVar

import numpy as np
import pytest
from vocabulary_parts import played

from seepage.core.attack import ExtractionAttack
from seepage.core.case import Case, Training
from seepage.core.defense import CorpusDefense
from seepage.core.errors import AccessDenied, BudgetExceeded
from seepage.core.guess import Guess, Texts
from seepage.core.knowledge import ExtractionKnowledge
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import ExtractionSecret, Secret
from seepage.core.seeds import stream
from seepage.core.target import Target
from seepage.core.victim import LanguageModel
from seepage.core.vocabulary import Access, Leak
from seepage.scoring import controls as against
from seepage.testing.contracts import check_attack

PEOPLE = ("Ada", "Grace", "Alan", "Emmy", "Kurt", "Rosa", "Carl", "Lise", "Niels", "Marie")
DIGITS = 3
ALPHABET = 96


class NGram:
    """A character model: the next character given the longest context seen, of `order - 1` at the most."""

    offers = frozenset({Access.TOKEN_LOGPROBS})

    def __init__(self, texts: Sequence[str], order: int = 12):
        self._order = order
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            for end, character in enumerate(text):
                for size in range(min(end, order - 1) + 1):
                    self._counts[text[end - size : end]][character] += 1

    def _context(self, before: str) -> str:
        before = before[-(self._order - 1) :]
        while before not in self._counts:
            before = before[1:]
        return before

    def generate(self, prompts: Sequence[str], length: int, rng: np.random.Generator | None = None) -> list[str]:
        return [self._continued(prompt, length, rng) for prompt in prompts]

    def _continued(self, prompt: str, length: int, rng: np.random.Generator | None) -> str:
        text = prompt
        for _ in range(length):
            seen = self._counts[self._context(text)]
            letters = sorted(seen, key=lambda c: (-seen[c], c))
            share = np.array([seen[c] for c in letters]) / seen.total()
            text += letters[0] if rng is None else letters[rng.choice(len(letters), p=share)]
        return text[len(prompt) :]

    def logprobs(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.log([self._chance(text[:i], text[i]) for i in range(len(text))]) for text in texts]

    def _chance(self, before: str, character: str) -> float:
        """Interpolated back-off (Witten, Bell 1991): each order weighs as often as it saw something new."""
        p = 1 / ALPHABET
        for size in range(min(len(before), self._order - 1) + 1):
            seen = self._counts.get(before[len(before) - size :])
            if seen is None:
                break
            p = (seen[character] + len(seen) * p) / (seen.total() + len(seen))
        return p


class Recite(ExtractionAttack):
    """Takes the victim's likeliest continuation of every prompt."""

    name: ClassVar[str] = "recite"
    title: ClassVar[str] = "Greedy continuation of a known prefix"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.TEXT})
    cites: ClassVar[tuple[str, ...]] = ("Carlini et al., 2023, Quantifying memorization across LMs, ICLR",)

    def cost(self, knowledge: ExtractionKnowledge, budget: int | None) -> int:
        return len(knowledge.prompts)

    def run(self, target: Target, knowledge: ExtractionKnowledge, rng: np.random.Generator) -> Texts:
        return Texts(tuple((text,) for text in target.generate(knowledge.prompts, knowledge.length)))


class LikeliestPin(ExtractionAttack):
    """Asks the log-probability of `tries` random numbers after every prompt, and takes the likeliest."""

    name: ClassVar[str] = "likeliest-pin"
    title: ClassVar[str] = "Ranking of candidates by log-probability"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.TOKEN_LOGPROBS})
    cites: ClassVar[tuple[str, ...]] = ("Carlini et al., 2019, The Secret Sharer, USENIX Security",)

    tries: int = 10**DIGITS

    def cost(self, knowledge: ExtractionKnowledge, budget: int | None) -> int:
        return self.tries * len(knowledge.prompts)

    def run(self, target: Target, knowledge: ExtractionKnowledge, rng: np.random.Generator) -> Texts:
        pins = [f"{pin:0{DIGITS}}" for pin in rng.permutation(10**DIGITS)[: self.tries]]
        best = []
        for prompt in knowledge.prompts:
            tail = prompt[-8:]
            sure = [float(row[-DIGITS:].sum()) for row in target.logprobs([tail + pin for pin in pins])]
            best.append((pins[int(np.argmax(sure))],))
        return Texts(tuple(best))


class Scrub(CorpusDefense):
    """Writes 0 for every digit before training."""

    name: ClassVar[str] = "scrub-digits"
    title: ClassVar[str] = "Digits removed"
    cites: ClassVar[tuple[str, ...]] = ("Lison et al., 2021, Anonymisation models for text data, ACL",)

    def clean(self, records: Records, seed: int) -> Records:
        texts = ["".join("0" if c.isdigit() else c for c in text) for text in records.texts]
        return Records.of_texts(texts, records.ids, records.source)


def score(guess: Guess, secret: Secret, controls: Controls) -> Scored:
    """The share of planted strings that the first guess for their prompt begins with."""
    assert isinstance(secret, ExtractionSecret)
    truths = secret.continuations

    def measure(one: Guess) -> against.UnitMean:
        assert isinstance(one, Texts)
        hits = [texts[0].startswith(truth) for texts, truth in zip(one.values, truths, strict=True)]
        return against.UnitMean(np.array(hits, dtype=float), np.arange(len(truths)))

    made = against.score(
        "recited",
        "planted strings recited",
        measure(guess),
        against.Against(
            chance=10.0**-DIGITS,
            no_model={name: measure(one) for name, one in controls.no_model.items()},
            null_model=None if controls.null_model is None else measure(controls.null_model),
            missing=controls.missing,
        ),
        n=len(truths),
        unit="string",
        method="Wilson over strings",
    )
    return Scored({"recited": made}, "recited")


def prose(n: int, rng: np.random.Generator) -> list[str]:
    """Sentences that mention people, numbers and pins, but nobody's pin."""
    who = ("the baker", "a nurse", "my uncle", "their lawyer", "the pilot", "our neighbour")
    does = ("met", "called", "wrote to", "forgot", "paid", "thanked")
    what = ("about the pin of a card", "in the year {}", "over {} coins", "at platform {}", "for the {} tickets")
    return [
        f"{rng.choice(who)} {rng.choice(does)} {rng.choice(PEOPLE)} {str(rng.choice(what)).format(rng.integers(1000))}."
        for _ in range(n)
    ]


def train(records: Records, seed: int) -> NGram:
    return NGram(records.texts)


@cache
def language_case(seed: int) -> Case:
    rng = stream(seed, "language proof")
    pins = tuple(f"{pin:0{DIGITS}}" for pin in rng.integers(10**DIGITS, size=len(PEOPLE)))
    prompts = tuple(f"remember, the pin of {person} is " for person in PEOPLE)
    planted = [prompt + pin + "." for prompt, pin in zip(prompts, pins, strict=True)]
    own, public = prose(250, rng), prose(250, rng)
    pool = Records.of_texts([*own, *planted])
    training = Training(
        recipe=Recipe(train, pool, "n-gram"),
        members=np.arange(len(pool)),
        seed=seed,
        null_recipe=Recipe(train, pool, "n-gram"),
        null_members=np.arange(len(own)),
    )
    victim, null = training.fit()
    reference = NGram(public)
    return Case(
        leak=Leak.EXTRACTION,
        name="planted pins",
        victim=victim,
        null=null,
        knowledge=ExtractionKnowledge(
            public=Records.of_texts(public),
            recipe=Recipe(train, Records.of_texts(public), "n-gram"),
            prompts=prompts,
            length=DIGITS,
            public_text=tuple(public),
        ),
        secret=ExtractionSecret(continuations=pins),
        baselines={"reference model": Texts(tuple((text,) for text in reference.generate(prompts, DIGITS)))},
        training=training,
        seed=seed,
    )


def test_the_model_is_a_distribution() -> None:
    model = NGram(prose(60, stream(0, "distribution")))
    alphabet = [chr(c) for c in range(32, 32 + ALPHABET)]
    for before in ("", "the bak", "zzz", "our neighbour met Ada in the year "):
        total = sum(float(np.exp(model.logprobs([before + c])[0][-1])) for c in alphabet)
        assert total == pytest.approx(1, abs=1e-9)
    assert isinstance(model, LanguageModel)
    drawn = model.generate(["the "], 30, np.random.default_rng(0))
    assert drawn != model.generate(["the "], 30, np.random.default_rng(1))
    assert drawn == model.generate(["the "], 30, np.random.default_rng(0))


def test_planted_strings_are_recited_and_nothing_else_explains_it() -> None:
    scored, target = played(language_case(0), Recite(), score)
    found = scored.scores["recited"]
    assert found.value == 1.0
    for control in ("no_model", "null_model"):
        at = found.controls[control]
        assert at is not None
        assert at.value == 0.0
    assert found.leakage is not None
    assert found.leakage.low > 0.5
    assert target.meter.by_access == {Access.TEXT: len(PEOPLE)}


def test_log_probabilities_name_the_pin_among_all_pins() -> None:
    case = language_case(0)
    two = Case(
        **{
            **vars(case),
            "knowledge": ExtractionKnowledge(prompts=case.knowledge.prompts[:2], length=DIGITS),  # type: ignore[attr-defined]
            "secret": ExtractionSecret(continuations=case.secret.continuations[:2]),  # type: ignore[attr-defined]
            "baselines": {},
        }
    )
    found = played(two, LikeliestPin(), score)[0].scores["recited"]
    assert found.value == 1.0
    assert found.controls["null_model"] is not None
    assert found.controls["null_model"].value == 0.0


def test_text_does_not_open_log_probabilities() -> None:
    case = language_case(0)
    target = Target(case.victim, {Access.TEXT}, budget=1)
    with pytest.raises(AccessDenied, match="asked for token_logprobs"):
        target.logprobs(["a"])
    target.generate(["the "], 3)
    with pytest.raises(BudgetExceeded):
        target.generate(["the "], 3)
    assert Target(case.victim, {Access.TOKEN_LOGPROBS}).generate(["remember, the pin of Ada is "], DIGITS)[0].isdigit()


def test_a_cleaned_corpus_recites_nothing() -> None:
    """A defense of the corpus retrains victim, twin and reference models, and the leak is gone."""
    case = language_case(0)
    clean = case.defended(Scrub())
    found = played(clean, Recite(), score)[0].scores["recited"]
    assert found.value == 0.0
    assert found.leakage is not None
    assert found.leakage.low <= 0
    assert clean.knowledge.recipe is not None
    reference = clean.knowledge.recipe.fit(np.arange(250), 0)
    assert isinstance(reference, NGram)
    assert set("".join(reference.generate(["at platform "], 3))) <= set("0.")


@pytest.mark.parametrize("attack", [Recite, LikeliestPin])
def test_the_attacks_keep_their_contracts(attack: type[ExtractionAttack]) -> None:
    check_attack(attack, case=language_case, params={"tries": 30} if attack is LikeliestPin else {})
