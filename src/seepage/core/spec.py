"""What one input of a victim looks like: shape, value range and preprocessing, declared once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from seepage.core.errors import ConfigError, DataError
from seepage.core.frames import TableForm
from seepage.core.vocabulary import Modality

Array = np.ndarray


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest value a record may hold: one pair for all, or one a feature.

    Records are kept in their own values; an attack that wants a common scale uses `to_unit`.
    """

    low: Array
    high: Array

    @classmethod
    def of(cls, low: float | Sequence[float] | Array, high: float | Sequence[float] | Array) -> "Bounds":
        lo, hi = np.asarray(low, dtype=np.float32), np.asarray(high, dtype=np.float32)
        if not (np.isfinite(lo).all() and np.isfinite(hi).all()) or (lo > hi).any():
            raise ConfigError(f"a value range needs finite low <= high, got low={low!r} high={high!r}")
        return cls(lo, hi)

    @property
    def width(self) -> Array:
        """High - low, with 1 where a feature is constant, so that dividing by it is safe."""
        width = self.high - self.low
        return np.where(width > 0, width, np.float32(1))

    def to_unit(self, x: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """Map values in these bounds to [0, 1]."""
        return ((x - self.low) / self.width).astype(np.float32)

    def from_unit(self, u: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """Map values in [0, 1] to these bounds."""
        return (u * (self.high - self.low) + self.low).astype(np.float32)

    def clip(self, x: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """The nearest values within these bounds."""
        return np.clip(x, self.low, self.high).astype(np.float32)

    def contain(self, x: Float[Array, " ..."], tolerance: float = 1e-4) -> bool:
        """True when every value lies within these bounds, up to `tolerance` of their width."""
        slack = tolerance * self.width
        return bool(((x >= self.low - slack) & (x <= self.high + slack)).all())


UNIT = Bounds.of(0.0, 1.0)


@dataclass(frozen=True)
class InputSpec:
    """One input of a victim: what it is, and how the victim wants it prepared.

    Records outside an adapter always have this `shape`; images are channels first, `(c, h, w)`.
    An adapter applies, in this order: the values as they are in `bounds`, then `(x - mean) / std`
    per channel (images) or per feature (tables), then the memory `layout` the victim expects.

    Attributes:
        shape: of one record, without the batch axis.
        bounds: the value range of a record before normalisation.
        modality: image, table or text.
        mean, std: normalisation, one value or one per channel/feature; empty for none.
        layout: "chw" or "hwc", the order in which the *victim* wants an image.
        channels: "rgb" or "bgr", the order in which the *victim* wants colour channels.
        features: names of the columns of a table.
        form: of a table in its own form, the way back to it: the victim is given that table.
    """

    shape: tuple[int, ...]
    bounds: Bounds = UNIT
    modality: Modality = Modality.IMAGE
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: str = "chw"
    channels: str = "rgb"
    features: tuple[str, ...] = field(default=())
    form: TableForm | None = None

    def __post_init__(self) -> None:
        if not self.shape or any(side < 1 for side in self.shape):
            raise ConfigError(f"an input shape needs positive sides, got {self.shape}")
        if self.modality is Modality.IMAGE and len(self.shape) != 3:
            raise ConfigError(f"an image shape is [channels, height, width], got {list(self.shape)}")
        if self.layout not in ("chw", "hwc"):
            raise ConfigError(f"layout is 'chw' or 'hwc', got '{self.layout}'")
        if self.channels not in ("rgb", "bgr"):
            raise ConfigError(f"channels is 'rgb' or 'bgr', got '{self.channels}'")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, 1, self.shape[0]):
                raise ConfigError(
                    f"{name} needs one value or one for each of {self.shape[0]} channels, got {len(values)}"
                )
        if any(value <= 0 for value in self.std):
            raise ConfigError(f"std needs positive values, got {list(self.std)}")

    @property
    def size(self) -> int:
        """How many numbers one record holds."""
        return int(np.prod(self.shape))

    def check(self, x: Array, what: str = "records") -> Float[Array, " n ..."]:
        """`x` as float32, after checking shape, finiteness and range.

        Raises:
            DataError: naming what was wanted and what came.
        """
        x = np.asarray(x)
        if x.dtype.kind not in "fiub":
            raise DataError(f"{what}: numbers were wanted, got values of type {x.dtype}")
        x = x.astype(np.float32, copy=False)
        if x.shape[1:] != self.shape:
            raise DataError(
                f"{what}: each record should have shape {self.shape}, got {x.shape[1:]}; "
                "give the victim's own input shape, or declare it under [victim] input"
            )
        bad = ~np.isfinite(x)
        if bad.any():
            rows = np.unique(np.nonzero(bad)[0])
            raise DataError(
                f"{what}: {int(bad.sum())} values are NaN or infinite, first in record {int(rows[0])}; "
                "drop or impute these records before auditing"
            )
        if not self.bounds.contain(x):
            raise DataError(
                f"{what}: values should lie in [{self.bounds.low.min():g}, {self.bounds.high.max():g}], "
                f"got [{x.min():g}, {x.max():g}]; declare the range the victim takes under [victim] input"
            )
        return x

    def prepare(self, x: Float[Array, " n ..."]) -> Float[Array, " n ..."]:
        """Records as the victim wants them: colour order, normalised, laid out."""
        out = x
        if self.modality is Modality.IMAGE and self.channels == "bgr" and self.shape[0] == 3:
            out = out[:, ::-1]
        if self.mean or self.std:
            sides = (-1,) + (1,) * (len(self.shape) - 1)
            mean = np.asarray(self.mean or (0.0,), dtype=np.float32).reshape(sides)
            std = np.asarray(self.std or (1.0,), dtype=np.float32).reshape(sides)
            out = (out - mean) / std
        if self.modality is Modality.IMAGE and self.layout == "hwc":
            out = np.moveaxis(out, 1, -1)
        return np.ascontiguousarray(out, dtype=np.float32)
