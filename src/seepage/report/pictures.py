"""Records as pictures inside the page: PNG data URIs, small, within a limit on the whole."""

import base64
import io

import numpy as np
from jaxtyping import Float
from PIL import Image

from seepage.core.errors import StoreError

Array = np.ndarray

LARGEST_SIDE = 128


def drawable(x: Array) -> bool:
    """True when `x` holds images: (n, c, h, w) with one or three channels."""
    return x.ndim == 4 and x.shape[1] in (1, 3) and min(x.shape[2:]) > 0


def pixels(picture: Float[Array, " c h w"], low: Array, high: Array) -> Array:
    """One image as bytes, (h, w) or (h, w, 3): `low` black, `high` white; what is not finite is grey.

    Args:
        picture: channels first, one or three channels.
        low: the least value an image may hold, one for all or one a channel or pixel.
        high: the greatest.

    Raises:
        StoreError: when the bounds do not fit the picture.
    """
    sides = (-1, 1, 1) if low.ndim == 1 else low.shape
    try:
        lo, hi = np.broadcast_to(low.reshape(sides), picture.shape), np.broadcast_to(high.reshape(sides), picture.shape)
    except ValueError as error:
        raise StoreError(
            f"bounds of shape {low.shape} do not fit a picture of shape {picture.shape}: run the audit again"
        ) from error
    unit = (picture.astype(np.float64) - lo) / np.where(hi > lo, hi - lo, 1.0)
    grey = np.clip(np.nan_to_num(unit, nan=0.5, posinf=1.0, neginf=0.0), 0.0, 1.0)
    shades = np.rint(grey * 255).astype(np.uint8)
    return shades[0] if len(shades) == 1 else np.moveaxis(shades, 0, -1)


def png(shades: Array, largest: int | None = LARGEST_SIDE) -> bytes:
    """PNG bytes of an image of bytes, made smaller when a side is longer than `largest`."""
    image = Image.fromarray(np.ascontiguousarray(shades))
    if largest is not None and max(image.size) > largest:
        image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def data_uri(picture: Float[Array, " c h w"], low: Array, high: Array) -> str:
    """One image as the address of an inline PNG.

    Args:
        picture: channels first, one or three channels.
        low: the least value an image may hold.
        high: the greatest.
    """
    return address(pixels(picture, low, high), LARGEST_SIDE)


def address(shades: Array, largest: int | None = None) -> str:
    """The address of an inline PNG of an image of bytes, made smaller when a side is longer than `largest`."""
    return "data:image/png;base64," + base64.b64encode(png(shades, largest)).decode()
