"""What the blind baseline's classifiers see of the raw records."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image
from scipy import sparse
from scipy.stats import rankdata
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.utils.extmath import randomized_svd

from seepage.core.records import Records
from seepage.core.seeds import derive
from seepage.core.vocabulary import Modality

Array = np.ndarray

_SIDE = 32  # images are shrunk to this side for the pixel classifiers
_EXACT = 600  # up to this rank the decomposition is exact, above it is a randomized one of _RANK components
_RANK = 128
_VALUES_AT_ONCE = 10_000_000
_LEADING = 50  # components whose squares and ranks are looked at


@dataclass(frozen=True)
class Features:
    """What the classifiers see; every column centred within its stratum and scaled to unit variance.

    Attributes:
        linear: (n, r) all values, rotated to their principal components.
        spread: (n, k) squares of the leading components or columns.
        summary: (n, s) summary statistics and their squares.
        columns: (n, m) ranks of single columns, and their distance from the middle.
        names: of those single columns.
    """

    linear: Array
    spread: Array
    summary: Array
    columns: Array
    names: tuple[str, ...]

    @property
    def width(self) -> int:
        return self.linear.shape[1] + self.summary.shape[1]

    @classmethod
    def of(cls, records: Records, strata: Array, seed: int) -> "Features":
        """The features of all records, members or not; nothing here looks at membership."""
        names, modality = records.features, records.modality
        stats, stat_names = text_summaries(records.texts) if records.texts else summaries(records.x, modality)
        if records.targets is not None:
            # What is to be predicted is as much part of a record as its class.
            stats = np.concatenate([stats, records.targets], axis=1)
            stat_names = [*stat_names, *(f"target '{name}'" for name in records.outputs)]
        stats, kept = _standard(stats, strata)
        stat_names = [stat_names[i] for i in kept]
        values = _words(records.texts) if records.texts else _flat(records.x, modality)
        raw, kept = _standard(values, strata)
        components = _components(raw, seed)
        if modality is Modality.IMAGE or raw.shape[1] > 4 * _LEADING:
            single = components[:, :_LEADING]
            single_names = [f"component {i + 1}" for i in range(single.shape[1])]
        else:
            single = raw
            single_names = (
                ["a word"] * len(kept)
                if records.texts
                else [f"column '{names[i]}'" if len(names) == values.shape[1] else f"column {i}" for i in kept]
            )
        squares, _ = _standard(np.minimum(single**2, 25), strata)
        wide, _ = _standard(np.concatenate([stats, np.minimum(stats**2, 25)], axis=1), strata)
        both = np.concatenate([single, stats], axis=1)
        ranks = (rankdata(both, axis=0) - 0.5) / len(both) if both.shape[1] else both
        columns = np.concatenate([ranks, np.abs(ranks - 0.5)], axis=1)
        return cls(components, squares, wide, columns, (*single_names, *stat_names))


def summaries(x: Float[Array, " n ..."], modality: Modality) -> tuple[Float[Array, " n s"], list[str]]:
    """Statistics of each record that need no model, and what they are called; some records at a time, to save memory.

    Level, spread, extremes, sparsity, quantisation; for images also the level of each channel, the border, and the
    roughness along rows and columns.
    """
    some = max(1, _VALUES_AT_ONCE // max(1, int(np.prod(x.shape[1:]))))
    parts = [_summaries(x[start : start + some], modality) for start in range(0, len(x), some)]
    return np.concatenate([np.stack(list(part.values()), axis=1) for part in parts]), list(parts[0])


def _summaries(x: Array, modality: Modality) -> dict[str, Array]:
    flat = x.reshape(len(x), -1).astype(np.float64)
    # Quantisation is seen in some thousands of values as well as in all.
    some = np.sort(flat[:, :: max(1, flat.shape[1] // 2048)], axis=1)
    found = {
        "mean": flat.mean(axis=1),
        "standard deviation": flat.std(axis=1),
        "minimum": flat.min(axis=1),
        "maximum": flat.max(axis=1),
        "median": np.median(some, axis=1),
        "share of zeros": (flat == 0).mean(axis=1),
        "share at the minimum": (flat == flat.min(axis=1, keepdims=True)).mean(axis=1),
        "share at the maximum": (flat == flat.max(axis=1, keepdims=True)).mean(axis=1),
        "distinct values": (np.diff(some, axis=1) > 0).mean(axis=1) if some.shape[1] > 1 else np.zeros(len(x)),
    }
    if modality is Modality.IMAGE and x.ndim == 4:
        for channel in range(x.shape[1] if x.shape[1] > 1 else 0):
            found[f"mean of channel {channel}"] = x[:, channel].mean(axis=(1, 2), dtype=np.float64)
        edges = [x[:, :, 0], x[:, :, -1], x[:, :, :, 0], x[:, :, :, -1]]
        found["border"] = np.concatenate([edge.reshape(len(x), -1) for edge in edges], axis=1).mean(
            axis=1, dtype=np.float64
        )
        for axis, name in ((2, "roughness down"), (3, "roughness across")):
            if x.shape[axis] > 1:
                found[name] = np.abs(np.diff(x, axis=axis)).mean(axis=(1, 2, 3), dtype=np.float64)
    return found


def text_summaries(texts: Sequence[str]) -> tuple[Float[Array, " n s"], list[str]]:
    """Statistics of each text: length, length of its words and lines, shares of kinds of character."""
    kinds = {"digits": str.isdigit, "capitals": str.isupper, "spaces": str.isspace, "letters": str.isalpha}
    rows: list[list[float]] = []
    for text in texts:
        n, words = max(1, len(text)), text.split()
        row = [np.log1p(len(text)), sum(map(len, words)) / max(1, len(words)), n / (1 + text.count("\n"))]
        row += [sum(map(test, text)) / n for test in kinds.values()]
        row.append(sum(ord(character) > 127 for character in text) / n)
        rows.append(row)
    shares = [f"share of {kind}" for kind in (*kinds, "characters beyond ASCII")]
    return np.asarray(rows, dtype=np.float64), ["length", "length of words", "length of lines", *shares]


def _words(texts: Sequence[str]) -> Array:
    """A bag of words, hashed, so that no vocabulary is learned."""
    bag = HashingVectorizer(n_features=2048, alternate_sign=False, token_pattern=r"\S+", dtype=np.float64)
    return sparse.csr_matrix(bag.transform(texts)).toarray()


def _flat(x: Array, modality: Modality) -> Array:
    if modality is Modality.IMAGE and x.ndim == 4 and max(x.shape[2:]) > _SIDE:
        height, width = min(_SIDE, x.shape[2]), min(_SIDE, x.shape[3])
        planes = x.reshape(-1, *x.shape[2:])
        x = np.stack(
            [np.asarray(Image.fromarray(p).resize((width, height), Image.Resampling.BOX)) for p in planes]
        ).reshape(len(x), x.shape[1], height, width)
    return x.reshape(len(x), -1).astype(np.float64)


def _standard(values: Array, strata: Array) -> tuple[Array, Array]:
    """Columns centred within strata, in units of their deviation, clipped at 5; constant ones are left out."""
    count = int(strata.max()) + 1
    at = sparse.csr_matrix((np.ones(len(strata)), (strata, np.arange(len(strata)))), shape=(count, len(strata)))
    size = np.asarray(at.sum(axis=1))
    centred = values - (np.asarray(at @ values) / np.maximum(size, 1))[strata]
    deviation = centred.std(axis=0)
    kept = np.nonzero(deviation > 1e-9 * (1 + np.abs(values).max(axis=0, initial=0)))[0]
    return np.clip(centred[:, kept] / deviation[kept], -5, 5), kept


def _components(raw: Array, seed: int) -> Array:
    """Principal components, largest first: the same inner products in fewer columns."""
    if not raw.shape[1]:
        return raw
    if min(raw.shape) <= _EXACT:
        u, s, _ = np.linalg.svd(raw, full_matrices=False)
    else:
        u, s, _ = randomized_svd(raw, _RANK, random_state=derive(seed, "blind", "svd") % 2**32)
    keep = s > 1e-9 * s[0]
    return u[:, keep] * s[keep]
