"""What a victim's answers must look like, whichever way they came: one set of checks for all adapters.

Everything here is float64 and numpy; the differentiable counterpart lives with the torch adapter.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from seepage.core.errors import ConfigError, DataError, ModelError, did_you_mean
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec

Array = np.ndarray

OUTPUTS = ("logits", "probabilities", "log_probabilities")

# Below this a log-probability says no more than "none": the logarithm of the least normal float32.
LEAST_LOG = float(np.log(np.finfo(np.float32).tiny))


def choice(name: str, value: str, options: Iterable[str]) -> str:
    """`value`, when it is one of `options`.

    Raises:
        ConfigError: naming the options, with a "did you mean".
    """
    known = tuple(options)
    if value not in known:
        raise ConfigError(f"{name} is one of {', '.join(known)}; got {value!r}: {did_you_mean(str(value), known)}")
    return value


def positive(name: str, value: float | int) -> None:
    """Raise a ConfigError unless `value` is a finite number above zero."""
    if not np.isfinite(value) or value <= 0:
        raise ConfigError(f"{name} is a number above zero, got {value!r}")


def enough_classes(classes: int | None, who: str) -> None:
    """Raise a ModelError unless there are two classes or more (None: not known yet)."""
    if classes is not None and classes < 2:
        raise ModelError(f"{who}: a classifier has two classes or more, got {classes}")


def as_batch(spec: InputSpec, x: Array) -> Float[Array, " n ..."]:
    """`x` as a float32 batch of the victim's records, shape and finiteness checked.

    The value range is not checked here: a target checks it before an adversary's query, and an
    owner may ask about a record that lies a little outside the range seen so far.

    Raises:
        DataError: naming what was wanted and what came.
    """
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise DataError(f"records: numbers were wanted, got values of type {x.dtype}")
    if x.shape[1:] != spec.shape or x.ndim == 0:
        raise DataError(f"records: a batch of shape (n, {', '.join(map(str, spec.shape))}) was wanted, got {x.shape}")
    x = x.astype(np.float32, copy=False)
    if not np.isfinite(x).all():
        raise DataError("records: finite values were wanted, got NaN or infinity; drop or impute these records")
    return x


def prepared(spec: InputSpec, x: Float[Array, " n ..."]) -> Any:
    """Records as a victim of functions takes them: prepared as the spec says, or the table they came from."""
    return spec.prepare(x) if spec.form is None else spec.form.frame(x)


def refuse_table(spec: InputSpec, who: str) -> None:
    """Refuse a table in its own form: `who` takes numbers.

    Raises:
        ModelError: naming the columns that are none.
    """
    if spec.form is None:
        return
    texts = ", ".join(f"'{name}'" for name in spec.form.texts[:5]) or "none"
    raise ModelError(
        f"{who} takes numbers, and the table was read in its own form (columns that are no numbers: {texts}): choose "
        'encode = "onehot" or "ordinal" as its training did, or wrap it in a function that takes the table'
    )


def probe_records(spec: InputSpec, n: int = 4) -> Float[Array, " n ..."]:
    """`n` records to ask a new victim about: the middle of the bounds, then uniform draws within them."""
    unit = stream(0, "targets", "probe").uniform(size=(n, *spec.shape)).astype(np.float32)
    unit[0] = 0.5
    return spec.bounds.from_unit(unit)


def agreed_classes(classes: int | None, class_names: Sequence[str], who: str) -> int | None:
    """The number of classes that a declaration gives, or None when it gives none.

    Raises:
        ConfigError: when the number and the names disagree, or a name comes twice.
        ModelError: for fewer than two classes.
    """
    if len(set(class_names)) != len(class_names):
        raise ConfigError(f"{who}: class_names holds a name twice: {', '.join(class_names)}")
    if class_names and classes is not None and classes != len(class_names):
        raise ConfigError(f"{who}: {classes} classes were declared, with {len(class_names)} class_names")
    count = classes if classes is not None else (len(class_names) or None)
    enough_classes(count, who)
    return count


def fit_shape(wanted: Sequence[Any], x: Float[Array, " n ..."], who: str) -> Float[Array, " n ..."]:
    """`x` in the shape that the victim's input declares, flattened when it takes rows of numbers.

    Args:
        wanted: the declared sides without the batch axis; anything but a positive integer is free.
        x: prepared records.
        who: names the victim in the message.

    Raises:
        ModelError: when the declared shape is another one.
    """
    sides = [side if isinstance(side, int) and side > 0 else None for side in wanted]
    sizes: list[int] = [int(side) for side in x.shape]
    shapes = [tuple(sizes[1:]), (int(np.prod(sizes[1:])),)]
    for shape in shapes:
        if len(shape) == len(sides) and all(want in (None, got) for want, got in zip(sides, shape, strict=True)):
            return x.reshape(len(x), *shape)
    declared = ", ".join("any" if side is None else str(side) for side in sides)
    raise ModelError(
        f"{who} takes records of shape ({declared}), but a record is prepared as {x.shape[1:]}; "
        "declare the victim's own shape and layout under [victim] input"
    )


def as_rows(raw: Any, n: int, who: str, error: type[ModelError] = ModelError) -> Float[Array, " n k"]:
    """An answer to `n` records as (n, k) finite float64; one number a record becomes k = 1.

    Raises:
        ModelError: (or `error`) when it is not numbers, not finite or of another shape.
    """
    try:
        rows = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise error(f"{who} answered something that is not an array of numbers: {_short(raw)}") from cause
    if rows.ndim == 1:
        rows = rows[:, None]
    elif rows.ndim > 2 and all(side == 1 for side in rows.shape[2:]):
        rows = rows.reshape(rows.shape[:2])
    if rows.ndim != 2 or len(rows) != n or (n and not rows.size):
        raise error(f"{who} was asked about {n} records: (n, classes) scores were wanted, got shape {np.shape(raw)}")
    bad = ~np.isfinite(rows)
    if bad.any():
        raise error(
            f"{who} answered {int(bad.sum())} values that are NaN or infinite, "
            f"first for record {int(np.nonzero(bad)[0][0])}; a victim must give finite scores"
        )
    return rows


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def softmax(logits: Float[Array, " n c"]) -> Float[Array, " n c"]:
    """Rows of probabilities from unnormalised outputs, in float64, safe for any finite value."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True, initial=-np.inf))
    return shifted / shifted.sum(axis=1, keepdims=True)


