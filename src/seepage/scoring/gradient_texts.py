"""Scores of texts recovered from updates: how much of each client's texts was written back?

Pure: `(guess, secret, controls) -> scores`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from seepage.core.errors import DataError
from seepage.core.guess import Guess, Texts
from seepage.core.record import Exposure, Score
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import GradientSecret
from seepage.core.tokens import tokens
from seepage.scoring import controls as against
from seepage.scoring.texts import rouge_l, rouge_n

Array = np.ndarray
HEADLINE = "token_recall"
# How many tokens of a guess are read, for each token of the true text: a list of all words would recall everything.
READ = 2.0
_TITLES = {
    HEADLINE: "Words and marks of each text recovered",
    "batch_recall": "Words and marks of each client's texts recovered, whichever the text",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "exact": "Texts recovered exactly",
}
_METHOD = (
    "texts guessed for a client are matched one to one to its true ones by the tokens they share; of a guess twice as "
    "many tokens as the true text has are read. Wilson, or its extension to shares, over {unit}s; differences to "
    "controls paired"
)


@dataclass(frozen=True)
class Recovered:
    """A guess held against the texts, text by text.

    Attributes:
        texts: (n,) the guess matched to each text; empty where there is none.
        values: by score, (n,) numbers from 0 to 1; `batch_recall` is that of the text's client.
        extra: how many guessed texts were matched to none.
    """

    texts: tuple[str, ...]
    values: Mapping[str, Float[Array, " n"]]
    extra: int


def score(guess: Guess, secret: GradientSecret, controls: Controls) -> Scored:
    """Scores of the texts guessed for each client against those it trained on.

    - `token_recall` (headline): of a text's words and punctuation marks, each as often as it stands there, the share
      that stands in the guess matched to it. Chance 0: a guess blind of texts names no word; what ordinary language
      recalls by itself is what the frequent words, a public text and another batch's update show.
    - `batch_recall`: the same of all of a client's texts together, whichever guess a word stands in.
    - `rouge_1`, `rouge_2`, `rouge_l`: F1 of words, pairs of words and the longest common subsequence.
    - `exact`: the same text, spacing and case aside.

    The unit of an interval is the client, or the text where there is one client. The gallery holds, one row a text,
    `truth`, `guess` and `null_guess`, as texts, and `value`. It is private.

    Raises:
        DataError: for a guess that does not speak of each client, or a secret without texts.
    """
    truth = _Truth(secret)
    value = truth.compare(guess, "the attack's guess")
    no_model = {name: truth.compare(other, f"the control '{name}'") for name, other in controls.no_model.items()}
    null = None
    if controls.null_model is not None:
        null = truth.compare(controls.null_model, "the attack given another batch's update")

    def measured(name: str) -> Score:
        return against.score(
            name,
            _TITLES[name],
            truth.measure(value, name),
            against.Against(
                chance=0.0,
                no_model={part: truth.measure(found, name) for part, found in no_model.items()},
                null_model=None if null is None else truth.measure(null, name),
                missing=dict(controls.missing),
            ),
            n=truth.units,
            unit=truth.unit,
            method=_METHOD.format(unit=truth.unit),
        )

    return Scored(
        scores={name: measured(name) for name in _TITLES},
        headline=HEADLINE,
        exposed=_exposed(value, no_model, null, truth),
        gallery=_gallery(value, null, truth),
        facts=_facts(value, truth),
    )


class _Truth:
    """The texts of the clients, as every guess is compared with them."""

    def __init__(self, secret: GradientSecret):
        if not secret.batch.texts:
            raise DataError("texts of a batch were wanted in the secret, there are none")
        self.batch = secret.batch
        self.texts = secret.batch.texts
        self.client = np.zeros(len(self.texts), dtype=np.int64) if secret.client is None else secret.client
        self.clients = np.unique(self.client)
        self.tokens = [tokens(text) for text in self.texts]

    @property
    def unit(self) -> str:
        return "client" if len(self.clients) > 1 else "text"

    @property
    def units(self) -> int:
        return len(self.clients) if len(self.clients) > 1 else len(self.texts)

    def measure(self, found: Recovered, name: str) -> against.Measure:
        values = found.values[name]
        if self.unit == "client":
            values = np.array([values[self.client == c].mean() for c in self.clients])
        return against.UnitMean(values, np.arange(len(values)))

    def compare(self, guess: Guess, what: str) -> Recovered:
        """A guess held against the texts, client by client.

        Raises:
            DataError: when it is no Texts, or does not speak of each client.
        """
        if not isinstance(guess, Texts):
            raise DataError(f"{what}: Texts were wanted, got a {type(guess).__name__}")
        if len(guess.values) != len(self.clients):
            raise DataError(
                f"{what}: texts for each of {len(self.clients)} clients were wanted, got {len(guess.values)}"
            )
        made = [""] * len(self.texts)
        together = np.zeros(len(self.texts))
        extra = 0
        for c, guessed in zip(self.clients, guess.values, strict=True):
            rows = np.nonzero(self.client == c)[0]
            split = [tokens(text) for text in guessed]
            shared = np.array([[_recall(found, self.tokens[row]) for found in split] for row in rows])
            pairs = linear_sum_assignment(-shared.reshape(len(rows), len(split)))
            for row, k in zip(*pairs, strict=True):
                made[rows[row]] = guessed[k]
            extra += len(guessed) - len(pairs[0])
            whole = [token for row in rows for token in self.tokens[row]]
            together[rows] = _recall([token for found in split for token in found], whole)
        return Recovered(tuple(made), {**self._values(made), "batch_recall": together}, extra)

    def _values(self, made: Sequence[str]) -> dict[str, Float[Array, " n"]]:
        pairs = list(zip(made, self.texts, strict=True))
        found = {
            HEADLINE: [_recall(tokens(guess), truth) for guess, truth in zip(made, self.tokens, strict=True)],
            "rouge_1": [rouge_n(guess, truth, 1).f1 for guess, truth in pairs],
            "rouge_2": [rouge_n(guess, truth, 2).f1 for guess, truth in pairs],
            "rouge_l": [rouge_l(guess, truth).f1 for guess, truth in pairs],
            "exact": [float(bool(truth) and tokens(guess) == tokens(truth)) for guess, truth in pairs],
        }
        return {name: np.array(values, dtype=np.float64) for name, values in found.items()}


def _recall(guess: Sequence[str], truth: Sequence[str]) -> float:
    """The share of the tokens of `truth`, with repeats, that stand among the first of `guess`; 0 of an empty text."""
    kept = guess[: round(READ * len(truth))]
    return (Counter(kept) & Counter(truth)).total() / len(truth) if truth else 0.0


def _facts(value: Recovered, truth: _Truth) -> dict[str, float | str | None]:
    worst, middle, best = np.quantile(value.values[HEADLINE], [0, 0.5, 1])
    return {
        "records": float(len(truth.texts)),
        "clients": float(len(truth.clients)),
        "tokens_a_text": float(np.mean([len(found) for found in truth.tokens])),
        "not_reconstructed": float(sum(not text for text in value.texts)),
        "reconstructions_of_no_record": float(value.extra),
        "token_recall_worst": float(worst),
        "token_recall_median": float(middle),
        "token_recall_best": float(best),
    }


def _named(truth: _Truth, row: int) -> str:
    return f"client {int(truth.client[row])}, text {truth.batch.ids[row]}"


def _exposed(
    value: Recovered, no_model: Mapping[str, Recovered], null: Recovered | None, truth: _Truth
) -> tuple[Exposure, ...]:
    """Texts by the tokens recovered beyond the best control's. Which ones they are, the gallery alone says."""
    own = value.values[HEADLINE]
    others = {name.replace("_", " "): found.values[HEADLINE] for name, found in no_model.items()}
    if null is not None:
        others["another batch's update"] = null.values[HEADLINE]
    floor = np.max([*others.values()], axis=0) if others else np.zeros(len(own))
    # The record wants the greatest value first; of equal ones, the one that controls say least of.
    order = np.lexsort((np.arange(len(own)), floor, -own))
    rows: list[Exposure] = []
    for place, row in enumerate(order.tolist()):
        text = f"{own[row]:.0%} of its {len(truth.tokens[row])} words and marks"
        text += "; exactly" if value.values["exact"][row] else f"; ROUGE-L {value.values['rouge_l'][row]:.2f}"
        if others:
            text += "; otherwise: " + ", ".join(f"{name} {found[row]:.0%}" for name, found in others.items())
        rows.append(
            Exposure(
                id=_named(truth, row),
                rank=place + 1,
                value=float(own[row]),
                control=float(floor[row]) if others else None,
                evidence=text,
                index=row,
            )
        )
    return tuple(rows)


def _gallery(value: Recovered, null: Recovered | None, truth: _Truth) -> dict[str, Array]:
    gallery: dict[str, Array] = {
        "labels": np.arange(len(truth.texts), dtype=np.int64),
        "class_names": np.array([_named(truth, row) for row in range(len(truth.texts))]),
        "truth": np.array(truth.texts),
        "guess": np.array(value.texts),
        "value": value.values[HEADLINE],
    }
    if null is not None:
        gallery["null_guess"] = np.array(null.texts)
    return gallery
