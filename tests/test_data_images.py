"""A folder of images, one folder a class: what is read, what is refused, and how."""

import io
import struct
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from seepage.core.errors import DataError
from seepage.core.spec import Bounds, InputSpec
from seepage.core.vocabulary import Modality
from seepage.data import as_records, read_images
from seepage.data.images import picture_array
from seepage.data.labels import natural_order

Array = np.ndarray


def picture(seed: int, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(seed)
    shape = (size[1], size[0]) + ((3,) if mode == "RGB" else ())
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))


def folder_of(root: Path, classes: dict[str, list[Image.Image]], suffix: str = ".png") -> Path:
    for name, pictures in classes.items():
        (root / name).mkdir(parents=True)
        for i, one in enumerate(pictures):
            one.save(root / name / f"{i}{suffix}")
    return root


def two_classes(root: Path, **options) -> Path:
    return folder_of(root, {"a": [picture(0), picture(1)], "b": [picture(2), picture(3)]}, **options)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tif", ".webp"])
def test_lossless_pictures_come_back_pixel_by_pixel(tmp_path, suffix):
    pictures = [picture(i) for i in range(4)]
    for i, one in enumerate(pictures):
        place = tmp_path / f"c{i % 2}"
        place.mkdir(exist_ok=True)
        one.save(place / f"{i}{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    records = read_images(tmp_path)
    assert records.x.dtype == np.float32
    assert records.x.shape == (4, 3, 6, 8)
    assert records.ids == (f"c0/0{suffix}", f"c0/2{suffix}", f"c1/1{suffix}", f"c1/3{suffix}")
    for row, i in enumerate([0, 2, 1, 3]):
        np.testing.assert_array_equal(records.x[row], np.moveaxis(np.asarray(pictures[i]), -1, 0) / np.float32(255))
    assert records.labels().tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG"])
def test_jpeg_is_read_nearly(tmp_path, suffix):
    flat = [Image.new("RGB", (8, 8), (200, 100, 50)) for _ in range(2)]
    records = read_images(folder_of(tmp_path, {"a": flat, "b": flat}, suffix))
    assert np.abs(records.x[0, :, 0, 0] - np.asarray([200, 100, 50]) / 255).max() < 0.02


def test_classes_are_in_natural_order_and_public_names_may_be_anything(tmp_path):
    names = ["s10", "s2", "s1", "S3", "s2b"]
    folder_of(tmp_path, {name: [picture(0)] for name in names})
    assert read_images(tmp_path).class_names == ("s1", "s2", "s2b", "S3", "s10")
    assert natural_order(["10", "9", "x9y10", "x9y2", "1"]) == ("1", "9", "10", "x9y2", "x9y10")


def test_names_in_unicode_and_in_either_normal_form(tmp_path):
    composed, decomposed = "Jos\u00e9", "Jose\u0301"
    first = folder_of(tmp_path / "one", {composed: [picture(0)], "\u5b57": [picture(1)], "\U0001f600": [picture(2)]})
    second = folder_of(tmp_path / "two", {decomposed: [picture(3)], "\u5b57": [picture(4)]})
    members = read_images(first)
    assert composed in members.class_names
    others = read_images(second, class_names=members.class_names, what="nonmembers")
    assert others.class_names == members.class_names
    assert [others.class_names[c] for c in others.labels()] == [composed, "\u5b57"]
    assert all(one.encode() for one in (*members.ids, *others.ids))


def test_hidden_files_thumbnails_and_other_files_are_passed_over_and_counted(tmp_path):
    two_classes(tmp_path)
    for place in ("Thumbs.db", "a/Thumbs.db", "a/.DS_Store", "a/._0.png", "b/notes.txt", "loose.png"):
        (tmp_path / place).write_bytes(b"nothing")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "a" / "deeper").mkdir()
    picture(5).save(tmp_path / "a" / "deeper" / "9.png")
    records = read_images(tmp_path)
    assert len(records) == 5
    assert "a/deeper/9.png" in records.ids
    assert "6 other files" in records.source


def test_the_size_and_channels_of_the_spec_are_what_comes_out(tmp_path):
    two_classes(tmp_path)
    grey = read_images(tmp_path, spec=InputSpec((1, 4, 5)))
    assert grey.x.shape == (4, 1, 4, 5)
    colour = read_images(tmp_path, spec=InputSpec((3, 4, 5)))
    luma = (colour.x * np.asarray([0.299, 0.587, 0.114], np.float32)[:, None, None]).sum(axis=1)
    assert np.abs(luma - grey.x[:, 0]).max() < 0.02