def to_scores(
    rows: Float[Array, " n k"],
    outputs: str,
    who: str,
    *,
    tolerance: float = 1e-3,
    error: type[ModelError] = ModelError,
    hint: str = "",
) -> Float[Array, " n c"]:
    """Scores that sum to one a row, from what `outputs` says the answer is.

    One column is a binary victim's: the logit, probability or log-probability of class 1.

    Args:
        rows: (n, k) finite answers.
        outputs: "logits", "probabilities" or "log_probabilities".
        who: names the victim in messages.
        tolerance: how far from one a row of probabilities may sum.
        error: the class of error to raise.
        hint: further advice for rows that do not sum to one.

    Raises:
        ModelError: (or `error`) when probabilities are negative or do not sum to one.
    """
    if outputs == "logits":
        return softmax(np.concatenate([np.zeros_like(rows), rows], axis=1) if rows.shape[1] == 1 else rows)
    if outputs == "log_probabilities" and rows.size and rows.max() > tolerance:
        raise error(
            f"{who} answered {rows.max():.4g}, which is no log-probability; "
            'if these are unnormalised outputs, say outputs="logits"'
        )
    p = np.exp(rows) if outputs == "log_probabilities" else rows
    if p.size and p.min() < -1e-6:
        raise error(
            f"{who} answered negative probabilities (least {p.min():.4g}); "
            'if these are unnormalised outputs, say outputs="logits"'
        )
    p = np.clip(p, 0.0, None)
    if p.shape[1] == 1:
        if p.size and p.max() > 1 + tolerance:
            raise error(f'{who} answered the probability {p.max():.4g}; if this is a logit, say outputs="logits"{hint}')
        p = np.clip(p, 0.0, 1.0)
        return np.concatenate([1 - p, p], axis=1)
    off = np.abs(p.sum(axis=1) - 1)
    if off.size and off.max() > tolerance:
        worst = int(off.argmax())
        raise error(
            f"{who} answered a row that sums to {p[worst].sum():.4g} instead of 1 (record {worst}); "
            f'if these are unnormalised outputs, say outputs="logits"{hint}'
        )
    return p


