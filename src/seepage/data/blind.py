"""The blind baseline: can members and non-members be told apart without the model?

If they can, a membership attack may look strong because the two splits differ (in date, source, brightness, file
handling) and not because the model remembers. Many published results rest on such splits: Meeus et al. 2025,
"SoK: Membership inference attacks on LLMs are rushing nowhere", SaTML; Das et al. 2024, "Blind baselines beat
membership inference attacks for foundation models", arXiv 2406.16201.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.stats import rankdata
from sklearn.ensemble import ExtraTreesClassifier
from threadpoolctl import threadpool_limits

from seepage.core.errors import DataError
from seepage.core.record import Check, Estimate
from seepage.core.records import Records
from seepage.core.seeds import derive, stream
from seepage.core.vocabulary import Modality, Task
from seepage.data.blind_features import Features

Array = np.ndarray
_Predict = Callable[[Array, Array], Array]  # rows to train on and rows to score -> scores

_NAME = "blind baseline"
LEVEL = 0.05
_FOLDS = 5
_LEAST = 10  # records of each side below which nothing can be said
_LEAST_FOREST = 40  # records of each side below which half of them train no forest
_TREES = 50
_FOREST_PERMUTATIONS = 999
_TIE = 1e-9  # statistics nearer than this are equal: sums of the same numbers in another order
_LEAST_STRATUM = 4  # classes with fewer records are permuted together
_MOST = {Modality.IMAGE: 2000, Modality.TABLE: 5000, Modality.TEXT: 2000}  # records of each side that are looked at
_MOST_VALUES = 100_000_000  # numbers of each side that are looked at


@dataclass(frozen=True)
class _Part:
    """One classifier: its AUC, and the AUC it has to exceed for its test to fail at the corrected level."""

    name: str
    auc: float
    critical: float

    @property
    def margin(self) -> float:
        return max(self.critical - 0.5, 1e-6)


@dataclass(frozen=True)
class _Test:
    """One test: its classifiers, most telling first, and its p-value."""

    name: str
    parts: tuple[_Part, ...]
    p: float


_UNTESTED = _Test("records", (_Part("nothing: the records do not differ", 0.5, 1.0),), 1.0)


def blind_baseline(members: Records, nonmembers: Records, seed: int = 0, permutations: int = 199) -> Check:
    """Whether classifiers that see the raw records and classes, never the model, beat chance.

    Three tests, each with a p-value by permutation, corrected together by Bonferroni:

    - records: cross-validated ridge classifiers (a linear discriminant in closed form) on all values, on the squares
      of the leading components, and on summary statistics (mean, spread, extremes, sparsity, roughness), and the
      best single column by ranks. The statistic is the greatest of their AUCs, each standardised by its mean and
      spread under permutation (Westfall and Young 1993, "Resampling-based multiple testing").
    - forest: extremely randomised trees (Geurts, Ernst and Wehenkel 2006) trained on one half of the records and
      tested on the other, which finds what is neither linear nor in one column.
    - classes: the share of members in a record's class, cross-validated.

    The first two permute membership within classes only, and look at each record against the mean of its class:
    that is right both for records split at random and for records split at random person by person (5 pictures of
    each as members, 5 not), and people who look different from each other cost no power. Classes with fewer than 4
    records are permuted together. A difference in class counts is left to the third test. Records that are grouped
    by something that is not the class (a patient's visits) and were split by group look tellable apart here; they
    are: records of one group resemble each other.

    When membership was drawn at random the check fails with probability 0.05 at the most, whatever the records.

    Args:
        members: trained on.
        nonmembers: not trained on, with the same shape.
        seed: of permutations, folds and trees.
        permutations: how many; 99 or more, or nothing can be significant.

    Returns:
        A check that fails when the corrected p-value is at most 0.05. Its value is the AUC of the most telling
        classifier (0.5 = chance). The interval is the permutation test turned round: as wide to each side as the AUC
        had to be above 0.5 to fail, so that it lies above 0.5 exactly when the check fails. Null, and passed, when
        either side has fewer than 10 records.

    Raises:
        DataError: when shapes differ, or `permutations` is below 99.
    """
    if members.x.shape[1:] != nonmembers.x.shape[1:]:
        raise DataError(
            f"members and nonmembers should have one shape, got {members.x.shape[1:]} and {nonmembers.x.shape[1:]}"
        )
    if permutations < 99:
        raise DataError(f"permutations is 99 or more, got {permutations}")
    if min(len(members), len(nonmembers)) < _LEAST:
        return Check(
            name=_NAME,
            passed=True,
            message=f"not looked at: {len(members)} members and {len(nonmembers)} non-members; "
            f"at least {_LEAST} of each are needed to see a difference",
        )
    members, nonmembers = _sampled(members, "members", seed), _sampled(nonmembers, "nonmembers", seed)
    # Many small sums: more threads than one wait for each other longer than they work.
    with threadpool_limits(limits=1):
        return _looked_at(members, nonmembers, seed, permutations)


def _looked_at(members: Records, nonmembers: Records, seed: int, permutations: int) -> Check:
    is_member = np.arange(len(members) + len(nonmembers)) < len(members)
    classes = _classes(members, nonmembers)
    strata = _strata(classes, len(is_member))
    targets = None
    if members.targets is not None and nonmembers.targets is not None:
        targets = np.concatenate([members.targets, nonmembers.targets])
    both = Records(
        x=np.concatenate([members.x, nonmembers.x]),
        modality=members.modality,
        features=members.features,
        texts=members.texts + nonmembers.texts,
        task=Task.CLASSES if targets is None else members.task,
        targets=targets,
        outputs=() if targets is None else members.outputs,
    )
    features = Features.of(both, strata, seed)
    y = permuted(is_member, strata, permutations, stream(seed, "blind", "permute"))
    folds = _folds(strata, stream(seed, "blind", "folds"))
    with_forest = min(len(members), len(nonmembers)) >= _LEAST_FOREST and features.columns.shape[1] > 0
    with_classes = classes is not None and np.unique(classes).size > 1
    level = LEVEL / (1 + with_forest + with_classes)
    tests = [_records_test(features, y, folds, level)]
    if with_forest:
        tests.append(_forest_test(features, is_member, strata, level, seed))
    if classes is not None and with_classes:
        tests.append(_class_test(classes, is_member, permutations, level, seed))
    return _verdict(tests, features, is_member)


def permuted(
    labels: Bool[Array, " n"], strata: Int[Array, " n"], count: int, rng: np.random.Generator
) -> Float[Array, " n k"]:
    """The labels as 0/1 in the first column, and `count` permutations of them within strata in the others."""
    out = np.repeat(labels.astype(np.float64)[:, None], count + 1, axis=1)
    for stratum in np.unique(strata):
        rows = np.nonzero(strata == stratum)[0]
        out[rows, 1:] = rng.permuted(out[rows, 1:], axis=0)
    return out


def auc_columns(scores: Float[Array, " n k"], labels: Float[Array, " n k"]) -> tuple[Array, Array]:
    """AUC of each column of scores against the same column of 0/1 labels, and how many pairs it is over.

    Ties count half (Mann-Whitney). Without a pair the AUC is 0.5 and the count 0.
    """
    # Equal records must tie: rounding in sums would order them at random.
    ranks = rankdata(np.round(scores, 9), axis=0)
    positive = labels.sum(axis=0)
    pairs = positive * (len(labels) - positive)
    wins = (ranks * labels).sum(axis=0) - positive * (positive + 1) / 2
    return np.where(pairs > 0, wins / np.maximum(pairs, 1), 0.5), pairs


def _classes(members: Records, nonmembers: Records) -> Array | None:
    if members.y is None or nonmembers.y is None or members.class_names != nonmembers.class_names:
        return None
    return np.concatenate([members.y, nonmembers.y])


def _strata(classes: Array | None, n: int) -> Int[Array, " n"]:
    """A number from 0 for each class with enough records, one for all others together."""
    if classes is None:
        return np.zeros(n, dtype=np.int64)
    # By size, which permuting membership leaves alone, and never by how many of a class are members.
    big = np.nonzero(np.bincount(classes) >= _LEAST_STRATUM)[0]
    number = np.full(int(classes.max()) + 1, len(big))
    number[big] = np.arange(len(big))
    return number[classes]


def _folds(strata: Array, rng: np.random.Generator) -> Int[Array, " n"]:
    """A fold for each record, drawn without looking at membership, even within strata."""
    folds = np.zeros(len(strata), dtype=np.int64)
    begin = 0
    for stratum in np.unique(strata):
        rows = rng.permutation(np.nonzero(strata == stratum)[0])
        folds[rows] = (begin + np.arange(len(rows))) % _FOLDS
        begin += len(rows)
    return folds


def _sampled(records: Records, which: str, seed: int) -> Records:
    most = min(_MOST[records.modality], max(200, _MOST_VALUES // max(1, int(np.prod(records.x.shape[1:])))))
    if len(records) <= most:
        return records
    return records[np.sort(stream(seed, "blind", "sample", which).permutation(len(records))[:most])]


def _records_test(features: Features, y: Array, folds: Array, level: float) -> _Test:
    """The classifiers that are cross-validated again under every permutation."""
    ridges = {
        "all values": (features.linear, 0.1),
        "all values, smoothed": (features.linear, 10.0),
        "squared values": (features.spread, 1.0),
        "summary statistics": (features.summary, 0.1),
    }
    predictors: dict[str, _Predict] = {
        name: partial(_ridge, values, y, strength) for name, (values, strength) in ridges.items() if values.shape[1]
    }
    if features.columns.shape[1]:
        predictors["one column"] = partial(_best_column, features.columns, y)
    aucs = {name: _cross_validated(y, folds, predict) for name, predict in predictors.items()}
    if not aucs:
        return _UNTESTED
    table = np.stack(list(aucs.values()))
    mean, spread = table.mean(axis=1), table.std(axis=1)
    z = (table - mean[:, None]) / np.where(spread > 0, spread, 1)[:, None]
    greatest = z.max(axis=0)
    bar = _critical(greatest, level)
    parts = [_Part(name, float(table[i, 0]), float(mean[i] + bar * spread[i])) for i, name in enumerate(aucs)]
    order = np.argsort(-z[:, 0], kind="stable")
    return _Test("records", tuple(parts[i] for i in order), _p_value(greatest))


def _p_value(values: Array) -> float:
    """The share of arrangements, the one observed (the first) included, whose value is as great as that."""
    return float((values >= values[0] - _TIE).mean())


def _critical(values: Array, level: float) -> float:
    """What the first value has to exceed so that its p-value among all is at most `level`."""
    allowed = int(level * len(values) + 1e-9)
    return float(np.sort(values[1:])[-allowed])


def _cross_validated(y: Array, folds: Array, predict: _Predict) -> Array:
    """The AUC of each column, averaged over folds by their number of pairs.

    Within folds, because pooled scores carry the mean of the other folds, which tells against the truth.
    """
    total, pairs = np.zeros(y.shape[1]), np.zeros(y.shape[1])
    for fold in range(_FOLDS):
        test = folds == fold
        auc, count = auc_columns(predict(~test, test), y[test])
        total += auc * count
        pairs += count
    return np.where(pairs > 0, total / np.maximum(pairs, 1), 0.5)


def _ridge(values: Array, y: Array, strength: float, train: Array, test: Array) -> Array:
    """Ridge regression of every column of `y` at once; for two classes its direction is the discriminant's."""
    x = values[train]
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += strength * max(float(np.trace(gram)) / len(gram), 1e-12)
    return values[test] @ np.linalg.solve(gram, x.T @ (y[train] - y[train].mean(axis=0)))


def _best_column(columns: Array, y: Array, train: Array, test: Array) -> Array:
    """For every column of `y`, the one column of the records most correlated with it in training."""
    x = columns[train] - columns[train].mean(axis=0)
    length = np.linalg.norm(x, axis=0)
    told = (x.T @ (y[train] - y[train].mean(axis=0))) / np.where(length > 0, length, 1)[:, None]
    # Rounded, so that equal columns do not change places with the rounding of sums.
    best = np.round(np.abs(told), 9).argmax(axis=0)
    return columns[test][:, best] * np.sign(told[best, np.arange(y.shape[1])])


def _forest_test(features: Features, is_member: Array, strata: Array, level: float, seed: int) -> _Test:
    """Trees fitted to one half of the records; the labels of the other half are permuted, exactly and cheaply."""
    rng = stream(seed, "blind", "forest")
    train = np.zeros(len(is_member), dtype=bool)
    for stratum in np.unique(strata):
        for side in (True, False):
            rows = rng.permutation(np.nonzero((strata == stratum) & (is_member == side))[0])
            # Where the half is no whole number, a draw decides, so that no stratum is always short.
            train[rows[: int(len(rows) / 2 + rng.uniform())]] = True
    if len(np.unique(is_member[train])) < 2:
        return _UNTESTED
    forest = ExtraTreesClassifier(
        _TREES, min_samples_leaf=3, n_jobs=1, random_state=derive(seed, "blind", "trees") % 2**32
    )
    forest.fit(features.columns[train], is_member[train])
    scores = np.asarray(forest.predict_proba(features.columns[~train]))[:, 1]
    y = permuted(is_member[~train], strata[~train], _FOREST_PERMUTATIONS, rng)
    ranks = rankdata(np.round(scores, 9))
    positive = float(y[:, 0].sum())
    pairs = positive * (len(y) - positive)
    if pairs == 0:
        return _UNTESTED
    auc = (ranks @ y - positive * (positive + 1) / 2) / pairs
    return _Test("forest", (_Part("forest", float(auc[0]), _critical(auc, level)),), _p_value(auc))


def _class_test(classes: Array, is_member: Array, permutations: int, level: float, seed: int) -> _Test:
    """The share of members in a record's class, learned from the other folds."""
    rng = stream(seed, "blind", "classes")
    everything = np.zeros(len(classes), dtype=np.int64)
    y = permuted(is_member, everything, permutations, rng)
    folds = _folds(everything, rng)
    n = len(classes)
    hot = sparse.csr_matrix((np.ones(n), (np.arange(n), classes)))

    def predict(train: Array, test: Array) -> Array:
        prior = y[train].mean(axis=0)
        counts = np.asarray(hot[train].sum(axis=0)).reshape(-1, 1)
        shares = (hot[train].T @ y[train] + prior) / (counts + 1)
        return np.asarray(hot[test] @ shares)

    auc = _cross_validated(y, folds, predict)
    return _Test("classes", (_Part("class counts", float(auc[0]), _critical(auc, level)),), _p_value(auc))


def _verdict(tests: list[_Test], features: Features, is_member: Array) -> Check:
    p = min(1.0, len(tests) * min(test.p for test in tests))
    found = max(tests, key=lambda test: (test.parts[0].auc - 0.5) / test.parts[0].margin)
    part = found.parts[0]
    value = Estimate(value=part.auc, low=max(0.0, part.auc - part.margin), high=min(1.0, part.auc + part.margin))
    figures = f"AUC {value.value:.3f} [{value.low:.3f}, {value.high:.3f}], by {part.name}, p = {p:.3f}"
    # Both, because in small samples an AUC below one half can still be high for a permutation.
    if p > LEVEL or value.low <= 0.5:
        message = f"without the model, members and non-members are not told apart: {figures}"
        return Check(name=_NAME, passed=True, message=message, value=value)
    hint = _telling(features, is_member) if found.name != "classes" else "the classes have other shares of members"
    message = (
        f"members and non-members are told apart without the model: {figures}{'; ' + hint if hint else ''}; membership "
        "scores may show this difference instead of what the model remembers: draw both from one shuffled source"
    )
    return Check(name=_NAME, passed=False, message=message, value=value)


def _telling(features: Features, is_member: Array) -> str:
    """The single column that differs most, when one stands out."""
    m = len(features.names)
    y = np.repeat(is_member.astype(np.float64)[:, None], 2 * m, axis=1)
    auc, _ = auc_columns(features.columns, y)
    apart = np.abs(auc - 0.5)
    best = int(apart.argmax())
    members = float(is_member.sum())
    others = len(is_member) - members
    deviation = np.sqrt((len(is_member) + 1) / (12 * members * others))
    if apart[best] < 4 * deviation:
        return ""
    how = "in level" if best < m else "in spread"
    return f"most telling is {features.names[best % m]}, which differs {how}"
