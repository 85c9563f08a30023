"""Attacks on vectors of texts, held against encoders whose leakage is known."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from seepage.attacks.inversion.sentence_edits import word_parts
from seepage.attacks.inversion.sentence_nearest import SentenceNearest
from seepage.attacks.inversion.sentence_search import SentenceSearch
from seepage.attacks.inversion.song2020 import SentenceWords
from seepage.attacks.inversion.word_order import WordOrder
from seepage.core.attack import TextInversionAttack
from seepage.core.case import Case
from seepage.core.defense import Defense
from seepage.core.guess import Texts
from seepage.core.knowledge import TextInversionKnowledge
from seepage.core.records import Records
from seepage.core.scorer import Controls
from seepage.core.seeds import stream
from seepage.core.target import Target
from seepage.core.victim import TextEncoder, Victim
from seepage.core.vocabulary import Access
from seepage.core.words import words
from seepage.scoring.inversion import score
from seepage.scoring.inversion_texts import HEADLINE
from seepage.targets import CallableEncoder
from seepage.testing.texts import COMMON, DeafEncoder, OrderEncoder, text_inversion_case

ATTACKS = (SentenceNearest(), SentenceWords(), SentenceSearch(queries_per_text=60))


def run(attack: TextInversionAttack, case: Case, budget: int | None = None, null: bool = False) -> tuple[Texts, int]:
    captured = case.null_captured if null else case.captured
    target = Target(case.victim, attack.needs, budget, captured=captured)
    assert isinstance(case.knowledge, TextInversionKnowledge)
    return attack.run(target, case.knowledge, stream(0, "theory")), target.queries


def test_every_word_is_recovered_from_a_bag_of_words() -> None:
    case = text_inversion_case(1)
    guess, _ = run(SentenceWords(ridge=0.01, plain=True), case)
    assert isinstance(case.captured, tuple)
    for (said,), true in zip(guess.values, case.captured, strict=True):
        known = {word for text in case.knowledge.public.texts for word in words(text)} & set(words(true))
        assert set(words(said)[: len(known)]) == known


def test_no_rare_word_is_crowded_out_by_common_ones() -> None:
    case = text_inversion_case(1)
    guess, _ = run(SentenceWords(), case)
    assert isinstance(case.captured, tuple)
    for (said,), true in zip(guess.values, case.captured, strict=True):
        known = {word for text in case.knowledge.public.texts for word in words(text)} & set(words(true))
        rare = known - set(COMMON)
        assert rare <= set(words(said)[: len(known)])


def test_the_order_of_the_words_is_recovered_where_the_vector_holds_it() -> None:
    case = text_inversion_case(2, OrderEncoder(size=256))
    assert isinstance(case.captured, tuple)
    # Every private word is in a public text: what cannot be written is not what is tested.
    public = (*case.knowledge.public.texts, *(" ".join(reversed(words(text))) for text in case.captured))
    case = replace(case, knowledge=replace(case.knowledge, public=Records.of_texts(public)))
    guess, _ = run(SentenceSearch(queries_per_text=600), case)
    found = score(guess, case.secret, Controls()).scores
    assert found["exact"].value is not None
    assert found["exact"].value >= 0.6
    unordered, _ = run(SentenceWords(), case)
    assert score(unordered, case.secret, Controls()).scores["exact"].value == 0


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_an_encoder_that_does_not_listen_gives_nothing_away(attack: TextInversionAttack) -> None:
    case = text_inversion_case(3, DeafEncoder())
    guess, _ = run(attack, case)
    null, _ = run(attack, case, null=True)
    found = score(guess, case.secret, Controls(no_model=case.baselines, null_model=null)).scores[HEADLINE]
    assert found.leakage is not None
    assert found.leakage.value <= 0
    assert len(set(guess.values)) == 1, "the same vector should get the same guess"


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_what_is_found_for_a_vector_does_not_depend_on_the_others(attack: TextInversionAttack) -> None:
    case = text_inversion_case(4, OrderEncoder())
    guess, _ = run(attack, case)
    null, _ = run(attack, case, null=True)
    assert null.values == (guess.values[-1], *guess.values[:-1])


@pytest.mark.parametrize("budget", [25, 200, 700])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_a_budget_is_kept_and_used(attack: TextInversionAttack, budget: int) -> None:
    case = text_inversion_case(5, OrderEncoder())
    assert attack.obstacle(case.knowledge, budget) is None
    guess, asked = run(attack, case, budget)
    assert 0 < asked <= attack.cost(case.knowledge, budget) <= budget
    assert len(guess.values) == 6
    assert all(guess.values)


def test_a_search_gets_nearer_the_more_it_may_ask() -> None:
    case = text_inversion_case(6, OrderEncoder())
    goal = case.victim.embed(case.captured)

    def nearness(queries: int) -> float:
        guess, _ = run(SentenceSearch(queries_per_text=queries), case)
        found = case.victim.embed([text for text, *_ in guess.values])
        return float(((found * goal).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(goal, axis=1)).mean())

    few, many = nearness(4), nearness(150)
    assert many > few + 0.1


class _Noise(Defense):
    """Adds noise to every vector, drawn anew each time."""

    name: ClassVar[str] = "noise"
    title: ClassVar[str] = "Noise"
    cites: ClassVar[tuple[str, ...]] = ("Nobody 2026, for this test",)

    def on_victim(self, victim: Victim, rng: np.random.Generator) -> Victim:
        assert isinstance(victim, TextEncoder)

        def noisy(texts: list[str]) -> np.ndarray:
            return victim.embed(texts) + rng.normal(size=(len(texts), 1)).astype(np.float32)

        return CallableEncoder(noisy)


def test_a_defense_stands_before_the_captured_vectors_and_is_asked_once() -> None:
    case = text_inversion_case(0)
    behind = case.defended(_Noise())
    target = Target(behind.victim, [Access.EMBEDDINGS], captured=behind.captured)
    first = target.captured_embeddings()
    assert not np.allclose(first, case.victim.embed(case.captured))
    assert np.array_equal(first, target.captured_embeddings()), "asked again, the noise could be averaged away"
    assert target.queries == 0
    assert behind.knowledge.defenses == (_Noise(),)


def test_without_captured_vectors_there_is_nothing_to_do() -> None:
    case = text_inversion_case(0)
    none = replace(case.knowledge, captured=0)
    assert "captured" in (SentenceWords().obstacle(none, None) or "")
    assert "public" in (SentenceWords().obstacle(replace(case.knowledge, public=None), None) or "")


def test_what_follows_a_word_is_a_distribution() -> None:
    order = WordOrder([[0, 1, 2], [0, 1], [2, 1]], 4)
    for word in range(5):
        assert np.exp(order.after(word)).sum() == pytest.approx(1)
    assert order.after(0)[1] == order.after(0).max()
    assert order.before(1)[0] == pytest.approx(order.after(0)[1])
    by_hand = order.after(4)[0] + order.after(0)[1] + order.after(1)[4]
    assert order.fluency([0, 1]) == pytest.approx(by_hand)
    assert order.fluency([0, 1, 2]) > order.fluency([3, 0, 3])


def test_parts_of_words_are_found_where_vectors_are_means_of_them() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(12, 20))
    held = [rng.integers(12, size=5).tolist() for _ in range(200)]
    vectors = np.stack([true[row].mean(axis=0) for row in held])
    found = word_parts(vectors, held, np.zeros((12, 20)), ridge=1e-6)
    assert np.allclose(found, true, atol=1e-3)
    # Where nothing is asked of texts that tells, words keep the direction they have alone.
    alone = true / np.linalg.norm(true, axis=1, keepdims=True)
    kept = word_parts(true[:1], [[0, 0, 0]], alone, ridge=1.0)
    assert np.allclose(kept[5] / np.linalg.norm(kept[5]), alone[5])