def to_logits(rows: Float[Array, " n k"], outputs: str) -> Float[Array, " n c"]:
    """Unnormalised outputs whose softmax is `to_scores`; for probabilities, their logarithm."""
    if outputs == "logits":
        return np.concatenate([np.zeros_like(rows), rows], axis=1) if rows.shape[1] == 1 else rows
    if outputs == "log_probabilities":
        logs = np.maximum(rows, LEAST_LOG)
        if rows.shape[1] > 1:
            return logs
        rest = np.maximum(-np.expm1(np.minimum(rows, 0.0)), np.exp(LEAST_LOG))
        return np.concatenate([np.log(rest), logs], axis=1)
    p = np.concatenate([1 - rows, rows], axis=1) if rows.shape[1] == 1 else rows
    return np.log(np.maximum(p, np.exp(LEAST_LOG)))


def kind_of(rows: Float[Array, " n k"]) -> str | None:
    """What rows look like: one of `OUTPUTS`, or None for a single column that could be either."""
    if rows.shape[1] == 1:
        return None if ((rows >= 0) & (rows <= 1)).all() else "logits"
    if (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-4):
        return "probabilities"
    if (rows <= 0).all() and np.allclose(np.exp(rows).sum(axis=1), 1, atol=1e-4):
        return "log_probabilities"
    return "logits"


def label_column(label: Any, classes: int | None, class_names: Sequence[str], who: str) -> int:
    """The class number that a victim's own label stands for.

    A label that is among `class_names` goes by its name; otherwise a whole number is a class number.

    Raises:
        ModelError: for a label that is neither.
    """
    text = str(label)
    if text in class_names:
        return list(class_names).index(text)
    number: int | None = None
    if isinstance(label, (int, np.integer)) or (isinstance(label, (float, np.floating)) and float(label).is_integer()):
        number = int(label)
    elif isinstance(label, str) and not class_names and text.isdecimal():
        number = int(text)
    if number is None:
        known = (
            f"the class names are {', '.join(map(str, list(class_names)[:5]))}" if class_names else "none were given"
        )
        raise ModelError(
            f"{who} answers the label {_short(label)}, and nothing says which class that is ({known}); "
            "give class_names, in the order in which the data numbers the classes"
        )
    limit = len(class_names) or classes
    if number < 0 or (limit is not None and number >= limit):
        upper = "" if limit is None else f" to {limit - 1}"
        raise ModelError(f"{who} answers the label {number}; class numbers are 0{upper}")
    return number


def label_columns(labels: Iterable[Any], classes: int | None, class_names: Sequence[str], who: str) -> tuple[int, ...]:
    """The class numbers of all of a victim's labels, one column each.

    Without names, labels that are not class numbers are numbered in the order given, when there are
    as many of them as classes.

    Raises:
        ModelError: when they cannot be matched with the classes.
    """
    known = tuple(labels)
    enough_classes(len(known), who)
    total = classes or len(class_names) or len(known)
    numbers = all(isinstance(label, (int, np.integer)) for label in known)
    if len(known) > total or (len(known) < total and not numbers and not class_names):
        raise ModelError(f"{who} tells {len(known)} classes apart ({_short(known)}), but {total} were declared")
    if not class_names and len(known) == total:
        return tuple(range(total))
    columns = tuple(label_column(label, total, class_names, who) for label in known)
    if len(set(columns)) != len(columns):
        raise ModelError(f"{who} has several labels for one class: {_short(known)}")
    return columns


def one_hot(labels: Int[Array, " n"], classes: int) -> Float[Array, " n c"]:
    """Rows with a one at the label and zeros elsewhere."""
    rows = np.zeros((len(labels), classes))
    rows[np.arange(len(labels)), labels] = 1.0
    return rows


def scatter(rows: Float[Array, " n k"], columns: Sequence[int], classes: int) -> Float[Array, " n c"]:
    """The k columns of `rows` at their class numbers among `classes`, zeros elsewhere."""
    if tuple(columns) == tuple(range(classes)):
        return rows
    full = np.zeros((len(rows), classes))
    full[:, list(columns)] = rows
    return full


def spec_text(spec: InputSpec) -> bytes:
    """Everything that an input declaration says, in a form that can be hashed."""
    parts = (
        spec.shape,
        spec.bounds.low.tolist(),
        spec.bounds.high.tolist(),
        str(spec.modality),
        spec.mean,
        spec.std,
        spec.layout,
        spec.channels,
        spec.features,
        *(() if spec.form is None else (repr(spec.form),)),
    )
    return repr(parts).encode()


def digest(*parts: bytes) -> str:
    """SHA-256 over parts, each with its length, so that no two lists of parts run together."""
    h = hashlib.sha256()
    for part in parts:
        h.update(len(part).to_bytes(8, "big"))
        h.update(part)
    return h.hexdigest()
