"""Scores of the text form of inversion: how much of each private text was written back from its vector?

The guess holds some texts for each captured vector, likeliest first; the first one counts. The unit is a text.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from jaxtyping import Float

from seepage.core.errors import DataError
from seepage.core.guess import Guess, Texts
from seepage.core.record import Exposure, Score
from seepage.core.records import Records
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import TextInversionSecret
from seepage.core.words import document_counts, words
from seepage.scoring import controls as against
from seepage.scoring.means import RecordMean
from seepage.scoring.texts import edit_similarity, rouge_l, rouge_n, same_words, weighted_recall

Array = np.ndarray

HEADLINE = "content_recall"
# A word in more than this share of the public texts is a common one, and one text of so many proves nothing.
COMMON = 0.02
# How many words of a guess are read, for each word of the true text: a list of all words would recall everything.
READ = 2.0
_TITLES = {
    HEADLINE: "Content words recovered",
    "rouge_1": "ROUGE-1 (words in common)",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "edit_similarity": "Edit similarity",
    "exact": "Texts recovered word for word",
    "record_identified": "Texts found among all captured ones",
}
_METHOD = "Student's t over texts; differences by squaring and adding, paired by text"
_METHOD_SHARE = (
    "Wilson over texts; differences by squaring and adding, paired by text (Newcombe 1998); "
    "against chance also the exact binomial test"
)
_SHARES = ("exact", "record_identified")
NOTE = (
    "A text recovered from its vector was in that vector: the control with the vectors of other texts says so. It "
    "does not say that the encoder was trained on the text; whoever holds the vectors needs nobody's training data."
)


def word_weights(captured: Sequence[str], public: Sequence[str]) -> dict[str, float]:
    """What each word of the private texts counts, 0 to 1: nothing where it is common, 1 where no public text has it.

    With N public texts, df(w) of them holding the word w:

        weight(w) = log((N + 1) / (df(w) + 1)) / log(N + 1)   where df(w) <= max(1, .02 N),   else 0

    so that "the" or "was" count nothing, however often they are guessed right. Without public texts each word
    counts 1.
    """
    seen, n = document_counts(public), len(public)
    if not n:
        return {word: 1.0 for text in captured for word in words(text)}
    most = max(1.0, COMMON * n)
    own = {word for text in captured for word in words(text)}
    return {word: log((n + 1) / (seen[word] + 1)) / log(n + 1) if seen[word] <= most else 0.0 for word in own}


@dataclass(frozen=True)
class Read:
    """One guess about the texts, read: the text that counts for each vector, and its values, (n,) each, by score."""

    texts: tuple[str, ...]
    values: Mapping[str, Float[Array, " n"]]


class _Reader:
    """Holds guesses against the true texts."""

    def __init__(self, truth: Records, public: Records | None):
        self.truth = truth.texts
        self.weight = word_weights(truth.texts, () if public is None else public.texts)
        self.words = [words(text) for text in truth.texts]
        self._bags = np.stack([self._bag(found) for found in self.words])

    def _bag(self, found: Sequence[str]) -> Array:
        """The words of a text as a direction: one number a word with a weight, its length 1 (0 without any)."""
        counts = Counter(found)
        row = np.array([counts[word] * weight for word, weight in self.weight.items()], dtype=np.float64)
        length = np.linalg.norm(row)
        return row / length if length > 0 else row

    def read(self, guess: Guess, what: str) -> Read:
        """A guess read.

        Raises:
            DataError: when it does not speak of each captured vector.
        """
        if not isinstance(guess, Texts):
            raise DataError(f"{what}: Texts were wanted, got a {type(guess).__name__}")
        if len(guess.values) != len(self.truth):
            raise DataError(
                f"{what}: texts for each of {len(self.truth)} captured vectors were wanted, got {len(guess.values)}"
            )
        texts = tuple(found[0] if found else "" for found in guess.values)
        rows = [self._values(text, i) for i, text in enumerate(texts)]
        return Read(texts, {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]})

    def _values(self, text: str, i: int) -> dict[str, float]:
        truth, wanted = self.truth[i], self.words[i]
        kept = words(text)[: round(READ * len(wanted))]
        return {
            HEADLINE: weighted_recall(kept, wanted, self.weight),
            "rouge_1": rouge_n(text, truth, 1).f1,
            "rouge_2": rouge_n(text, truth, 2).f1,
            "rouge_l": rouge_l(text, truth).f1,
            "edit_similarity": edit_similarity(text, truth),
            "exact": float(same_words(text, truth)),
            "record_identified": self._identified(kept, i),
        }

    def _identified(self, found: Sequence[str], i: int) -> float:
        """The odds that text `i` is found nearest to the guess, of equally near ones by a fair draw."""
        likeness = np.round(self._bags @ self._bag(found), 9)
        return 0.0 if (likeness > likeness[i]).any() else 1.0 / float((likeness == likeness[i]).sum())


def score(guess: Guess, secret: TextInversionSecret, controls: Controls) -> Scored:
    """Scores of the first guessed text for each captured vector against the true one.

    - `content_recall` (headline): the share of the weight of the true text's words that stands in the guess
      (`word_weights`; of a guess, only twice as many words as the true text has are read). Chance 0: a guess made
      blind of vectors and of other texts names no word, and what ordinary language recalls by itself is what the
      model-free guesses and the vectors of other texts show. A text of common words alone counts 0.
    - `rouge_1`, `rouge_2`, `rouge_l` (F1), `edit_similarity`: likeness to the true text, chance 0 by the
      same reasoning.
    - `exact`: the same words in the same order; chance 0.
    - `record_identified`: the true text is, of all captured ones, the nearest to the guess, by the cosine of their
      weighted words; chance 1/n, which a guess without a word in common with any gets exactly.

    The gallery holds, one row a text: `truth`, `guess`, `nearest_public_text` (where there is one) and `null_guess`, as
    texts, and `value`. It is private.

    Raises:
        DataError: for a guess that cannot be scored, or a secret without texts.
    """
    truth = secret.captured
    if not len(truth) or not truth.texts:
        raise DataError("captured texts were wanted in the secret, there are none")
    reader = _Reader(truth, secret.public)
    value = reader.read(guess, "the attack's guess")
    no_model = {name: reader.read(other, f"the control '{name}'") for name, other in controls.no_model.items()}
    null = None
    if controls.null_model is not None:
        null = reader.read(controls.null_model, "the attack given other texts' vectors")
    order = np.arange(len(truth))

    def measured(name: str) -> Score:
        def measure(part: Read) -> against.Measure:
            return against.UnitMean(part.values[name], order) if name in _SHARES else RecordMean(part.values[name])

        return against.score(
            name,
            _TITLES[name],
            measure(value),
            against.Against(
                chance=1 / len(truth) if name == "record_identified" else 0.0,
                no_model={part: measure(found) for part, found in no_model.items()},
                null_model=None if null is None else measure(null),
                missing=dict(controls.missing),
            ),
            n=len(truth),
            unit="text",
            method=_METHOD_SHARE if name in _SHARES else _METHOD,
        )

    return Scored(
        scores={name: measured(name) for name in _TITLES},
        headline=HEADLINE,
        exposed=_exposed(value, no_model, null, truth),
        gallery=_gallery(value, no_model, null, truth),
        facts=_facts(value, reader, secret.public),
        notes=(NOTE,),
    )


def _facts(value: Read, reader: _Reader, public: Records | None) -> dict[str, float | str | None]:
    known = Counter[str]() if public is None else document_counts(public.texts)
    content = [word for found in reader.words for word in found if reader.weight[word] > 0]
    return {
        "captured": float(len(reader.truth)),
        "words_a_text": float(np.mean([len(found) for found in reader.words])),
        "content_words_a_text": len(content) / len(reader.words),
        "texts_without_content_words": float(sum(not any(reader.weight[w] for w in found) for found in reader.words)),
        # An attack that takes its words from public texts cannot write the others.
        "content_words_in_public": float(np.mean([word in known for word in content])) if content else None,
        "guesses_empty": float(sum(not text for text in value.texts)),
    }


def _exposed(value: Read, no_model: Mapping[str, Read], null: Read | None, truth: Records) -> tuple[Exposure, ...]:
    """Texts by the content words recovered beyond the best control's. Which words they are, the gallery alone says."""
    own = value.values[HEADLINE]
    others = {name.replace("_", " "): found.values[HEADLINE] for name, found in no_model.items()}
    if null is not None:
        others["other texts' vectors"] = null.values[HEADLINE]
    floor = np.max([*others.values()], axis=0) if others else np.zeros(len(own))
    ranked = np.lexsort((np.arange(len(own)), -(own - floor)))
    rows: list[Exposure] = []
    for place, row in enumerate(ranked.tolist()):
        text = f"{own[row]:.2f} of the content words by weight, ROUGE-L {value.values['rouge_l'][row]:.2f}"
        text += "; word for word" if value.values["exact"][row] else ""
        text += f"; {'' if value.values['record_identified'][row] == 1 else 'not '}the nearest of {len(own)}"
        if others:
            text += "; otherwise: " + ", ".join(f"{name} {found[row]:.2f}" for name, found in others.items())
        rows.append(
            Exposure(
                id=f"text {truth.ids[row]}",
                rank=place + 1,
                value=float(own[row]),
                control=float(floor[row]) if others else None,
                evidence=text,
                index=row,
            )
        )
    return tuple(rows)


def _gallery(value: Read, no_model: Mapping[str, Read], null: Read | None, truth: Records) -> dict[str, Array]:
    gallery = {
        "truth": np.array(truth.texts),
        "guess": np.array(value.texts),
        "value": value.values[HEADLINE],
    }
    if "nearest_public" in no_model:
        gallery["nearest_public_text"] = np.array(no_model["nearest_public"].texts)
    if null is not None:
        gallery["null_guess"] = np.array(null.texts)
    return gallery