def test_shrinking_keeps_the_mean_and_forgets_what_is_finer_than_a_pixel(tmp_path):
    checks = Image.fromarray((255 * (np.indices((32, 32)).sum(axis=0) % 2)).astype(np.uint8))
    half = Image.new("L", (32, 32), 64)
    records = read_images(folder_of(tmp_path, {"a": [checks], "b": [half]}), spec=InputSpec((1, 8, 8)))
    # Away from the edges, antialiasing turns a checkerboard into its mean; plain sampling would keep it.
    assert np.abs(records.x[0, 0, 2:-2, 2:-2] - 0.5).max() < 0.02
    assert np.abs(records.x[1] - 64 / 255).max() < 0.005


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-1.0, 1.0), (0.0, 1.0)])
def test_pixels_are_mapped_to_the_declared_range(tmp_path, low, high):
    ends = [Image.new("L", (4, 4), 0), Image.new("L", (4, 4), 255)]
    spec = InputSpec((1, 4, 4), Bounds.of(low, high))
    records = read_images(folder_of(tmp_path, {"a": ends, "b": ends}), spec=spec)
    assert records.x[0].min() == pytest.approx(low)
    assert records.x[1].max() == pytest.approx(high)
    spec.check(records.x)


def test_grey_pictures_beside_coloured_ones_become_colour(tmp_path):
    folder_of(tmp_path, {"a": [picture(0, mode="L")], "b": [picture(1)]})
    records = read_images(tmp_path)
    assert records.x.shape == (2, 3, 6, 8)
    np.testing.assert_array_equal(records.x[0, 0], records.x[0, 2])
    assert read_images(
        folder_of(tmp_path / "c", {"a": [picture(0, mode="L")], "b": [picture(1, mode="L")]})
    ).x.shape == (
        2,
        1,
        6,
        8,
    )


def test_sixteen_bits_keep_their_depth():
    values = np.asarray([[0, 1, 257], [40000, 65534, 65535]], dtype=np.uint16)
    got = picture_array(Image.fromarray(values))
    np.testing.assert_allclose(got[0], values / 65535, rtol=1e-6)
    assert got[0, 0, 1] > 0
    wide = picture_array(Image.fromarray(values), shape=(3, 4, 6))
    assert wide.shape == (3, 4, 6)
    assert 0 <= wide.min() <= wide.max() <= 1


def test_every_mode_has_a_meaning():
    rgb = Image.new("RGB", (4, 4), (255, 0, 0))
    assert picture_array(rgb.convert("CMYK"), (3, 4, 4))[0].min() > 0.9
    assert picture_array(rgb.convert("P"), (3, 4, 4))[1].max() < 0.05
    clear = rgb.convert("RGBA")
    clear.putalpha(0)
    # Alpha is dropped: the colour below it is what a victim's own reader sees.
    np.testing.assert_array_equal(picture_array(clear, (3, 4, 4)), picture_array(rgb, (3, 4, 4)))
    palette = rgb.convert("P")
    palette.info["transparency"] = bytes([0] * 256)
    assert picture_array(palette, (3, 4, 4)).shape == (3, 4, 4)
    assert picture_array(Image.new("1", (4, 4), 1)).max() == 1
    assert picture_array(Image.new("LA", (4, 4), (128, 0)))[0, 0, 0] == pytest.approx(128 / 255)
    assert picture_array(rgb.convert("YCbCr"), (3, 4, 4))[0].min() > 0.95
    with pytest.raises(ValueError, match="outside"):
        picture_array(Image.fromarray(np.full((4, 4), 7, dtype=np.float32)))
    with pytest.raises(ValueError, match="CIELAB"):
        picture_array(Image.new("LAB", (4, 4)))


def test_the_first_frame_of_an_animation_counts(tmp_path):
    (tmp_path / "a").mkdir()
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    frames[0].save(tmp_path / "a" / "0.gif", save_all=True, append_images=frames[1:])
    folder_of(tmp_path / "x", {"b": [picture(0)]})
    (tmp_path / "x" / "b").rename(tmp_path / "b")
    (tmp_path / "x").rmdir()
    records = read_images(tmp_path, spec=InputSpec((1, 4, 4)))
    assert records.x[0].max() == pytest.approx(10 / 255, abs=1e-3)


def test_the_orientation_noted_by_the_camera_is_honoured(tmp_path):
    upright = np.zeros((6, 8), dtype=np.uint8)
    upright[0] = 255  # a bright first row
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(upright).save(tmp_path / name / "0.png", exif=exif)
    records = read_images(tmp_path)
    assert records.x.shape == (2, 1, 8, 6)
    assert records.x[0, 0, :, -1].min() == 1
    assert records.x[0, 0, :, :-1].max() == 0


def test_an_empty_folder_a_missing_one_and_loose_pictures(tmp_path):
    with pytest.raises(DataError, match="is empty: one folder a class was wanted"):
        read_images(tmp_path)
    with pytest.raises(DataError, match="no folder at"):
        read_images(tmp_path / "nowhere")
    picture(0).save(tmp_path / "0.png")
    with pytest.raises(DataError, match="1 pictures lie directly in"):
        read_images(tmp_path)
    loose = as_records(tmp_path, what="public")
    assert loose.y is None
    assert loose.class_names == ()


