"""Arrays in memory, .npz files, torch Datasets, and the one dispatcher for them all."""

import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from seepage.core.errors import DataError
from seepage.core.records import Records
from seepage.core.spec import Bounds, InputSpec
from seepage.core.vocabulary import Modality
from seepage.data import Reading, as_records, as_splits, frame_records, read_images, read_npz
from seepage.data.labels import class_numbers

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(6, 4)).astype(np.float32)
Y = np.asarray([0, 1, 2, 0, 1, 2])
PIXELS = RNG.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)


def test_one_table_in_many_wrappings_is_one_table():
    want = as_records((TABLE, Y)).digest()
    frame = pd.DataFrame(TABLE, columns=list("abcd"))
    for thing in (
        (TABLE.astype(np.float64), Y.astype(np.int32)),
        (TABLE.tolist(), Y.tolist()),
        (torch.tensor(TABLE, requires_grad=True), torch.tensor(Y)),
        (torch.tensor(TABLE).to_sparse(), torch.tensor(Y)),
        (list(torch.tensor(TABLE)), Y),
        (frame, pd.Series(Y)),
        (TABLE, Y[:, None]),
        (TABLE, np.eye(3)[Y]),
        frame.assign(target=Y),
        {"x": TABLE, "y": Y},
        torch.utils.data.TensorDataset(torch.tensor(TABLE), torch.tensor(Y)),
        as_records((TABLE, Y)),
    ):
        records = as_records(thing, target="target" if isinstance(thing, pd.DataFrame) else None)
        assert records.digest() == want, type(thing)
        assert records.modality is Modality.TABLE
    assert as_records((torch.tensor(TABLE).bfloat16(), Y)).x.dtype == np.float32


