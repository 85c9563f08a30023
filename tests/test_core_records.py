"""Records: selection, joining, digests, overlaps; and recipes, which are made of them."""

from typing import Any

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seepage.core.errors import ConfigError, DataError
from seepage.core.recipe import Recipe
from seepage.core.records import Records, row_digests
from seepage.core.vocabulary import Modality


def records(n: int = 6, seed: int = 0) -> Records:
    rng = np.random.default_rng(seed)
    return Records(
        rng.random((n, 1, 2, 2)).astype(np.float32),
        np.arange(n) % 3,
        ("a", "b", "c"),
        tuple(f"r{i}" for i in range(n)),
        source="drawn",
    )


ROWS = st.lists(st.integers(0, 5), max_size=8)


@given(rows=ROWS)
def test_a_selection_keeps_records_labels_and_names_together(rows: list[int]) -> None:
    whole = records()
    part = whole[np.array(rows, dtype=int)]
    assert len(part) == len(rows)
    np.testing.assert_array_equal(part.x, whole.x[np.array(rows, dtype=int)])
    np.testing.assert_array_equal(part.labels(), whole.labels()[np.array(rows, dtype=int)])
    assert part.ids == tuple(whole.ids[i] for i in rows)
    assert (part.class_names, part.source, part.modality) == (whole.class_names, whole.source, whole.modality)


def test_every_way_to_select_gives_the_same() -> None:
    whole = records()
    mask = np.array([True, False, True, False, False, True])
    by_rows = whole[[0, 2, 5]]
    assert whole[mask].ids == by_rows.ids == ("r0", "r2", "r5")
    assert whole[:3].ids == whole[np.arange(3)].ids
    assert whole[::-1].ids == whole.ids[::-1]
    assert whole.of_class(1).ids == ("r1", "r4")
    assert len(whole.of_class(9)) == 0


@given(rows=ROWS, other=ROWS)
def test_the_digest_is_of_values_labels_and_order(rows: list[int], other: list[int]) -> None:
    whole = records()
    one, two = whole[np.array(rows, dtype=int)], whole[np.array(other, dtype=int)]
    assert (one.digest() == two.digest()) == (rows == other)


def test_the_digest_leaves_names_out_and_takes_labels_in() -> None:
    one = records()
    renamed = Records(one.x.copy(), one.labels().copy(), one.class_names)
    assert renamed.digest() == one.digest()
    assert Records(one.x).digest() != one.digest()
    assert Records(one.x[:, ::-1, ::-1]).digest() != Records(one.x).digest()
    assert Records(one.x.astype(np.float64)).digest() != Records(one.x).digest()
    assert Records(one.x.reshape(6, 4)).digest() != Records(one.x).digest()


def test_the_digest_does_not_hang_on_memory_layout() -> None:
    one = records()
    strided = Records(np.asfortranarray(one.x), one.labels())
    assert strided.digest() == Records(one.x, one.labels()).digest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ("one",)}, "6 records, 1 ids"),
        ({"y": np.array([0, 1, 2, 3, 0, 1])}, "labels should be 0 to 2, got 0 to 3"),
        ({"y": np.array([0, 1, 2, -1, 0, 1])}, "labels should be 0 to 2, got -1 to 2"),
        ({"texts": ("one",)}, "6 records, 1 texts"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    given_: dict[str, Any] = {"x": records().x, "y": records().y, "class_names": ("a", "b", "c"), **changes}
    with pytest.raises(DataError, match=message):
        Records(**given_)


def test_labels_that_are_too_few_are_refused_without_a_type_checker_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker of shapes that runs in these tests refuses them first; users run without it."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(DataError, match="6 records, 5 labels"):
        Records(records().x, np.arange(5))


def test_names_are_made_up_where_none_are_given() -> None:
    plain = Records(np.zeros((3, 2), dtype=np.float32), np.array([0, 2, 0]))
    assert plain.ids == ("0", "1", "2")
    assert plain.class_names == ("0", "1", "2")


def test_unlabelled_records_say_so() -> None:
    with pytest.raises(DataError, match="those from 'drawn' carry no classes"):
        Records(np.zeros((2, 2), dtype=np.float32), source="drawn").labels()


def test_joining() -> None:
    one, two = records(), records(4, seed=1)
    both = one.joined(two)
    assert len(both) == 10
    assert both[:6].digest() == one.digest()
    assert both[6:].digest() == two.digest()
    assert both.ids == one.ids + two.ids
    with pytest.raises(DataError, match="same classes"):
        one.joined(Records(two.x, two.y))
    with pytest.raises(DataError, match="same classes"):
        one.joined(Records(two.x, None, one.class_names))


def test_documents_are_records() -> None:
    whole = Records.of_texts(["one", "two", "three"], source="a book")
    assert whole.modality is Modality.TEXT
    assert whole[[2, 0]].texts == ("three", "one")
    assert whole.joined(Records.of_texts(["four"])).texts == ("one", "two", "three", "four")
    assert whole.digest() != whole[[1, 0, 2]].digest()
    assert Records.of_texts(["ab", "c"]).digest() != Records.of_texts(["a", "bc"]).digest()


def test_equal_rows_have_equal_digests_and_others_have_not() -> None:
    x = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    first, second, third = row_digests(x)
    assert first == third != second
    assert row_digests(x.reshape(3, 1, 2, 1)) == (first, second, third)
    assert row_digests(x[:0]) == ()


class Fitted:
    """What a trainer was given."""

    def __init__(self, data: Records, seed: int, options: dict[str, Any]):
        self.data, self.seed, self.options = data, seed, options


def train(data: Records, seed: int, l2: float = 0.0, noise: float = 0.0) -> Any:
    return Fitted(data, seed, {"l2": l2, "noise": noise})


class TestRecipe:
    def fit(self, recipe: Recipe, rows: list[int], seed: int = 1) -> Fitted:
        made: Any = recipe.train(
            recipe.data[rows] if recipe.extra is None else recipe.data[rows].joined(recipe.extra),
            seed,
            **recipe.options,
        )
        return made

    def test_it_trains_on_the_chosen_and_the_injected(self) -> None:
        data, slipped = records(), records(2, seed=5)
        seen: list[Fitted] = []

        def watched(chosen: Records, seed: int) -> Any:
            from seepage.core.victim import Update

            seen.append(Fitted(chosen, seed, {}))
            return Update({})

        recipe = Recipe(watched, data).with_extra(slipped).with_extra(slipped)
        recipe.fit(np.array([4, 1]), 9)
        assert seen[0].data.digest() == data[[4, 1]].joined(slipped).joined(slipped).digest()
        assert seen[0].seed == 9
        recipe.on(records(3, seed=7)).fit(np.array([0]), 2)
        assert seen[1].data[:1].digest() == records(3, seed=7)[:1].digest()

    def test_options_add_up_and_reach_the_trainer(self) -> None:
        recipe = Recipe(train, records()).with_options("a", l2=1.0).with_options("b", noise=2.0)
        assert recipe.name == "b"
        assert self.fit(recipe, [0]).options == {"l2": 1.0, "noise": 2.0}

    def test_an_option_the_trainer_does_not_take_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"'noize', which its trainer does not take \(did you mean 'noise'\?\)"):
            Recipe(train, records()).with_options("a", noize=1.0)

    def test_a_trainer_that_takes_anything_takes_it(self) -> None:
        def open_minded(data: Records, seed: int, **options: Any) -> Any:
            return Fitted(data, seed, options)

        recipe = Recipe(open_minded, records()).with_options("a", anything=3)
        assert self.fit(recipe, [0]).options == {"anything": 3}
