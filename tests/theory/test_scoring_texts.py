"""Likeness of texts: published values, bounds, and what must not count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seepage.core.words import document_counts, words
from seepage.scoring.texts import (
    Overlap,
    edit_similarity,
    rouge_l,
    rouge_n,
    same_words,
    weighted_recall,
    word_overlap,
)

TEXT = st.lists(st.sampled_from(["ant", "bee", "cat", "dog", "eel", "fox"]), max_size=8).map(" ".join)


def test_words_are_folded_and_know_no_punctuation() -> None:
    assert words("The café's “Ice-cream”, 3.5 €: don’t_stop!") == [
        *("the", "café's", "ice", "cream", "3", "5", "don't", "stop"),
    ]
    assert words("CAFE\u0301 STRASSE straße") == ["café", "strasse", "strasse"]
    assert words(" … --- ") == []


def test_document_counts_count_texts_and_not_words() -> None:
    assert document_counts(["a a b", "A c"]) == {"a": 2, "b": 1, "c": 1}


@pytest.mark.parametrize(
    ("guess", "rouge_2", "longest"),
    [
        # The sentences of Lin 2004, section 3.1, against "police killed the gunman": ROUGE-2 cannot tell the
        # first two apart, ROUGE-L can; of the third, ROUGE-L sees one of the two runs alone.
        ("police kill the gunman", 1 / 3, 3 / 4),
        ("the gunman kill police", 1 / 3, 2 / 4),
        ("the gunman police killed", 2 / 3, 2 / 4),
    ],
)
def test_rouge_has_the_values_of_its_paper(guess: str, rouge_2: float, longest: float) -> None:
    truth = "Police killed the gunman."
    assert rouge_n(guess, truth, 2).recall == pytest.approx(rouge_2)
    assert rouge_l(guess, truth).recall == pytest.approx(longest)


def test_words_count_as_often_as_in_both() -> None:
    assert word_overlap("the the the cat", "the cat and the dog") == Overlap(precision=3 / 4, recall=3 / 5)
    assert rouge_n("the the the cat", "the cat and the dog", 1) == Overlap(precision=3 / 4, recall=3 / 5)


def test_nothing_is_like_nothing() -> None:
    for guess, truth in (("", "a b"), ("a b", ""), ("", ""), ("...", "a")):
        assert rouge_l(guess, truth).f1 == rouge_n(guess, truth, 2).f1 == word_overlap(guess, truth).f1 == 0
        assert edit_similarity(guess, truth) == 0
        assert not same_words(guess, truth)


def test_edit_similarity_is_one_less_the_share_of_edits() -> None:
    assert edit_similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)
    assert edit_similarity("A  b", "a b") == 1


def test_a_weighted_recall_counts_weights() -> None:
    weight = {"the": 0.0, "fever": 1.0, "monday": 0.5}
    assert weighted_recall(["the", "monday"], ["the", "fever", "monday"], weight) == pytest.approx(0.5 / 1.5)
    assert weighted_recall(["fever"], ["fever", "fever"], weight) == pytest.approx(0.5)
    assert weighted_recall(["the"], ["the"], weight) == 0


@given(TEXT, TEXT)
def test_likeness_lies_between_none_and_sameness(a: str, b: str) -> None:
    for measure in (word_overlap, rouge_l, lambda x, y: rouge_n(x, y, 1), lambda x, y: rouge_n(x, y, 2)):
        one, other = measure(a, b), measure(b, a)
        assert 0 <= one.f1 <= 1
        assert one.f1 == pytest.approx(other.f1)
        assert one.precision == pytest.approx(other.recall)
    assert rouge_l(a, b).f1 <= rouge_n(a, b, 1).f1 + 1e-12
    assert 0 <= edit_similarity(a, b) <= 1
    assert (rouge_l(a, b).f1 == 1) == same_words(a, b)
