"""Arrays of any layout to records: channels first, float32, in the victim's value range."""

from typing import Any

import numpy as np
from jaxtyping import Float

from seepage.core.errors import DataError
from seepage.core.spec import UNIT, InputSpec
from seepage.core.vocabulary import Modality

Array = np.ndarray


def numeric(values: Any, what: str) -> Array:
    """`values` as an array of numbers: NumPy, torch (any device), nested lists, anything with `__array__`.

    Raises:
        DataError: for ragged lists, texts and objects.
    """
    if isinstance(values, list | tuple):
        values = [tensor_array(value) if is_torch(value) else value for value in values]
    array = tensor_array(values) if is_torch(values) else values
    try:
        array = np.asarray(array)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{what}: an array of records of one shape was wanted, got {type(values).__name__}: {error}"
        ) from error
    if array.dtype.kind == "O":
        try:
            array = np.stack([np.asarray(record) for record in array]) if array.ndim == 1 else array.astype(np.float64)
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{what}: the records are objects that are no numbers, or differ in shape ({error}); "
                "make them one numeric array, or give a data frame, which a scikit-learn pipeline is given as it is"
            ) from error
    if array.dtype.kind not in "fiub":
        hint = "; texts are read for language models only" if array.dtype.kind in "US" else ""
        raise DataError(f"{what}: numbers were wanted, got values of type {array.dtype}{hint}")
    return array


def is_torch(thing: Any) -> bool:
    """True for torch tensors, datasets and loaders, told without importing torch."""
    return any(base.__module__.split(".")[0] == "torch" for base in type(thing).__mro__)


def tensor_array(tensor: Any) -> Array:
    """A torch tensor's values in memory, whatever its device, layout, gradient or precision."""
    plain = tensor.detach()
    if str(plain.layout) != "torch.strided":
        plain = plain.to_dense()
    plain = plain.cpu()
    # NumPy has no bfloat16.
    return (plain.float() if plain.is_floating_point() else plain).numpy()


def to_layout(array: Array, spec: InputSpec | None, what: str) -> tuple[Float[Array, " n ..."], Modality]:
    """An array as records: images (n, c, h, w), tables (n, d).

    With a spec, its shape decides: channels last and grey images without a channel axis are brought to
    it, and rows of c*h*w numbers are unfolded channels first. Without, (n, d) is a table, (n, h, w) grey
    images, (n, h, w, 1 or 3) and (n, 1 or 3, h, w) images. Pixels of 8 bits (uint8) become pixel/255, of
    16 bits (uint16) pixel/65535, mapped to the spec's bounds; truth values become 0 and 1; other numbers
    are in the bounds' units already and stay as they are.

    Raises:
        DataError: for shapes that fit no image or table, or fit two, and for values that are too large.
    """
    if array.ndim < 2:
        raise DataError(
            f"{what}: one row a record was wanted, got an array of shape {array.shape}; "
            "reshape it to (records, features)"
        )
    if len(array) == 0:
        raise DataError(f"{what}: there are no records, the array has shape {array.shape}")
    modality = spec.modality if spec is not None else (Modality.TABLE if array.ndim == 2 else Modality.IMAGE)
    ordered = _free(array, what) if spec is None else _declared(array, spec, what)
    return _values(ordered, spec, modality, what), modality


def _free(array: Array, what: str) -> Array:
    """The layout guessed from the shape alone."""
    shape = array.shape[1:]
    if array.ndim == 2:
        return array
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4:
        first, last = shape[0] in (1, 3), shape[-1] in (1, 3)
        if first and not last:
            return array
        if last and not first:
            return np.moveaxis(array, -1, 1)
        if first and last:
            raise DataError(
                f"{what}: records of shape {shape} may be channels first or channels last; "
                "declare the victim's input shape [channels, height, width]"
            )
    raise DataError(
        f"{what}: records of shape {shape} are no table (features), grey image (height, width) or image with 1 or 3 "
        "channels; declare the victim's input shape"
    )


def _declared(array: Array, spec: InputSpec, what: str) -> Array:
    """The layout that gives the spec's shape."""
    shape = array.shape[1:]
    if shape == spec.shape:
        return array
    if spec.modality is Modality.IMAGE:
        channels, height, width = spec.shape
        if shape == (height, width, channels):
            return np.moveaxis(array, -1, 1)
        if channels == 1 and shape == (height, width):
            return array[:, None]
        if shape == (spec.size,):
            return array.reshape(len(array), *spec.shape)
        raise DataError(
            f"{what}: images should have shape {spec.shape} (channels first), {(height, width, channels)} (channels "
            f"last) or {(spec.size,)} (unfolded channels first), got {shape}; resize or convert them as the victim's "
            "own training did"
        )
    raise DataError(
        f"{what}: each record should have shape {spec.shape}, got {shape}; give the features the victim was trained on"
    )


def _values(array: Array, spec: InputSpec | None, modality: Modality, what: str) -> Float[Array, " n ..."]:
    """The values as float32 in the spec's bounds."""
    if modality is Modality.IMAGE and array.dtype in (np.dtype(np.uint8), np.dtype(np.uint16)):
        if array.max() <= 1:
            raise DataError(
                f"{what}: the images are of type {array.dtype} with no value above 1; whole-numbered pixels go from 0 "
                f"to {np.iinfo(array.dtype).max}: give 0/1 pictures as floats or booleans"
            )
        unit = array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
        return np.ascontiguousarray((UNIT if spec is None else spec.bounds).from_unit(unit))
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        over = np.isfinite(array) & (np.abs(array) > np.finfo(np.float32).max)
        if over.any():
            raise DataError(
                f"{what}: {int(over.sum())} values are too large for a 32-bit float, first in record "
                f"{int(np.argmax(over.reshape(len(array), -1).any(axis=1)))}; rescale them"
            )
    out = np.ascontiguousarray(array, dtype=np.float32)
    if spec is None:
        bad = ~np.isfinite(out.reshape(len(out), -1)).all(axis=1)
        if bad.any():
            raise DataError(
                f"{what}: {int(bad.sum())} records hold NaN or infinite values, first record {int(np.argmax(bad))}; "
                "drop or impute these records before auditing, or give a data frame: a scikit-learn pipeline is given "
                "its missing values as they are"
            )
        return out
    return spec.check(out, what)
