"""What the report shows of class inversion: pictures by class, the search on its way, who is most exposed."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from seepage.core.errors import DataError
from seepage.core.guess import Guess, Reconstruction
from seepage.core.record import Exposure
from seepage.core.records import Records
from seepage.core.secrets import Judge
from seepage.scoring.judged import Judged, probabilities

Array = np.ndarray


def _spread(part: Judged, draws: Float[Array, " d"], classes: Int[Array, " c"]) -> Float[Array, " c"]:
    """The class means of `part` in the order of `classes`, NaN where it lacks one."""
    out = np.full(len(classes), np.nan)
    out[np.searchsorted(classes, part.classes)] = part.by_class(draws)
    return out


def exposed(
    value: Judged, no_model: Mapping[str, Judged], null: Judged | None, names: tuple[str, ...]
) -> tuple[Exposure, ...]:
    """Classes by the judge's confidence in their reconstruction beyond that in the best control's."""
    sure = value.by_class(value.confidence)
    others = {name.replace("_", " "): _spread(part, part.confidence, value.classes) for name, part in no_model.items()}
    if null is not None:
        others["the same attack on the twin"] = _spread(null, null.confidence, value.classes)
    hits, draws = value.by_class(value.hits(1)), np.bincount(np.searchsorted(value.classes, value.labels))
    rows: list[tuple[float, int, float | None, str]] = []
    for row, label in enumerate(value.classes):
        known = {name: float(found[row]) for name, found in others.items() if np.isfinite(found[row])}
        control = max(known.values()) if known else None
        rank = int(value.rank[value.shown[row]])
        text = f"the judge takes the reconstruction for '{names[label]}' with probability {sure[row]:.2f}"
        text += f" (its rank {rank} of {len(names)})" if draws[row] == 1 else f" (mean of {draws[row]} draws)"
        if draws[row] > 1:
            text += f", first in {hits[row]:.0%} of them"
        if known:
            text += "; without the model: " + ", ".join(f"{name} {found:.2f}" for name, found in known.items())
        floor = 1 / len(names) if control is None else control
        rows.append((float(sure[row]) - floor, row, control, text))
    rows.sort(key=lambda entry: (-entry[0], entry[1]))
    return tuple(
        Exposure(
            id=names[value.classes[row]],
            rank=place + 1,
            value=float(sure[row]),
            control=control,
            evidence=text,
            index=row,
        )
        for place, (_, row, control, text) in enumerate(rows)
    )


def _shown(part: Judged, classes: Int[Array, " c"]) -> tuple[Float[Array, " c ..."], Float[Array, " c"]]:
    """The picture shown for each class and the judge's confidence in it; zeros and NaN where there is none."""
    x = np.zeros((len(classes), *part.x.shape[1:]), dtype=np.float32)
    confidence = np.full(len(classes), np.nan)
    rows = np.searchsorted(classes, part.classes)
    x[rows], confidence[rows] = part.x[part.shown], part.confidence[part.shown]
    return x, confidence


def pictures(value: Judged, no_model: Mapping[str, Judged], null: Judged | None, records: Records) -> dict[str, Array]:
    """One row an attacked class, rising: the real record, what was recovered, and what the controls have."""
    classes = value.classes
    gallery: dict[str, Array] = {
        "labels": classes.astype(np.int64),
        "real": np.stack([_typical(records.of_class(int(c)), records.class_names[c]) for c in classes]),
        "reconstruction": _shown(value, classes)[0],
        "judge_class": value.chosen[value.shown].astype(np.int64),
        "judge_confidence": value.confidence[value.shown],
        "judge_rank": value.rank[value.shown].astype(np.int64),
        "class_names": np.array(records.class_names),
    }
    if "nearest_public" in no_model:
        gallery["nearest_public"], gallery["nearest_judge_confidence"] = _shown(no_model["nearest_public"], classes)
    if "prior_draw" in no_model:
        gallery["prior_draw"] = _shown(no_model["prior_draw"], classes)[0]
    if null is not None:
        gallery["null_reconstruction"], gallery["null_judge_confidence"] = _shown(null, classes)
    return gallery


def _typical(records: Records, name: str) -> Float[Array, " ..."]:
    """The record nearest to the mean of its class."""
    if not len(records):
        raise DataError(f"no private record of class '{name}' was given to the scorer")
    flat = records.x.reshape(len(records), -1)
    return records.x[int(((flat - flat.mean(axis=0)) ** 2).sum(axis=1).argmin())]


def frames(guess: Guess, value: Judged, judge: Judge, records: Records) -> tuple[dict[str, Array], dict[str, Array]]:
    """What the search held on its way, and what the judge says of it: (private arrays, curves to be shown to all).

    The arrays are `frames` (f, k, ...) and `frame_at` (f,); the curves `frame_at`, `frame_confidence`, the
    judge's mean probability of the true class at each frame, and `frame_accuracy`, the share of classes it
    recognises. Both are empty for a search that kept no frames.

    Raises:
        DataError: for frames of another shape than the classes and records attacked, not finite, far outside
            the range of the records, or with places that do not rise.
    """
    if not isinstance(guess, Reconstruction) or guess.frames is None:
        return {}, {}
    x, at = np.asarray(guess.frames, dtype=np.float32), guess.frame_at
    k, shape = len(value.classes), records.x.shape[1:]
    if not len(x) or x.shape[1:] != (k, *shape):
        raise DataError(
            f"the frames of the search: some of shape {(k, *shape)} were wanted, one record for each of the {k} "
            f"classes attacked; got shape {x.shape}"
        )
    if at is None or len(at) != len(x):
        raise DataError(f"{len(x)} frames of the search came with {0 if at is None else len(at)} places (frame_at)")
    at = np.asarray(at, dtype=np.int64)
    if at[0] < 0 or (np.diff(at) < 0).any():
        raise DataError(f"the frames of the search should come in the order of the search, got {at.tolist()}")
    _in_range(x, value, records)
    said = probabilities(judge, x.reshape(-1, *shape), len(records.class_names)).reshape(len(x), k, -1)
    own = np.take_along_axis(said, np.broadcast_to(value.classes[None, :, None], (len(x), k, 1)), axis=2)[..., 0]
    above, tied = (said > own[..., None]).sum(axis=2), (said == own[..., None]).sum(axis=2)
    curves = {
        "frame_at": at,
        "frame_confidence": np.minimum(own, 1.0).mean(axis=1),
        "frame_accuracy": np.clip((1 - above) / tied, 0.0, 1.0).mean(axis=1),
    }
    return {"frames": x, "frame_at": at}, curves


def _in_range(x: Array, value: Judged, records: Records) -> None:
    """Values in other units (0 to 255 for 0 to 1) or of a search gone astray cannot be drawn."""
    if not np.isfinite(x).all():
        raise DataError("the frames of the search hold NaN or infinite values: leave such frames out")
    low = min(float(records.x.min()), float(value.x.min()))
    high = max(float(records.x.max()), float(value.x.max()))
    slack = max(high - low, 1e-6)
    if x.min() < low - slack or x.max() > high + slack:
        raise DataError(
            f"the frames of the search should lie in the range of the records, {low:g} to {high:g}; "
            f"got {x.min():g} to {x.max():g}: give them as records are given, in the input's own bounds"
        )
