"""A search on its way: what it held of every class at a few points, as one sheet of pictures a point."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from seepage.core.errors import StoreError
from seepage.core.record import Finding
from seepage.core.vocabulary import Access
from seepage.report.pictures import address, drawable, pixels

Array = np.ndarray

MOST_FRAMES = 12
PER_ROW = 10
GAP = 1
WHITE = 255


@dataclass(frozen=True)
class Frame:
    """One point of a search.

    Attributes:
        at: queries or steps spent by then.
        src: the sheet, a data URI: classes from left to right, `PER_ROW` a row.
        accuracy: share of classes the judge recognised at that point, where it was asked.
    """

    at: int
    src: str
    accuracy: float | None


@dataclass(frozen=True)
class Steps:
    """The frames of one finding, first to last.

    Attributes:
        unit: what `at` counts: "steps" or "queries".
        width, height: of a sheet, in pixels of the pictures.
    """

    finding: Finding
    frames: tuple[Frame, ...]
    classes: int
    unit: str
    width: int
    height: int


def sheet(pictures: Sequence[Array]) -> Array:
    """Pictures of bytes, (h, w) or (h, w, 3), all of one size, on one white sheet with `PER_ROW` a row."""
    h, w = pictures[0].shape[:2]
    columns = min(PER_ROW, len(pictures))
    rows = -(-len(pictures) // columns)
    page = np.full((rows * (h + GAP) - GAP, columns * (w + GAP) - GAP, *pictures[0].shape[2:]), WHITE, dtype=np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * (h + GAP), i % columns * (w + GAP)
        page[top : top + h, left : left + w] = picture
    return page


def steps(finding: Finding, arrays: Mapping[str, Array], most_classes: int) -> Steps | None:
    """The frames of a finding, or None when it has none that can be drawn.

    Args:
        finding: whose frames they are.
        arrays: its arrays: `frames` (f, c, ...), `frame_at` (f,), and `frame_accuracy` (f,) where it was judged.
        most_classes: how many classes are shown.

    Raises:
        StoreError: when the arrays do not fit together.
    """
    if "frames" not in arrays or "frame_at" not in arrays:
        return None
    frames, at = np.asarray(arrays["frames"]), np.asarray(arrays["frame_at"]).ravel()
    if frames.ndim < 2 or len(frames) != len(at):
        raise StoreError(f"the frames of {finding.id} do not fit together: {frames.shape} at {at.shape}")
    if frames.ndim != 5 or not len(frames) or not drawable(frames[0]):
        return None
    accuracy = arrays.get("frame_accuracy")
    if accuracy is not None and len(accuracy) != len(at):
        raise StoreError(f"the frames of {finding.id} do not fit together: {len(at)} frames, {len(accuracy)} judged")
    low, high = (np.asarray(arrays.get(name, value), dtype=np.float64) for name, value in (("low", 0.0), ("high", 1.0)))
    kept = np.unique(np.linspace(0, len(at) - 1, MOST_FRAMES).round().astype(int))
    made: list[Frame] = []
    for row in kept:
        page = _page(frames[row][:most_classes], low, high)
        sure = None if accuracy is None or not np.isfinite(accuracy[row]) else float(accuracy[row])
        made.append(Frame(int(at[row]), address(page), sure))
    page = _page(frames[0][:most_classes], low, high)
    unit = "steps" if Access.WEIGHTS in finding.needs else "queries"
    return Steps(finding, tuple(made), min(frames.shape[1], most_classes), unit, page.shape[1], page.shape[0])


def _page(pictures: Float[Array, " c ch h w"], low: Array, high: Array) -> Array:
    return sheet([pixels(picture, low, high) for picture in pictures])