def test_images_in_every_layout_are_channels_first():
    want = np.moveaxis(PIXELS, -1, 1) / np.float32(255)
    spec = InputSpec((3, 5, 7))
    first = np.moveaxis(PIXELS, -1, 1)
    for x, given in (
        (PIXELS, None),
        (PIXELS, spec),
        (first, None),
        (first, spec),
        (want, spec),
        (want.reshape(6, -1), spec),
        (torch.tensor(want), None),
    ):
        np.testing.assert_array_equal(as_records((x, Y), spec=given).x, want)
    grey = PIXELS[..., 0]
    for x in (grey, grey[..., None], grey[:, None]):
        np.testing.assert_array_equal(as_records((x, Y)).x, grey[:, None] / np.float32(255))
        np.testing.assert_array_equal(as_records((x, Y), spec=InputSpec((1, 5, 7))).x, grey[:, None] / np.float32(255))


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_whole_pixels_are_mapped_to_the_declared_range(dtype, top):
    x = np.asarray([[[0, top], [top // 5, top]]] * 2, dtype=dtype)
    for low, high in ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)):
        got = as_records((x, [0, 1]), spec=InputSpec((1, 2, 2), Bounds.of(low, high))).x
        np.testing.assert_allclose(got[0, 0], low + (high - low) * np.asarray([[0, 1], [0.2, 1]]), rtol=1e-6)


def test_whole_numbers_in_a_table_are_left_alone():
    x = np.asarray([[0, 255], [3, 4]], dtype=np.uint8)
    np.testing.assert_array_equal(as_records((x, [0, 1])).x, x)


@pytest.mark.parametrize(
    ("thing", "spec", "message"),
    [
        ((np.zeros((4, 3, 8, 3)), [0, 1, 0, 1]), None, r"may be channels first or channels last"),
        ((np.zeros((4, 8, 8, 4)), [0, 1, 0, 1]), None, r"no table .* declare the victim's input shape"),
        ((np.zeros((4, 2, 2, 2, 2)), [0, 1, 0, 1]), None, r"records of shape \(2, 2, 2, 2\) are no table"),
        ((np.zeros(4), [0, 1, 0, 1]), None, r"one row a record was wanted, got an array of shape \(4,\)"),
        ((np.zeros((0, 4)), []), None, r"there are no records"),
        (
            (np.zeros((4, 9, 9)), [0, 1, 0, 1]),
            InputSpec((1, 8, 8)),
            r"images should have shape \(1, 8, 8\).*got \(9, 9\)",
        ),
        ((np.zeros((4, 8, 8)), [0, 1, 0, 1]), InputSpec((3, 8, 8)), r"images should have shape \(3, 8, 8\)"),
        ((np.zeros((2, 8, 8)) + 3, [0, 1]), InputSpec((1, 8, 8)), r"values should lie in \[0, 1\], got \[3, 3\]"),
        ((np.ones((2, 8, 8), np.uint8), [0, 1]), None, r"of type uint8 with no value above 1"),
        ((np.full((2, 3), 1e200), [0, 1]), None, r"6 values are too large for a 32-bit float, first in record 0"),
        ((np.asarray([[1.0, 2], [np.nan, 1]]), [0, 1]), None, r"1 records hold NaN or infinite values, first record 1"),
        (([[1, 2], [3]], [0, 1]), None, r"an array of records of one shape was wanted"),
        ((np.asarray([["a"], ["b"]]), [0, 1]), None, r"numbers were wanted, got values of type <U1"),
        ((np.asarray([[object()], [None]]), [0, 1]), None, r"objects that are no numbers"),
        ((TABLE, Y[:4]), None, r"6 records came with 4 labels"),
        ((TABLE, None), None, r"records with their classes were wanted"),
        (TABLE, None, r"records with their classes were wanted: give a pair"),
        ((TABLE, np.zeros(6)), None, r"at least 2 classes were wanted, got 1"),
        ((TABLE, Y, Y), None, r"a pair \(x, y\) was wanted, got a tuple of 3"),
        (3, None, r"a data frame, a torch Dataset or a path was wanted, got a int"),
        ((TABLE, Y), InputSpec((5,), Bounds.of(-9.0, 9.0), Modality.TABLE), r"should have shape \(5,\), got \(4,\)"),
        ((TABLE, [0, 1, 2, None, 1, 2]), None, r"1 labels are missing, first in row 4"),
        ((TABLE, [0.5, 1, 2, 0, 1, 2]), None, r"the target holds real numbers"),
        ((TABLE, np.zeros((6, 2))), None, r"one class a record was wanted"),
        ({"x": TABLE}, None, r"no array 'y' in memory, which holds x"),
    ],
)
def test_each_fault_has_its_one_message(thing, spec, message):
    with pytest.raises(DataError, match=rf"members: .*{message}"):
        as_records(thing, spec=spec)


@pytest.mark.parametrize(
    ("labels", "numbers", "names"),
    [
        ([2, 0, 1], [2, 0, 1], ("0", "1", "2")),
        ([0, 2], [0, 2], ("0", "1", "2")),
        ([1, 2, 3], [0, 1, 2], ("1", "2", "3")),
        ([-1, 1], [0, 1], ("-1", "1")),
        ([3.0, 1.0], [1, 0], ("1", "3")),
        ([True, False], [1, 0], ("False", "True")),
        (["s10", "s2"], [1, 0], ("s2", "s10")),
        ([b"b", b"a"], [1, 0], ("a", "b")),
        ([0, 10**9], [0, 1], ("0", "1000000000")),
        (pd.Categorical(["u", "v", "u"]), [0, 1, 0], ("u", "v")),
    ],
)
def test_labels_of_any_kind_become_class_numbers(labels, numbers, names):
    y, found = class_numbers(labels)
    assert y.dtype == np.int64
    assert y.tolist() == numbers
    assert found == names


def test_labels_agree_with_given_names_by_name_and_else_by_number():
    assert class_numbers(["dog", "cat"], ("dog", "cat", "eel"))[0].tolist() == [0, 1]
    assert class_numbers([1, 3], ("1", "2", "3"))[0].tolist() == [0, 2]
    assert class_numbers([0, 2], ("dog", "cat", "eel"))[0].tolist() == [0, 2]
    with pytest.raises(
        DataError, match=r"nonmembers: 1 classes are not among the 2 known ones \('dog', 'cat'\): 'eel'"
    ):
        class_numbers(["dog", "eel"], ("dog", "cat"), "nonmembers")
    with pytest.raises(DataError, match=r": '7'"):
        class_numbers([0, 7], ("dog", "cat"))


def test_npz_comes_back_as_it_was(tmp_path):
    names = ("ann", "bob", "cy")
    np.savez(tmp_path / "d.npz", x=TABLE, y=Y, class_names=np.asarray(names), ids=np.asarray(list("abcdef")))
    records = as_records(tmp_path / "d.npz")
    assert records.digest() == as_records((TABLE, Y)).digest()
    assert records.class_names == names
    assert records.ids == tuple("abcdef")
    other = as_records(str(tmp_path / "d.npz"), class_names=("cy", "bob", "ann"), what="nonmembers")
    assert other.labels().tolist() == (2 - Y).tolist()
    np.savez(tmp_path / "e.npz", pixels=PIXELS, person=Y)
    chosen = Reading(x="pixels", y="person")
    np.testing.assert_array_equal(as_records(tmp_path / "e.npz", reading=chosen).x, as_records((PIXELS, Y)).x)
    with pytest.raises(DataError, match=r"no array 'x' in e.npz, which holds pixels, person"):
        read_npz(tmp_path / "e.npz")
    with pytest.raises(DataError, match=r"no array 'name' in e.npz"):
        read_npz(tmp_path / "e.npz", reading=Reading(x="pixels", y="name"))


def test_damaged_and_dangerous_npz_files_are_refused(tmp_path):
    whole = tmp_path / "w.npz"
    np.savez(whole, x=TABLE, y=Y)
    raw = whole.read_bytes()
    for i, cut in enumerate((0, 10, 200, len(raw) - 30)):
        part = tmp_path / f"{i}.npz"
        part.write_bytes(raw[:cut])
        with pytest.raises(DataError, match=rf"{i}.npz is no complete .npz file"):
            read_npz(part)
    flipped = bytearray(raw)
    flipped[200] ^= 255
    (tmp_path / "f.npz").write_bytes(bytes(flipped))
    with pytest.raises(DataError, match=r"f.npz is no complete .npz file"):
        read_npz(tmp_path / "f.npz")
    np.savez(tmp_path / "o.npz", x=np.asarray([{"a": 1}, {}], dtype=object), y=[0, 1])
    with pytest.raises(DataError, match=r"array 'x' in o.npz holds Python objects, which run code"):
        read_npz(tmp_path / "o.npz")
    np.save(tmp_path / "b.npy", TABLE)
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    with pytest.raises(DataError, match=r"holds one bare array"):
        read_npz(tmp_path / "b.npz")
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as file:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000), }"
        header += b" " * (117 - len(header)) + b"\n"
        file.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match=r"huge.npz"):
        read_npz(tmp_path / "huge.npz")


