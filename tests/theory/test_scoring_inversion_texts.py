"""Scores of recovered texts: common words count nothing, length buys nothing, nothing private is in the evidence."""

from math import log

import numpy as np
import pytest

from seepage.core.errors import DataError
from seepage.core.guess import Reconstruction, Texts
from seepage.core.records import Records
from seepage.core.scorer import Controls
from seepage.core.secrets import TextInversionSecret
from seepage.core.words import words
from seepage.scoring.inversion import score
from seepage.scoring.inversion_texts import HEADLINE, word_weights
from seepage.testing.texts import text_inversion_case

PUBLIC = [f"the {word} was of the {other}" for word in "abcdefghij" for other in "klmnopqrst"]
TRUTH = ("The fever was of the a", "the insulin of the b", "the tumour was the c", "the asthma of the d was")


def secret() -> TextInversionSecret:
    return TextInversionSecret(captured=Records.of_texts(TRUTH), public=Records.of_texts(PUBLIC))


def of(*texts: str) -> Texts:
    return Texts(tuple((text,) if text else () for text in texts))


def value(guess: Texts, name: str = HEADLINE) -> float:
    found = score(guess, secret(), Controls()).scores[name].value
    assert found is not None
    return found


def test_weights_are_those_of_the_docstring() -> None:
    weight = word_weights(TRUTH, PUBLIC)
    assert weight["the"] == weight["was"] == 0
    assert weight["fever"] == 1
    assert weight["a"] == 0, "ten of a hundred texts hold it"
    few = word_weights(["zebra"], ["a zebra", *["a b"] * 199])
    assert few["zebra"] == pytest.approx(log(201 / 2) / log(201))
    assert set(word_weights(TRUTH, ()).values()) == {1.0}


def test_common_words_recover_nothing() -> None:
    assert value(of("the was of the", "the of the", "the was the", "the of the was")) == 0
    assert value(of(*TRUTH)) == 1


def test_a_list_of_all_words_is_not_a_recovery() -> None:
    every = " ".join(sorted({word for text in (*TRUTH, *PUBLIC) for word in words(text)}, reverse=True))
    assert value(of(*[every] * 4)) < 0.6
    first = " ".join(["x"] * 10 + ["fever"])
    assert value(of(first, first, first, first)) == pytest.approx(0.25), "the eleventh of twelve words is read"
    late = " ".join(["x"] * 12 + ["fever"])
    assert value(of(late, late, late, late)) == 0, "the thirteenth is not"


def test_the_first_of_several_texts_counts() -> None:
    several = Texts(tuple(("nothing", text) for text in TRUTH))
    assert value(several) == 0


def test_an_empty_guess_scores_nothing_and_identifies_by_chance() -> None:
    for guess in (of("", "", "", ""), of("zzz", "", "...", "zzz")):
        found = score(guess, secret(), Controls()).scores
        assert {found[name].value for name in found if name != "record_identified"} == {0.0}
        assert found["record_identified"].value == found["record_identified"].chance == 0.25


def test_a_text_is_found_by_a_word_that_it_alone_has() -> None:
    assert value(of("fever", "fever", "tumour", ""), "record_identified") == pytest.approx((1 + 0 + 1 + 0.25) / 4)


def test_word_for_word_takes_every_word() -> None:
    assert value(of(TRUTH[0].upper() + "!", TRUTH[1], TRUTH[2] + " x", ""), "exact") == 0.5


def test_the_leakage_is_over_the_other_texts_vectors() -> None:
    shifted = of(TRUTH[3], *TRUTH[:3])
    found = score(of(*TRUTH), secret(), Controls(null_model=of(*TRUTH))).scores[HEADLINE]
    assert found.leakage is not None
    assert found.leakage.value == 0
    found = score(of(*TRUTH), secret(), Controls(null_model=shifted, no_model={"n": of(*PUBLIC[:4])})).scores[HEADLINE]
    assert found.leakage is not None
    assert found.leakage.low > 0


def test_no_private_word_is_in_the_evidence() -> None:
    case = text_inversion_case(0)
    assert isinstance(case.captured, tuple)
    found = score(Texts(tuple((text,) for text in case.captured)), case.secret, Controls(no_model=case.baselines))
    said = " ".join([*(e.evidence + e.id for e in found.exposed), *found.notes, *map(str, found.facts.values())])
    private = {word for text in case.captured for word in words(text) if len(word) > 4}
    assert not private & set(words(said))
    assert found.gallery["truth"].tolist() == list(case.captured)


@pytest.mark.parametrize("guess", [Reconstruction(np.zeros((4, 2))), of("one")])
def test_what_does_not_speak_of_each_vector_is_refused(guess: Texts | Reconstruction) -> None:
    with pytest.raises(DataError, match="wanted, got"):
        score(guess, secret(), Controls())