def test_a_class_without_pictures_and_a_single_class(tmp_path):
    folder_of(tmp_path, {"a": [picture(0)]})
    with pytest.raises(DataError, match="at least 2 classes were wanted, got 1"):
        read_images(tmp_path)
    assert read_images(tmp_path, class_names=("a", "z"), what="nonmembers").class_names == ("a", "z")
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=r"class folder 'b' in .* holds no pictures"):
        read_images(tmp_path)


def test_classes_unknown_to_the_members_are_listed(tmp_path):
    two_classes(tmp_path)
    with pytest.raises(DataError, match=r"nonmembers: 1 classes are not among the 2 known ones .*: 'b'"):
        read_images(tmp_path, class_names=("a", "c"), what="nonmembers")


def test_sizes_that_differ_need_a_declared_size(tmp_path):
    folder_of(tmp_path, {"a": [picture(0)], "b": [picture(1, size=(9, 6))]})
    with pytest.raises(DataError, match=r"differ in size \(a/0.png is 8x6, b/0.png is 9x6\).*declare"):
        read_images(tmp_path)
    assert read_images(tmp_path, size=(5, 4)).x.shape == (2, 3, 5, 4)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".pgm", ".gif", ".webp", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.8])
def test_truncated_pictures_are_named(tmp_path, suffix, share):
    two_classes(tmp_path)
    whole = io.BytesIO()
    kind = {".jpg": "JPEG", ".pgm": "PPM", ".tif": "TIFF"}.get(suffix, suffix[1:].upper())
    picture(9, size=(64, 64), mode="L" if suffix in (".pgm", ".gif") else "RGB").save(whole, format=kind)
    raw = whole.getvalue()
    (tmp_path / "b" / f"broken{suffix}").write_bytes(raw[: int(share * len(raw))])
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # another library may have set it; here it must not count
    try:
        with pytest.raises(DataError, match=rf"the picture b/broken{suffix} cannot be read: .*; replace it"):
            read_images(tmp_path, spec=InputSpec((3, 8, 8)))
        assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextmanager
def suppress_named(name: str):
    """A DataError may come out, if it names the picture; any other error is a failure."""
    try:
        yield
    except DataError as error:
        if name not in str(error):
            raise


def test_noise_in_a_picture_never_escapes_as_another_error(tmp_path):
    two_classes(tmp_path)
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "PPM", "WEBP"):
        whole = io.BytesIO()
        picture(4, size=(20, 20)).save(whole, format=kind)
        for _ in range(25):
            raw = bytearray(whole.getvalue())
            for at in rng.integers(0, len(raw), 6):
                raw[at] = rng.integers(0, 256)
            (tmp_path / "b" / "0.png").write_bytes(bytes(raw))
            with suppress_named("b/0.png"):
                read = read_images(tmp_path, spec=InputSpec((3, 8, 8)))
                assert np.isfinite(read.x).all()


def test_a_decompression_bomb_is_refused_unread(tmp_path):
    two_classes(tmp_path)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    (tmp_path / "a" / "bomb.png").write_bytes(bomb)
    with pytest.raises(DataError, match=r"a/bomb.png has more than 89 million pixels and was not read"):
        read_images(tmp_path)


def test_a_text_file_called_png_is_named(tmp_path):
    two_classes(tmp_path)
    (tmp_path / "a" / "2.png").write_text("not a picture")
    with pytest.raises(DataError, match=r"a/2.png cannot be read: it is empty, damaged or of another format"):
        read_images(tmp_path)


def test_a_limit_takes_records_evenly_and_progress_ends(tmp_path):
    folder_of(tmp_path, {name: [picture(i) for i in range(6)] for name in ("a", "b", "c")})
    told = []
    records = read_images(tmp_path, limit=6, progress=told.append)
    assert np.bincount(records.labels()).tolist() == [2, 2, 2]
    assert told[-1].state == "done"
    assert told[-1].done == 1


def test_a_victim_of_tables_takes_no_pictures(tmp_path):
    two_classes(tmp_path)
    with pytest.raises(DataError, match="pictures were given; the victim takes table records"):
        read_images(tmp_path, spec=InputSpec((4,), Bounds.of(0.0, 1.0), Modality.TABLE))


def test_more_pictures_than_memory_are_refused_before_reading(tmp_path, monkeypatch):
    two_classes(tmp_path)
    monkeypatch.setattr("seepage.data.images._memory", lambda: 1000)
    with pytest.raises(DataError, match=r"4 pictures of 8x6 take .* GiB .*; give limit, or a smaller size"):
        read_images(tmp_path)
