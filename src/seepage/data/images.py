"""A folder of images, one folder a class."""

import logging
import os
import struct
import warnings
import zlib
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageFile, ImageOps

from seepage.core.errors import DataError
from seepage.core.progress import Listener, Progress
from seepage.core.records import Records
from seepage.core.spec import UNIT, InputSpec
from seepage.core.vocabulary import Modality
from seepage.data.labels import class_numbers, natural_key, need_two_classes, nfc

Array = np.ndarray
_log = logging.getLogger(__name__)

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".tif", ".tiff", ".webp", ".gif"})
# Decoders Pillow may choose from, whatever a file is called: none of them runs another program.
_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP", "GIF")
MOST_PIXELS = 89_478_485  # what 256 MiB hold at 24 bits a pixel; a greater picture is refused unread
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})
# What Pillow's decoders raise on damaged files.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)


def read_images(
    folder: str | Path,
    *,
    spec: InputSpec | None = None,
    size: tuple[int, int] | None = None,
    class_names: Sequence[str] | None = None,
    what: str = "members",
    labelled: bool = True,
    limit: int | None = None,
    suffixes: Collection[str] = SUFFIXES,
    progress: Listener | None = None,
) -> Records:
    """The pictures below `folder`, one folder a class, classes in natural order (s2 before s10).

    Pictures may lie in folders within a class folder. Hidden files, folders that begin with a dot or with
    "__", and files that are no pictures are passed over and counted in the log and in `source`. Of an
    animation the first frame counts; the orientation noted by a camera (EXIF) is honoured; an alpha channel
    is dropped, as torchvision, Keras and OpenCV drop it. Pictures are resized with antialiased bilinear
    interpolation (8-bit pictures in 8 bits, as Pillow and torchvision do), without keeping proportions.

    Args:
        folder: holds one folder a class. Without class folders the pictures in it are unlabelled, which
            `labelled` must permit.
        spec: the victim's input: size, grey (1 channel) or colour (3), and value range.
        size: (height, width), when there is no spec; without both, all pictures must have one size. Without
            a spec the records are grey when every picture is, in [0, 1].
        class_names: the classes to agree with (those of the members); folders named otherwise are refused.
        what: which records these are, for messages.
        labelled: whether two or more class folders are needed.
        limit: at most this many pictures, spread evenly over the sorted list (and so over the classes).
        suffixes: of the files that are pictures, lower case.
        progress: told how many pictures are read.

    Returns:
        Records with `x` (n, c, h, w) float32 in the spec's bounds, `ids` the relative paths.

    Raises:
        DataError: for an empty folder, a class folder without pictures, a single class, an unknown class, a
            damaged, oversized or unreadable picture (named), pictures of several sizes.
    """
    folder = Path(folder)
    files, classes, ignored = _find(folder, what, labelled, suffixes)
    if ignored:
        _log.info("%s: %d files in %s are no pictures of a class and were passed over", what, ignored, folder.name)
    y = None
    names: tuple[str, ...] = ()
    if classes is not None:
        y, names = class_numbers(np.asarray(classes, dtype=object), class_names, what)
        if labelled and class_names is None:
            need_two_classes(y, f"{what}: {folder.name}")
    if limit is not None and limit < len(files):
        rows = np.floor(np.arange(limit) * (len(files) / limit)).astype(np.int64)
        files, y = [files[row] for row in rows], None if y is None else y[rows]
    shape = None if spec is None else image_shape(spec, what)
    pictures = _Stack(len(files), shape, size, what)
    with strict_decoding():
        for done, file in enumerate(files):
            if progress is not None and done % 50 == 0:
                progress(Progress(f"read {what}", "moving", done / len(files)))
            pictures.add(_open(folder / file, file.as_posix(), what), file.as_posix())
    if progress is not None:
        progress(Progress(f"read {what}", "done", 1.0))
    return Records(
        x=(UNIT if spec is None else spec.bounds).from_unit(pictures.stacked()),
        y=y,
        class_names=names,
        ids=tuple(nfc(file.as_posix()) for file in files),
        modality=Modality.IMAGE,
        source=f"{nfc(folder.name)} ({len(files)} pictures" + (f", {ignored} other files)" if ignored else ")"),
    )


