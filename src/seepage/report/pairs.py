"""Recovered texts beside the true ones and beside what is had without the model: shown only when asked for."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from seepage.core.errors import StoreError
from seepage.core.record import Finding
from seepage.report.arms import of_updates

Array = np.ndarray

MOST_TEXTS = 40
# A longer text is cut: the report is for looking, the whole stands in the run folder.
MOST_LETTERS = 600

_COLUMNS = {
    "guess": "recovered",
    "nearest_public_text": "nearest public text, chosen with the true one in hand",
    "null_guess": "recovered from another text's vector",
}
# Of updates the control is the update of other texts.
_OF_UPDATES = {"null_guess": "recovered from the update of other texts"}


@dataclass(frozen=True)
class TextPair:
    """One private text with what was made of its vector, or of the update it went into.

    Attributes:
        rank: among the exposed, 1 for the most exposed.
        name: what the record calls the text.
        value: of the headline score; None where nobody knows the text.
        truth: the text itself; None likewise.
        others: what stands beside it, in the order of the columns.
    """

    rank: int | None
    name: str
    value: float | None
    truth: str | None
    others: tuple[str, ...]


@dataclass(frozen=True)
class TextPairs:
    """The texts of one finding, most exposed first.

    Attributes:
        columns: what stands beside the true texts.
        total: how many texts there are, shown or not.
    """

    finding: Finding
    columns: tuple[str, ...]
    pairs: tuple[TextPair, ...]
    total: int

    @property
    def known(self) -> bool:
        """Whether the true texts are there: not those of a captured update whose batch nobody here knows."""
        return any(pair.truth is not None for pair in self.pairs)

    @property
    def measure(self) -> str:
        """What the value of a row counts."""
        return "words and marks" if of_updates(self.finding) else "content words"


def text_pairs(finding: Finding, arrays: Mapping[str, Array], most: int = MOST_TEXTS) -> TextPairs | None:
    """The texts of a finding, or None when its arrays hold none.

    Raises:
        StoreError: when the arrays do not fit together.
    """
    if "guess" not in arrays:
        return None
    captions = _COLUMNS | _OF_UPDATES if of_updates(finding) else _COLUMNS
    kinds = [kind for kind in _COLUMNS if kind in arrays]
    if "truth" not in arrays:
        rows = arrays["guess"][:most]
        found = [TextPair(None, f"guess {i + 1}", None, None, (_cut(str(text)),)) for i, text in enumerate(rows)]
        return TextPairs(finding, (captions["guess"],), tuple(found), len(arrays["guess"]))
    n = len(arrays["truth"])
    for name in (*kinds, "value"):
        if name not in arrays or arrays[name].shape != (n,):
            raise StoreError(
                f"the texts of {finding.id} do not fit together: {n} true ones, and '{name}' is not as many"
            )
    exposure = {e.index: e for e in finding.exposed if e.index is not None and 0 <= e.index < n}
    rows = [*exposure, *(i for i in range(n) if i not in exposure)]
    made = [
        TextPair(
            rank=exposure[i].rank if i in exposure else None,
            name=exposure[i].id if i in exposure else f"text {i}",
            value=float(arrays["value"][i]),
            truth=_cut(str(arrays["truth"][i])),
            others=tuple(_cut(str(arrays[kind][i])) for kind in kinds),
        )
        for i in rows[:most]
    ]
    return TextPairs(finding, tuple(captions[kind] for kind in kinds), tuple(made), n)


def _cut(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else text[:MOST_LETTERS] + " …"