def test_paths_of_no_known_kind_are_refused(tmp_path):
    (tmp_path / "records.csv").write_text("a,class\n1,0\n2,1\n")
    with pytest.raises(DataError, match=r"no file or folder at .*record.csv; did you mean 'records.csv'"):
        as_records(tmp_path / "record.csv")
    for name, message in (("m.pt", "is a pickle, which runs code when loaded"), ("m.mat", "is of no known kind")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(DataError, match=message):
            as_records(tmp_path / name)


class Pairs(torch.utils.data.Dataset):
    def __init__(self, items, classes=None):
        self.items = items
        if classes is not None:
            self.classes = classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        row = 0
        while True:
            yield TABLE[row % 6], row % 3
            row += 1


def test_a_torch_dataset_gives_its_items_in_order():
    want = as_records((PIXELS, Y))
    pictures = [Image.fromarray(one) for one in PIXELS]
    floats = torch.tensor(want.x)
    for dataset in (
        Pairs([(one, int(c)) for one, c in zip(pictures, Y, strict=True)]),
        Pairs([(one, torch.tensor(c)) for one, c in zip(floats, Y, strict=True)]),
        Pairs([{"image": one, "label": c} for one, c in zip(PIXELS, Y, strict=True)]),
        Pairs([[one, c, "more"] for one, c in zip(floats, Y, strict=True)]),
    ):
        told = []
        records = as_records(dataset, progress=told.append)
        assert records.digest() == want.digest()
        assert told[-1].state == "done"
    resized = as_records(Pairs(list(zip(pictures, Y.tolist(), strict=True))), spec=InputSpec((1, 4, 4)))
    assert resized.x.shape == (6, 1, 4, 4)
    assert as_records(Pairs(list(floats)), what="public").y is None


def test_classes_named_by_a_torch_dataset_are_kept_and_agree_by_name():
    members = as_records(Pairs(list(zip(TABLE, Y.tolist(), strict=True)), classes=["cat", "dog", "eel"]))
    assert members.class_names == ("cat", "dog", "eel")
    others = Pairs(list(zip(TABLE, Y.tolist(), strict=True)), classes=["eel", "dog", "cat"])
    again = as_records(others, class_names=members.class_names, what="nonmembers")
    assert again.labels().tolist() == (2 - Y).tolist()


def test_a_limit_and_a_dataset_without_an_end():
    with pytest.raises(DataError, match="may have no end; give limit"):
        as_records(Stream())
    assert len(as_records(Stream(), reading=Reading(limit=7))) == 7
    some = as_records((TABLE, Y), reading=Reading(limit=3))
    assert some.ids == ("0", "2", "4")
    assert (
        as_records(Pairs(list(zip(TABLE, Y.tolist(), strict=True))), reading=Reading(limit=3)).digest() == some.digest()
    )


def test_faults_of_a_torch_dataset_name_the_record():
    class Broken(Pairs):
        def __getitem__(self, row):
            if row == 2:
                raise OSError("disk gone")
            return TABLE[row], 0

    with pytest.raises(DataError, match="record 2 of the Broken cannot be read: OSError: disk gone"):
        as_records(Broken([0] * 4))
    with pytest.raises(DataError, match=r"record 0 has \(4,\), record 1 another"):
        as_records(Pairs([(TABLE[0], 0), (TABLE[1][:2], 1)]))
    with pytest.raises(DataError, match=r"give its dataset instead \(loader.dataset\)"):
        as_records(torch.utils.data.DataLoader(Pairs([(TABLE[0], 0)])))
    with pytest.raises(DataError, match="the dataset is empty"):
        as_records(Pairs([]))
    with pytest.raises(DataError, match="gives records alone"):
        as_records(Pairs(list(TABLE)))
    with pytest.raises(DataError, match="items have the keys a, b; say which is the record"):
        as_records(Pairs([{"a": 1, "b": 2}]))


def test_records_are_taken_as_they_are_and_renumbered_by_name():
    members = as_records((TABLE, np.asarray(list("abcabc"))))
    assert as_records(members) is members
    others = Records(TABLE, Y, ("c", "a", "b"), modality=Modality.TABLE)
    assert as_records(others, class_names=("a", "b", "c"), what="nonmembers").labels().tolist() == [2, 0, 1, 2, 0, 1]
    texts = as_records(["one text", "another"])
    assert texts.modality is Modality.TEXT
    assert as_records(texts) is texts


def test_splits_share_classes_and_columns(tmp_path):
    members = pd.DataFrame({"c": ["x", "y", "z"], "v": [1, 2, 3], "class": ["b", "a", "b"]})
    others = pd.DataFrame({"class": ["b", "b"], "v": [5, 6], "c": ["z", "z"]})
    members.to_csv(tmp_path / "m.csv", index=False)
    others.to_parquet(tmp_path / "o.parquet")
    others.drop(columns="class").to_csv(tmp_path / "p.csv", index=False)
    splits = as_splits(
        tmp_path / "m.csv",
        tmp_path / "o.parquet",
        tmp_path / "p.csv",
        target="class",
        reading=Reading(encode="onehot"),
    )
    assert splits.members.features == splits.nonmembers.features == splits.public.features == ("c=x", "c=y", "c=z", "v")
    np.testing.assert_array_equal(splits.nonmembers.x, [[0, 0, 1, 5], [0, 0, 1, 6]])
    assert splits.nonmembers.class_names == ("a", "b")
    assert splits.nonmembers.labels().tolist() == [1, 1]
    assert splits.public.y is None
    assert splits.members.source == "m.csv"
    strange = others.assign(c="w")
    with pytest.raises(DataError, match=r"nonmembers: the column 'c' holds 'w' in row 1"):
        as_splits(members, strange, target="class", reading=Reading(encode="onehot"))
    with pytest.raises(DataError, match=r"nonmembers: 1 classes are not among the 2 known ones .*: 'q'"):
        as_splits(members, others.assign(**{"class": "q"}), target="class", reading=Reading(encode="onehot"))


def test_public_people_keep_their_own_classes_and_shared_classes_their_numbers():
    members = (TABLE, np.asarray(list("abcabc")))
    same = as_splits(members, public=(TABLE[:2], np.asarray(["c", "b"]))).public
    assert same.class_names == ("a", "b", "c")
    assert same.labels().tolist() == [2, 1]
    other = as_splits(members, public=(TABLE[:2], np.asarray(["u", "b"]))).public
    assert other.class_names == ("b", "u")
    assert as_splits(members, public=TABLE).public.y is None


def test_one_data_set_in_every_kind_of_source_is_one_data_set(tmp_path):
    for name, rows in (("p2", [1, 4]), ("p10", [2, 5]), ("p1", [0, 3])):
        (tmp_path / "folder" / name).mkdir(parents=True)
        for row in rows:
            Image.fromarray(PIXELS[row]).save(tmp_path / "folder" / name / f"{row}.png")
    folder = read_images(tmp_path / "folder")
    assert folder.class_names == ("p1", "p2", "p10")
    order = [0, 3, 1, 4, 2, 5]
    np.savez(tmp_path / "d.npz", x=PIXELS[order], y=Y[order], class_names=np.asarray(folder.class_names))
    npz = as_records(tmp_path / "d.npz")
    assert npz.digest() == folder.digest()
    assert npz.class_names == folder.class_names
    flat = pd.DataFrame(folder.x.reshape(6, -1)).assign(who=[folder.class_names[c] for c in folder.labels()])
    flat.columns = [str(name) for name in flat.columns]
    flat.to_parquet(tmp_path / "d.parquet")
    flat.to_csv(tmp_path / "d.csv", index=False)
    for path in (tmp_path / "d.parquet", tmp_path / "d.csv"):
        table = as_records(path, target="who")
        assert table.class_names == folder.class_names
        np.testing.assert_array_equal(table.x.reshape(folder.x.shape), folder.x)
        np.testing.assert_array_equal(table.labels(), folder.labels())
    assert frame_records(flat, reading=Reading(target="who")).digest() == table.digest()