def image_shape(spec: InputSpec, what: str) -> tuple[int, int, int]:
    """(channels, height, width) of an image input.

    Raises:
        DataError: when the victim takes no images, or neither 1 nor 3 channels.
    """
    if spec.modality is not Modality.IMAGE or len(spec.shape) != 3 or spec.shape[0] not in (1, 3):
        raise DataError(
            f"{what}: pictures were given; the victim takes {spec.modality} records of shape {spec.shape}, "
            "where [1, height, width] or [3, height, width] was wanted"
        )
    return spec.shape[0], spec.shape[1], spec.shape[2]


def picture_array(
    picture: Image.Image, shape: tuple[int, int, int] | None = None, size: tuple[int, int] | None = None
) -> Float[Array, " c h w"]:
    """One decoded picture as (c, h, w) float32 in [0, 1].

    Args:
        picture: of any mode; 16-bit grey keeps its depth.
        shape: channels (1 or 3), height, width wanted; without, the picture's own.
        size: (height, width) wanted when `shape` is not given.

    Raises:
        ValueError: for a mode without a meaning here (real numbers outside [0, 1], say).
    """
    if shape is None:
        grey = is_grey(picture)
        height, width = size or (picture.height, picture.width)
        shape = (1 if grey else 3, height, width)
    channels, height, width = shape
    plane = _plane(picture, channels)
    if plane.size != (width, height):
        plane = plane.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(plane, dtype=np.float32)
    if plane.mode != "F":
        pixels = pixels / np.float32(255)
    pixels = np.repeat(pixels[None], channels, axis=0) if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return np.ascontiguousarray(np.clip(pixels, 0, 1), dtype=np.float32)


def is_grey(picture: Image.Image) -> bool:
    """True when the picture's mode has no colour, or its palette holds greys only."""
    if picture.mode == "P":
        rgb = np.asarray(picture.convert("RGBA" if "transparency" in picture.info else "RGB"))[..., :3]
        return bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all())
    return picture.mode in _GREY_MODES or picture.mode.startswith("I;16")


def _plane(picture: Image.Image, channels: int) -> Image.Image:
    """The picture as mode L, RGB, or F (grey in [0, 1], for more than 8 bits)."""
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        values = np.asarray(picture).astype(np.float32)
        if picture.mode != "F":
            values /= np.float32(65535)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise ValueError(
                f"its values (mode {picture.mode}) lie outside what 16-bit grey or reals in [0, 1] can hold"
            )
        return Image.fromarray(values)
    if picture.mode in ("P", "PA"):
        # By way of RGBA: the direct road warns about palettes with transparency.
        picture = picture.convert("RGBA")
    elif picture.mode == "La":
        picture = picture.convert("LA")
    elif picture.mode == "RGBa":
        picture = picture.convert("RGBA")
    elif picture.mode == "LAB":
        raise ValueError("its colours are CIELAB; save it as RGB")
    if picture.mode == "CMYK" and channels == 1:
        picture = picture.convert("RGB")
    return picture.convert("L" if channels == 1 else "RGB")


class _Stack:
    """`n` pictures of one size, gathered; where no shape is declared, the first one's size binds the others."""

    def __init__(self, n: int, shape: tuple[int, int, int] | None, size: tuple[int, int] | None, what: str):
        self._shape, self._size, self._what = shape, size, what
        self._n, self._done, self._first = n, 0, ""
        self._x = np.zeros((0, 0, 0, 0), dtype=np.float32)

    def add(self, picture: Image.Image, name: str) -> None:
        try:
            plane = picture_array(picture, self._shape, self._size)
        except _BROKEN as error:
            raise DataError(f"{self._what}: {name} cannot be used as a picture: {error}") from error
        if self._done == 0:
            self._first = name
            self._x = self._room(plane.shape)
        if plane.shape[1:] != self._x.shape[2:]:
            (h0, w0), (h1, w1) = self._x.shape[2:], plane.shape[1:]
            raise DataError(
                f"{self._what}: pictures differ in size ({self._first} is {w0}x{h0}, {name} is {w1}x{h1}), and no "
                "size is declared; declare the victim's input shape, or give size = [height, width]"
            )
        if plane.shape[0] > self._x.shape[1]:
            # The first picture in colour after grey ones: all become colour.
            self._x = np.repeat(self._x, 3, axis=1)
        self._x[self._done] = plane
        self._done += 1

    def _room(self, shape: tuple[int, ...]) -> Array:
        need, have = 4 * self._n * int(np.prod(shape)), _memory()
        if have is not None and need > have:
            raise DataError(
                f"{self._what}: {self._n} pictures of {shape[2]}x{shape[1]} take {need / 2**30:.0f} GiB and this "
                f"machine has {have / 2**30:.0f}; give limit, or a smaller size"
            )
        return np.empty((self._n, *shape), dtype=np.float32)

    def stacked(self) -> Float[Array, " n c h w"]:
        return self._x


