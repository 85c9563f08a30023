"""What was recovered, beside the real thing and beside what could be had without the model."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from seepage.core.errors import StoreError
from seepage.core.record import Exposure, Finding
from seepage.report.arms import of_records, of_updates
from seepage.report.numbers import MISSING, number
from seepage.report.pictures import data_uri, drawable

Array = np.ndarray

MOST_CLASSES = 60
MOST_BYTES = 24_000_000
MOST_FEATURES = 12
PER_PAGE = 12

# Array -> caption, and the judge's confidence that goes with it.
_COLUMNS = {
    "real": ("real", None),
    "reconstruction": ("recovered", "judge_confidence"),
    "nearest_public": ("nearest", "nearest_judge_confidence"),
    "null_reconstruction": ("null model", "null_judge_confidence"),
    "prior_draw": ("random", None),
}

_ABOUT = {
    "real": "a real record of {name}, from the training data",
    "reconstruction": "what the attack recovered for {name}",
    "nearest_public": "the public record nearest to {name}, had without the model",
    "null_reconstruction": "what the same attack recovers from a model that never saw {name}",
    "prior_draw": "a random draw of what is publicly known",
}


# Of single records the control is another record's answer, and the nearest public record is shown, not counted.
_OF_RECORDS = {"null_reconstruction": ("other answer", "null_judge_confidence")}
_ABOUT_RECORDS = {
    "real": "the record of {name} that the captured answer was given to",
    "reconstruction": "what the attack recovered from the answer to that record of {name}",
    "nearest_public": "the public record nearest to it, found with the record in hand",
    "null_reconstruction": "what the same attack makes of the answer to another record",
}


# Of updates the control is the update of other records.
_OF_UPDATES = {"null_reconstruction": ("other update", "null_judge_confidence")}
_ABOUT_UPDATES = {
    "real": "{name}, as the client has it",
    "reconstruction": "what the attack recovered for {name}",
    "nearest_public": "the public record nearest to it, found with the record in hand",
    "null_reconstruction": "what the same attack makes of the update of other records",
}


@dataclass(frozen=True)
class Shot:
    """One picture of a card.

    Attributes:
        kind: name of the array it comes from.
        caption: two words.
        alt: what it is, for those who do not see it.
        src: a data URI; empty for a table.
        confidence: the judge's probability for the true class, where it was asked.
    """

    kind: str
    caption: str
    alt: str
    src: str
    confidence: float | None

    @property
    def control(self) -> bool:
        """True for what could be had without the model."""
        return self.kind not in ("real", "reconstruction")


@dataclass(frozen=True)
class Card:
    """One class: its pictures (or a table of values) and the judge's verdict.

    A control that has nothing for this class has no picture here.
    """

    rank: int | None
    name: str
    shots: tuple[Shot, ...]
    values: tuple[tuple[str, ...], ...]
    hit: bool | None
    judged: str


@dataclass(frozen=True)
class Gallery:
    """The cards of one finding, most exposed first, in pages."""

    finding: Finding
    pages: tuple[tuple[Card, ...], ...]
    total: int
    pictures: bool

    @property
    def shown(self) -> int:
        """How many classes are in the file."""
        return sum(len(page) for page in self.pages)


def gallery(
    finding: Finding, arrays: Mapping[str, Array], most: int = MOST_CLASSES, most_bytes: int = MOST_BYTES
) -> Gallery | None:
    """The gallery of one finding, or None when its arrays hold none.

    Args:
        finding: gives the order, most exposed first.
        arrays: its gallery arrays, by name.
        most: how many classes at the most.
        most_bytes: how large all its pictures may be together.

    Raises:
        StoreError: when the arrays do not fit together.
    """
    if "labels" not in arrays or "reconstruction" not in arrays:
        return None
    n = len(arrays["labels"])
    for name in (*_COLUMNS, "judge_class", "judge_confidence", "judge_rank", "null_judge_confidence"):
        if name in arrays and (arrays[name].ndim < 1 or len(arrays[name]) != n):
            raise StoreError(
                f"the gallery of {finding.id} does not fit together: {n} labels, '{name}' of shape {arrays[name].shape}"
            )
    exposure = {e.index: e for e in finding.exposed if e.index is not None and 0 <= e.index < n}
    rows = list(exposure) or _by_confidence(arrays, n)
    rows += [i for i in range(n) if i not in set(rows)]
    pictures = drawable(arrays["reconstruction"])
    cards: list[Card] = []
    size = 0
    captions, about = _said_of(finding)
    for i in rows[:most]:
        card = _card(i, exposure.get(i), arrays, pictures, captions, about)
        size += sum(len(shot.src) for shot in card.shots)
        if size > most_bytes and cards:
            break
        cards.append(card)
    pages = tuple(tuple(cards[k : k + PER_PAGE]) for k in range(0, len(cards), PER_PAGE))
    return Gallery(finding, pages, n, pictures)


def _by_confidence(arrays: Mapping[str, Array], n: int) -> list[int]:
    if "judge_confidence" not in arrays:
        return list(range(n))
    return [int(i) for i in np.argsort(-np.nan_to_num(arrays["judge_confidence"], nan=-1.0), kind="stable")]


def _said_of(finding: Finding) -> tuple[Mapping[str, tuple[str, str | None]], Mapping[str, str]]:
    """Captions and descriptions of the columns, in the words of what was attacked."""
    if of_records(finding):
        return _COLUMNS | _OF_RECORDS, _ABOUT | _ABOUT_RECORDS
    if of_updates(finding):
        return _COLUMNS | _OF_UPDATES, _ABOUT | _ABOUT_UPDATES
    return _COLUMNS, _ABOUT


def _card(
    i: int,
    exposure: Exposure | None,
    arrays: Mapping[str, Array],
    pictures: bool,
    columns: Mapping[str, tuple[str, str | None]],
    about: Mapping[str, str],
) -> Card:
    name = exposure.id if exposure else _class_name(int(arrays["labels"][i]), arrays)
    shots: list[Shot] = []
    for kind, (caption, confidence) in columns.items():
        if kind in arrays:
            sure = _at(arrays, confidence, i) if confidence else None
            if sure is None and confidence in arrays and kind != "reconstruction":
                continue
            src = data_uri(arrays[kind][i], _bound(arrays, "low"), _bound(arrays, "high")) if pictures else ""
            shots.append(Shot(kind, caption, about[kind].format(name=name), src, sure))
    values = () if pictures else _values(i, arrays)
    hit, judged = _judged(i, arrays)
    return Card(exposure.rank if exposure else None, name, tuple(shots), values, hit, judged)


def _bound(arrays: Mapping[str, Array], name: str) -> Array:
    if name in arrays:
        return np.asarray(arrays[name], dtype=np.float64)
    return np.asarray(0.0 if name == "low" else 1.0)


def _at(arrays: Mapping[str, Array], name: str, i: int) -> float | None:
    if name not in arrays:
        return None
    value = float(arrays[name][i])
    return value if np.isfinite(value) else None


def _class_name(c: int, arrays: Mapping[str, Array]) -> str:
    """The name of class `c`: `class_names` are by class number, or one for each row where only some classes are."""
    names = arrays.get("class_names")
    if names is None:
        return f"class {c}"
    numbers = [int(label) for label in arrays["labels"]]
    if len(names) == len(numbers) and max(numbers, default=0) >= len(names):
        return str(names[numbers.index(c)]) if c in numbers else f"class {c}"
    return str(names[c]) if 0 <= c < len(names) else f"class {c}"


def _judged(i: int, arrays: Mapping[str, Array]) -> tuple[bool | None, str]:
    if "said" in arrays and "hit" in arrays:
        return bool(arrays["hit"][i]), str(arrays["said"][i])
    if "said" in arrays:
        return None, str(arrays["said"][i])
    if "judge_class" not in arrays:
        return None, "not judged"
    says = int(arrays["judge_class"][i])
    if says == int(arrays["labels"][i]):
        return True, "recognised"
    rank = _at(arrays, "judge_rank", i)
    place = f"; the true one came {_ordinal(int(rank))}" if rank is not None else ""
    return False, f"taken for {_class_name(says, arrays)}{place}"


def _ordinal(n: int) -> str:
    ending = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _values(i: int, arrays: Mapping[str, Array]) -> tuple[tuple[str, ...], ...]:
    """Header and rows of a table of values, one row a feature; what has no columns gives no table."""
    kinds = [kind for kind in _COLUMNS if kind in arrays and arrays[kind].ndim == 2]
    if not kinds:
        return ()
    d = min(arrays[kind].shape[1] for kind in kinds)
    names = arrays.get("features")
    rows: list[tuple[str, ...]] = [("feature", *(_COLUMNS[kind][0] for kind in kinds))]
    for j in range(min(d, MOST_FEATURES)):
        label = str(names[j]) if names is not None and j < len(names) else f"feature {j}"
        cells = (float(arrays[kind][i, j]) for kind in kinds)
        rows.append((label, *(number(v) if np.isfinite(v) else MISSING for v in cells)))
    if d > MOST_FEATURES:
        rows.append((f"and {d - MOST_FEATURES} more", *("" for _ in kinds)))
    return tuple(rows)
