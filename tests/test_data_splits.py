"""How records are told apart, and what is checked once they are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seepage.core.errors import DataError
from seepage.core.records import Records, Splits
from seepage.core.spec import Bounds, InputSpec
from seepage.core.vocabulary import Modality
from seepage.data import as_records, check_splits, split_classes, split_identities, split_records, without_overlap
from seepage.data.splits import near_duplicates


def people(n: int = 8, each: int = 6, seed: int = 0) -> Records:
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n), each)
    x = (rng.uniform(size=(n, 1, 12, 12))[y] + 0.2 * rng.normal(size=(n * each, 1, 12, 12))).astype(np.float32)
    ids = tuple(f"p{c}/{i}" for c in range(n) for i in range(each))
    return Records(x, y, tuple(f"p{c}" for c in range(n)), ids)


def table(counts: list[int], seed: int = 0) -> Records:
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.random.default_rng(seed).normal(size=(len(y), 3)).astype(np.float32)
    return Records(x, y, tuple(f"c{i}" for i in range(len(counts))), modality=Modality.TABLE)


def named(records: Records) -> set[tuple[str, str]]:
    return {(one, records.class_names[c]) for one, c in zip(records.ids, records.labels(), strict=True)}


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.integers(1, 5), st.integers(0, 2**31))
def test_identities_are_told_apart_without_loss(private, members, seed):
    records = people()
    splits = split_identities(records, private, members, seed)
    parts = [part for part in (splits.members, splits.nonmembers, splits.public) if part is not None]
    assert sum(len(part) for part in parts) == len(records)
    assert set().union(*(named(part) for part in parts)) == named(records)
    assert splits.members.class_names == splits.nonmembers.class_names
    assert np.bincount(splits.members.labels()).tolist() == [members] * private
    assert list(splits.members.class_names) == sorted(splits.members.class_names)
    assert (splits.public is None) == (private == 8)
    if splits.public is not None:
        assert not set(splits.public.class_names) & set(splits.members.class_names)


def test_the_same_seed_tells_the_same_apart_and_another_seed_others():
    records = people()
    first, again, other = (split_identities(records, 4, 3, seed) for seed in (1, 1, 2))
    assert first.members.digest() == again.members.digest()
    assert first.public.digest() == again.public.digest()
    assert first.members.digest() != other.members.digest()


def test_the_draws_of_a_person_do_not_depend_on_the_order_of_records_or_on_other_people():
    records = people()
    turned = records[np.arange(len(records))[::-1]]
    renamed = replace(turned, ids=turned.ids)
    whole = split_classes(records, ["p1", "p2", "p3"], 3, seed=5)
    fewer = split_classes(records, ["p1", "p3"], 3, seed=5)
    assert named(fewer.members) <= named(whole.members)
    assert (
        split_identities(renamed, 4, 3, seed=9).members.class_names
        == split_identities(records, 4, 3, seed=9).members.class_names
    )


def test_every_person_and_picture_is_equally_likely_to_be_private_and_a_member():
    records = people(6, 4)
    private, members = np.zeros(6), dict.fromkeys(records.ids, 0)
    runs = 300
    for seed in range(runs):
        splits = split_identities(records, 3, 2, seed)
        for name in splits.members.class_names:
            private[int(name[1:])] += 1
        for one in splits.members.ids:
            members[one] += 1
    # Binomial with probabilities 1/2 and 1/4: six standard errors around each of 6 and 24 counts.
    assert np.abs(private / runs - 0.5).max() < 6 * np.sqrt(0.25 / runs)
    assert np.abs(np.asarray(list(members.values())) / runs - 0.25).max() < 6 * np.sqrt(0.1875 / runs)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=5), st.integers(0, 2**31))
def test_shares_are_kept_class_by_class(counts, seed):
    records = table(counts)
    if sum(counts) < 12:
        return
    try:
        splits = split_records(records, 0.4, 0.4, 0.2, seed)
    except DataError as error:
        assert "would get none" in str(error) and sum(counts) < 40  # noqa: PT017, PT018
        return
    parts = [splits.members, splits.nonmembers, splits.public]
    assert sorted(one for part in parts for one in part.ids) == sorted(records.ids)
    for c, count in enumerate(counts):
        got = [int((part.labels() == c).sum()) for part in parts]
        assert got[0] >= 1
        assert all(abs(have - share * count) <= 1 for have, share in zip(got, (0.4, 0.4, 0.2), strict=True))
    assert splits.members.class_names == records.class_names


def test_rounding_favours_no_split():
    records = table([5] * 4)
    sizes = np.asarray(
        [
            [len(split.members), len(split.nonmembers), len(split.public)]
            for split in (split_records(records, 0.4, 0.4, 0.2, seed) for seed in range(60))
        ]
    )
    np.testing.assert_array_equal(sizes, [[8, 8, 4]] * 60)
    halves = np.asarray([len(split_records(records, 0.5, 0.5, 0.0, seed).members) for seed in range(200)])
    assert abs(halves.mean() - 10) < 6 * np.sqrt(4 * 0.25 / 200)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: split_identities(r, 1), r"private is a number of classes from 2 to 8"),
        (lambda r: split_identities(r, 9), r"private is a number of classes from 2 to 8"),
        (lambda r: split_identities(r, 4, 6), r"no members or no non-members of the class 'p\d', which has 6 records"),
        (lambda r: split_classes(r, ["p1", "q"]), r"private names 2 or more of the classes 'p0'"),
        (lambda r: split_records(r, 0.8, 0.4, 0.2), r"sum to 1 at most; got 0.8, 0.4 and 0.2"),
        (lambda r: split_records(r, 0.0, 0.4, 0.2), r"members above 0"),
        (lambda r: split_records(replace(r, y=None)), r"labelled records were wanted"),
    ],
)
def test_splits_that_cannot_be_are_refused(call, message):
    with pytest.raises(DataError, match=message):
        call(people())


def found(splits: Splits) -> dict[str, tuple[bool, str]]:
    return {check.name: (check.passed, check.message) for check in check_splits(splits)}


def test_sound_splits_pass_every_check():
    splits = split_identities(people(), 4, 3)
    checks = found(splits)
    assert all(passed for passed, _ in checks.values()), checks
    assert set(checks) == {
        "members per class",
        "members among non-members",
        "near duplicates in nonmembers",
        "same classes",
        "members among public",
        "near duplicates in public",
    }
    assert found(Splits(splits.members)).keys() == {"members per class"}


def test_members_among_the_nonmembers_are_refused_or_dropped():
    splits = split_identities(people(), 4, 3)
    twins = splits.members[[0, 4]]
    mixed = replace(splits, nonmembers=splits.nonmembers.joined(twins))
    with pytest.raises(
        DataError, match=rf"2 of 14 non-members are members.*'{twins.ids[0]}' equals the member '{twins.ids[0]}'"
    ):
        check_splits(mixed)
    assert without_overlap(mixed).nonmembers.ids == splits.nonmembers.ids
    assert without_overlap(Splits(splits.members)).nonmembers is None
    signed = replace(splits.members[[0, 1]], x=np.stack([np.zeros((1, 2, 2)), np.ones((1, 2, 2))]).astype(np.float32))
    other = replace(signed, x=np.where(signed.x == 0, np.float32(-0.0), np.float32(2)))
    with pytest.raises(DataError, match="1 of 2 non-members are members"):
        check_splits(Splits(replace(signed, y=np.asarray([0, 1])), replace(other, y=np.asarray([0, 1]))))


def test_members_among_the_public_records_are_a_loud_warning():
    splits = split_identities(people(), 4, 3)
    public = splits.public.joined(replace(splits.members[[2, 3, 5]], class_names=splits.public.class_names))
    passed, message = found(replace(splits, public=public))["members among public"]
    assert not passed
    assert message.startswith("3 of 12 members are public records too")


def test_near_duplicates_are_seen_through_brightness_contrast_and_noise_but_not_across_pictures():
    rng = np.random.default_rng(1)
    x = rng.uniform(size=(30, 1, 32, 32)).astype(np.float32)
    a, b = x[:20], x[10:]
    rows, twins = near_duplicates(a, b)
    assert rows.tolist() == list(range(10, 20))
    assert twins.tolist() == list(range(10))
    changed = (0.3 + 0.5 * b + 0.005 * rng.normal(size=b.shape)).astype(np.float32)
    assert near_duplicates(a, changed)[0].tolist() == list(range(10, 20))
    assert len(near_duplicates(a, x[20:])[0]) == 0
    flat = np.full((3, 1, 32, 32), 0.5, dtype=np.float32)
    assert len(near_duplicates(flat, flat)[0]) == 0
    splits = split_identities(people(), 4, 3)
    brighter = replace(splits.members[[0]], x=splits.members.x[[0]] * np.float32(0.9), ids=("copy",))
    mixed = replace(splits, nonmembers=splits.nonmembers.joined(brighter))
    passed, message = found(mixed)["near duplicates in nonmembers"]
    assert not passed
    assert f"'{splits.members.ids[0]}' and 'copy' correlate above 0.995" in message


def test_few_members_and_missing_classes_are_warnings():
    records = table([6, 6, 6])
    lonely = records[[0, 6, 7, 12, 13]]
    checks = found(Splits(lonely, records[[1, 2, 8]]))
    assert checks["members per class"] == (
        False,
        "1 of 3 classes have fewer than 2 members: 'c0'; their results say little",
    )
    assert checks["same classes"] == (
        False,
        "members and non-members cover different classes; 1 without non-members: 'c2'",
    )


def test_what_cannot_be_compared_is_refused():
    records = table([4, 4])
    with pytest.raises(DataError, match="at least 2 classes were wanted, got 1"):
        check_splits(Splits(records[:4]))
    with pytest.raises(DataError, match="nonmembers: there are no records"):
        check_splits(Splits(records, records[:0]))
    with pytest.raises(DataError, match=r"like the members, table of shape \(3,\); got table of shape \(2,\)"):
        check_splits(Splits(records, replace(records, x=records.x[:, :2] + 1)))
    with pytest.raises(DataError, match=r"should have the same classes: 2 .* against 3"):
        check_splits(Splits(records, replace(table([1, 1, 1], 1), modality=Modality.TABLE)))
    with pytest.raises(DataError, match="column 2 is 'z', theirs 'b'"):
        check_splits(
            Splits(replace(records, features=("a", "b", "c")), replace(table([2, 2], 1), features=("a", "z", "c")))
        )
    spec = InputSpec((3,), Bounds.of(-0.1, 0.1), Modality.TABLE)
    with pytest.raises(DataError, match=r"members: values should lie in \[-0.1, 0.1\]"):
        check_splits(Splits(records), spec)


def test_texts_are_compared_as_texts():
    members = as_records(["the first", "the second"])
    assert [check.passed for check in check_splits(Splits(members, as_records(["another", "one more"])))] == [True]
    with pytest.raises(DataError, match="1 of 2 non-members are members"):
        check_splits(Splits(members, as_records(["another", "the first"])))