def _memory() -> int | None:
    """Bytes of physical memory, where the system tells."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def strict_decoding() -> Generator[None, None, None]:
    """Damaged pictures raise, oversized ones are refused, and Pillow's other warnings are quiet."""
    lenient = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def decode(file: Any, name: str, what: str) -> Image.Image:
    """The picture in a path or binary file object, loaded and turned upright; call within `strict_decoding`.

    Raises:
        DataError: when it is damaged, no picture, or has more than `MOST_PIXELS` pixels.
    """
    try:
        with Image.open(file, formats=_available()) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise Image.DecompressionBombError(f"{picture.width}x{picture.height} pixels")
            picture.load()
            return ImageOps.exif_transpose(picture)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{what}: {name} has more than {MOST_PIXELS / 1e6:.0f} million pixels and was not read (a few bytes can "
            "claim any size); shrink it first"
        ) from error
    except MemoryError as error:
        raise DataError(f"{what}: {name} does not fit in memory; shrink it first") from error
    except _BROKEN as error:
        reason = str(error) or type(error).__name__
        if "cannot identify" in reason:
            reason = "it is empty, damaged or of another format than its name says"
        raise DataError(
            f"{what}: the picture {name} cannot be read: {reason}; replace it, or remove it from the folder"
        ) from error


@cache
def _available() -> tuple[str, ...]:
    """The formats this build of Pillow can read (WebP may be left out)."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _open(path: Path, name: str, what: str) -> Image.Image:
    return decode(path, nfc(name), what)


def _passed_over(name: str) -> bool:
    return name.startswith((".", "__"))


def _find(
    folder: Path, what: str, labelled: bool, suffixes: Collection[str]
) -> tuple[list[Path], list[str] | None, int]:
    """Pictures relative to `folder`, the class of each (None without class folders), other files."""
    if not folder.is_dir():
        raise DataError(f"{what}: no folder at {folder}")
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: natural_key(entry.name))
    except OSError as error:
        raise DataError(f"{what}: {folder} cannot be read: {error.strerror or error}") from error
    loose = [Path(entry.name) for entry in entries if entry.is_file() and _is_picture(entry.name, suffixes)]
    ignored = sum(entry.is_file() for entry in entries) - len(loose)
    class_folders = [entry for entry in entries if entry.is_dir() and not _passed_over(entry.name)]
    if not class_folders:
        if not loose:
            raise DataError(
                f"{what}: the folder {folder} is empty: one folder a class was wanted, with pictures "
                f"({', '.join(sorted(suffixes))})"
            )
        if labelled:
            raise DataError(
                f"{what}: {len(loose)} pictures lie directly in {folder}; one folder a class was wanted, "
                "such as cats/1.png and dogs/1.png"
            )
        return loose, None, ignored
    files: list[Path] = []
    classes: list[str] = []
    seen: dict[str, str] = {}
    for entry in class_folders:
        name = nfc(entry.name)
        if name in seen:
            raise DataError(f"{what}: two class folders in {folder} are spelt alike once composed: '{name}'")
        seen[name] = entry.name
        found, others = _pictures_below(folder, entry, suffixes)
        ignored += others
        if not found:
            raise DataError(
                f"{what}: the class folder '{name}' in {folder} holds no pictures; remove it, or add pictures "
                f"({', '.join(sorted(suffixes))})"
            )
        files += found
        classes += [name] * len(found)
    return files, classes, ignored + len(loose)


def _pictures_below(folder: Path, class_folder: Path, suffixes: Collection[str]) -> tuple[list[Path], int]:
    found: list[Path] = []
    others = 0
    for where, folders, names in os.walk(class_folder):
        folders[:] = [name for name in folders if not _passed_over(name)]
        for name in names:
            if _is_picture(name, suffixes):
                found.append((Path(where) / name).relative_to(folder))
            else:
                others += 1
    return sorted(found, key=lambda file: natural_key(file.as_posix())), others


def _is_picture(name: str, suffixes: Collection[str]) -> bool:
    return not _passed_over(name) and Path(name).suffix.lower() in suffixes
