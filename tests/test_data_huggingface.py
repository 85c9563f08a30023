"""A Hugging Face dataset saved on disk."""

import sys

import numpy as np
import pytest
from PIL import Image

from seepage.core.errors import DataError, MissingExtra
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality
from seepage.data import Reading, as_records, read_huggingface

datasets = pytest.importorskip("datasets", reason="the extra [hf] is not installed")
datasets.disable_progress_bars()

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
Y = [0, 1, 2, 0, 1, 2]
NAMES = ["s1", "s2", "s10"]


def pictures(**features) -> "datasets.Dataset":
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES), **features})
    return datasets.Dataset.from_dict({"image": [Image.fromarray(one) for one in PIXELS], "label": Y}, features=kinds)


def test_pictures_come_back_pixel_by_pixel_with_their_class_names(tmp_path):
    pictures().save_to_disk(str(tmp_path / "d"))
    records = as_records(tmp_path / "d")
    assert records.digest() == as_records((PIXELS, np.asarray(Y))).digest()
    assert records.class_names == tuple(NAMES)
    assert records.modality is Modality.IMAGE
    assert as_records(pictures()).digest() == records.digest()
    small = as_records(tmp_path / "d", spec=InputSpec((1, 4, 4)), reading=Reading(limit=3))
    assert small.x.shape == (3, 1, 4, 4)
    assert small.ids == ("0", "2", "4")
    other = as_records(tmp_path / "d", class_names=("s10", "s2", "s1"), what="nonmembers")
    assert other.labels().tolist() == [2, 1, 0, 2, 1, 0]


def test_a_split_is_chosen_by_name(tmp_path):
    datasets.DatasetDict({"train": pictures(), "test": pictures().select(range(3))}).save_to_disk(str(tmp_path / "d"))
    assert len(as_records(tmp_path / "d", reading=Reading(split="test"))) == 3
    with pytest.raises(DataError, match=r"choose one with split; 'train', 'test'"):
        as_records(tmp_path / "d")
    with pytest.raises(DataError, match=r"no split 'tests' in the dataset: did you mean 'test'"):
        as_records(tmp_path / "d", reading=Reading(split="tests"))


def test_columns_of_arrays_and_tables(tmp_path):
    grey = PIXELS[..., 0]
    kinds = datasets.Features({"pixels": datasets.Array2D((5, 7), "uint8"), "who": datasets.Value("string")})
    arrays = datasets.Dataset.from_dict({"pixels": list(grey), "who": [NAMES[c] for c in Y]}, features=kinds)
    arrays.save_to_disk(str(tmp_path / "a"))
    records = as_records(tmp_path / "a", reading=Reading(y="who"), spec=InputSpec((1, 5, 7)))
    assert records.digest() == as_records((grey, np.asarray(Y))).digest()
    assert records.class_names == tuple(NAMES)
    lists = datasets.Dataset.from_dict({"x": [[0.5, 1.5], [2.5, 3.5]], "label": [1, 0]})
    np.testing.assert_array_equal(as_records(lists).x, [[0.5, 1.5], [2.5, 3.5]])
    table = datasets.Dataset.from_dict({"a": [1.0, 2.0, 3.0], "b": ["u", "v", "u"], "label": [0, 1, 1]})
    table.save_to_disk(str(tmp_path / "t"))
    rows = as_records(tmp_path / "t", reading=Reading(encode="onehot"))
    assert rows.features == ("a", "b=u", "b=v")
    np.testing.assert_array_equal(rows.x, [[1, 1, 0], [2, 0, 1], [3, 1, 0]])
    assert as_records(table, target="label", reading=Reading(drop=["b"])).features == ("a",)


def test_a_missing_label_or_picture_or_column_is_named(tmp_path):
    holes = datasets.Dataset.from_dict(
        {"image": [Image.fromarray(PIXELS[0]), None], "label": [0, 1]}, features=pictures().features
    )
    with pytest.raises(DataError, match="record 1 holds no picture"):
        as_records(holes)
    unlabelled = datasets.Dataset.from_dict(
        {"image": [Image.fromarray(one) for one in PIXELS[:2]], "label": [0, -1]}, features=pictures().features
    )
    with pytest.raises(DataError, match="1 labels are missing, first in row 2"):
        as_records(unlabelled)
    with pytest.raises(DataError, match="no column 'labels': did you mean 'label'"):
        as_records(pictures(), reading=Reading(y="labels"))
    with pytest.raises(DataError, match="no column 'images': did you mean 'image'"):
        as_records(pictures(), reading=Reading(x="images"))
    with pytest.raises(DataError, match="say which column holds the class with y"):
        as_records(pictures().remove_columns("label"))
    assert as_records(pictures().remove_columns("label"), what="public").y is None


def test_nothing_is_downloaded():
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    away = datasets.Dataset.from_dict(
        {"image": [{"path": "https://example.invalid/0.png", "bytes": None}] * 2, "label": [0, 1]}, features=kinds
    )
    with pytest.raises(DataError, match=r"record 0 is not stored in the dataset .*nothing is downloaded"):
        as_records(away)


def test_a_damaged_picture_or_folder_is_named(tmp_path):
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    broken = datasets.Dataset.from_dict(
        {"image": [{"path": None, "bytes": b"\x89PNG\r\n\x1a\nrest"}] * 2, "label": [0, 1]}, features=kinds
    )
    with pytest.raises(DataError, match="the picture of record 0 cannot be read"):
        as_records(broken)
    pictures().save_to_disk(str(tmp_path / "d"))
    (arrow,) = (tmp_path / "d").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(DataError, match="the Hugging Face dataset in d is damaged"):
        as_records(tmp_path / "d")
    (tmp_path / "d" / "state.json").write_text("{")
    with pytest.raises(DataError, match="the Hugging Face dataset in d is damaged"):
        as_records(tmp_path / "d")
    with pytest.raises(DataError, match="is no folder written by save_to_disk"):
        read_huggingface(tmp_path)


def test_the_extra_is_named_when_absent(tmp_path, monkeypatch):
    pictures().save_to_disk(str(tmp_path / "d"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'seepage\[hf\]'"):
        as_records(tmp_path / "d")
