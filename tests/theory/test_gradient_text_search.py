"""Texts searched for by their gradient: gradients are the model's own, short texts are found, bad input is named."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from seepage.attacks.gradient.balunovic2022 import Lamp, Reorder, move
from seepage.attacks.gradient.deng2021 import Tag
from seepage.attacks.gradient.embedded import Embedded
from seepage.attacks.gradient.embedding_search import Descent, Search
from seepage.attacks.gradient.heard import around, heard, matched_names
from seepage.attacks.gradient.ngrams import KneserNey
from seepage.attacks.gradient.text_distances import layerwise_cosine, layerwise_l2_l1
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.errors import DataError
from seepage.core.knowledge import TextGradientKnowledge
from seepage.core.records import Records
from seepage.core.seeds import stream
from seepage.core.target import Target
from seepage.core.victim import Update, Updates
from seepage.models.federated import LocalTraining
from seepage.models.text_clients import TextNet
from seepage.models.text_nets import text_net
from seepage.testing.text_clients import played_on, random_texts

pytest.importorskip("transformers")

VOCABULARY = 120
SMALL: dict[str, Any] = {"width": 64, "layers": 2, "heads": 2, "length": 16}
EVAL = LocalTraining(mode="eval")
LABELS = np.array([1, 0, 1, 1])


def net_of(name: str = "tiny-bert", seed: int = 0, **options: Any) -> TextNet:
    return text_net(name, VOCABULARY, 2, seed, **(SMALL | options))


def sent(net: TextNet, texts: tuple[str, ...], **local: Any) -> Update:
    y = None if net.task == "causal-lm" else LABELS[: len(texts)]
    return net.round(texts, y, replace(EVAL, **local), stream(0, "round"))


def knowing(net: TextNet, batch: int = 1, **told: Any) -> TextGradientKnowledge:
    rungs = Assumptions(batch=Rung.known(batch), mode=Rung.known("eval"))
    return TextGradientKnowledge(net=net, classes=net.classes, assumptions=replace(rungs, **told))


def search_of(net: TextNet, update: Update, batch: int = 1, **told: Any) -> Search:
    knowledge = knowing(net, batch, **told)
    got = heard(knowledge, update, 0, rows=False, length=None)
    return Search(Embedded(net, matched_names(knowledge)), [got], layerwise_cosine, net.classes)


def recall(guess: tuple[str, ...], texts: tuple[str, ...]) -> float:
    """The share of the texts' places whose token is right, of one text each in their order."""
    pairs = [(a, b) for g, t in zip(guess, texts, strict=True) for a, b in zip(g.split(), t.split(), strict=False)]
    return sum(a == b for a, b in pairs) / sum(len(t.split()) for t in texts)


# Gradients


@pytest.mark.parametrize("name", ["tiny-gpt", "tiny-bert"])
def test_the_gradient_at_the_tokens_own_embeddings_is_the_one_sent(name: str) -> None:
    net = net_of(name)
    texts = random_texts(2, 6, VOCABULARY, stream(1, "texts"))
    update, ids = sent(net, texts), torch.from_numpy(net.encode(texts).ids)
    simulate = Embedded(net, matched_names(knowing(net)))
    y = torch.nn.functional.one_hot(torch.from_numpy(LABELS[:2]), 2).float()
    found = simulate(simulate.table[ids][None], y[None])
    for name_, tensor in found.items():
        assert np.allclose(tensor[0].numpy(), update.tensors[name_], atol=1e-6), name_


def test_next_tokens_are_those_that_the_embeddings_stand_for() -> None:
    net = net_of("tiny-gpt", task="causal-lm")
    texts = random_texts(2, 6, VOCABULARY, stream(1, "texts"))
    update, ids = sent(net, texts), torch.from_numpy(net.encode(texts).ids)
    knowledge = knowing(net, 2)
    simulate = Embedded(net, matched_names(knowledge))
    found = simulate(simulate.table[ids][None], None)
    wanted = heard(knowledge, update, 0, rows=False, length=None).wanted
    assert float(layerwise_cosine(found, {n: tensor[None] for n, tensor in wanted.items()})) < 1e-3
    assert net.embedding not in found


@pytest.mark.parametrize("name", ["tiny-gpt", "tiny-bert"])
def test_problems_together_are_problems_apart(name: str) -> None:
    net = net_of(name)
    simulate = Embedded(net, matched_names(knowing(net)))
    x = torch.randn(3, 2, 5, 64, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    y = torch.full((3, 2, 2), 0.5)
    together, alone = simulate(x, y), simulate._one(x[1], y[1])  # pyright: ignore[reportPrivateUsage]
    assert simulate._mapped  # pyright: ignore[reportPrivateUsage]
    for own, tensor in alone.items():
        assert torch.allclose(together[own][1], tensor, atol=1e-6), own
    # And so are their slopes, by which a search goes.
    draws = torch.Generator().manual_seed(1)
    way = {own: torch.randn(tensor.shape, generator=draws) for own, tensor in alone.items()}
    slopes = [
        torch.autograd.grad(sum(((found[own] * way[own]).sum() for own in way), x.new_zeros(())), x)[0][1]
        for found in ({own: tensor[1] for own, tensor in together.items()}, alone)
    ]
    assert torch.allclose(slopes[0], slopes[1], rtol=1e-3, atol=1e-3 * float(slopes[1].abs().max()))


def test_the_distance_of_tag_is_by_hand() -> None:
    found = {"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([[3.0]])}
    wanted = {"a": torch.tensor([[0.0, 0.0]]), "b": torch.tensor([[1.0]])}
    distance = layerwise_l2_l1(0.5, linear=True, scaled=True)
    assert float(distance(found, wanted)) == pytest.approx((5 + 0.5 * 3) + 0.5 * (4 + 0.5 * 2))


# What an update tells of the texts' shape


@pytest.mark.parametrize(
    ("name", "task"), [("tiny-gpt", "classification"), ("tiny-gpt", "causal-lm"), ("tiny-bert", "")]
)
@pytest.mark.parametrize("long", [5, 16])
def test_the_length_is_read_off_the_position_embedding(name: str, task: str, long: int) -> None:
    options: dict[str, Any] = {"task": task} if task else {}
    net = net_of(name, **options)
    update = sent(net, random_texts(1, long, VOCABULARY, stream(2, "texts")))
    assert heard(knowing(net), update, 0, rows=False, length=None).length == long


def test_the_label_of_one_text_is_read_off_and_told_ones_are_used() -> None:
    net = net_of()
    update = sent(net, random_texts(1, 5, VOCABULARY, stream(3, "texts")))
    got = heard(knowing(net), update, 0, rows=False, length=None)
    assert got.labels is not None
    assert got.labels.tolist() == [1]
    assert "labels" in got.guessed
    told = heard(knowing(net, labels=Rung.known(np.array([[0]]))), update, 0, rows=False, length=None)
    assert told.labels is not None
    assert told.labels.tolist() == [0]
    assert heard(knowing(net, 2), update, 0, rows=False, length=None).labels is None


def test_marks_around_texts_are_known() -> None:
    net = text_net("tiny-bert", ("the cat sat", "a dog"), 2, 0, **SMALL)
    first, last = around(net)
    ids = net.encode(("the dog",)).ids[0].tolist()
    assert (ids[0], ids[-1]) == (first[0], last[0])
    assert around(net_of()) == ((), ())


# Searches


def guessed(attack: Any, net: TextNet, *updates: Update) -> tuple[tuple[str, ...], ...]:
    """The texts guessed of clients with one text each, who are searched for together."""
    known = replace(knowing(net), clients=len(updates))
    return attack.run(Target(Updates(updates), attack.needs), known, stream(0, "run")).values


@pytest.mark.parametrize("attack", [Tag(steps=120), Lamp(steps=80, restarts=1, candidates=10, moves=8, every=30)])
def test_a_short_text_is_found_and_another_client_s_update_gives_nothing_of_it(attack: Any) -> None:
    net = net_of(seed=1)
    texts, others = (random_texts(1, 6, VOCABULARY, stream(seed, "texts")) for seed in (4, 5))
    found, null = guessed(attack, net, sent(net, texts), sent(net, others))
    assert recall(found, texts) >= 0.5
    assert recall(null, others) >= 0.5
    assert recall(null, texts) <= 0.2


def test_clients_together_are_clients_apart() -> None:
    net = net_of()
    updates = [sent(net, random_texts(1, 6, VOCABULARY, stream(seed, "texts"))) for seed in (4, 5)]
    got = [heard(knowing(net), update, 0, rows=True, length=None) for update in updates]
    simulate = Embedded(net, matched_names(knowing(net)))
    both = Search(simulate, got, layerwise_cosine, net.classes)
    x, owner = torch.randn(3, 1, 6, 64, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 0, 1])
    together, ids = both.distances(x, both.told(owner), owner), both.tokens(x, owner)
    for row, client in enumerate(owner.tolist()):
        alone, first = Search(simulate, [got[client]], layerwise_cosine, net.classes), torch.tensor([0])
        apart = alone.distances(x[row : row + 1], alone.told(first), first)
        assert float(apart) == pytest.approx(float(together[row]), abs=1e-6)
        assert alone.tokens(x[row : row + 1], first)[0].tolist() == ids[row].tolist()


def test_clients_whose_texts_differ_in_length_keep_their_places() -> None:
    net = net_of()
    long = (5, 7, 5, 6)
    updates = [sent(net, random_texts(1, n, VOCABULARY, stream(k, "texts"))) for k, n in enumerate(long)]
    values = guessed(Tag(steps=2, restarts=1), net, *updates)
    assert [len(text.split()) for (text,) in values] == list(long)


def test_a_difference_of_one_step_is_as_good_as_a_gradient() -> None:
    net = net_of(seed=1)
    texts = random_texts(1, 6, VOCABULARY, stream(4, "texts"))
    attack = Lamp(steps=100, restarts=1, candidates=10, moves=0)
    update = sent(net, texts, kind="delta", rate=0.1)
    assert recall(played_on(attack, net, update, 1), texts) >= 0.5


def test_the_moved_rows_narrow_the_search() -> None:
    net = net_of("tiny-gpt")
    texts = random_texts(1, 6, VOCABULARY, stream(6, "texts"))
    (found,) = played_on(Tag(steps=20, rows=True), net, sent(net, texts), 1)
    assert set(found.split()) <= set(texts[0].split())


def test_restarts_are_chosen_by_the_objective_of_their_tokens() -> None:
    net = net_of()
    search = search_of(net, sent(net, random_texts(1, 6, VOCABULARY, stream(7, "texts"))))
    plan = Descent(steps=15, rate=0.01, factor=lambda _: 1.0, norm=True)
    (ended,) = search.run(plan, 4, torch.Generator().manual_seed(0))
    assert len(set(ended.each.tolist())) > 1
    assert ended.objective == ended.each.min()


def test_the_cosine_of_two_classes_does_not_tell_them_apart_by_a_slope() -> None:
    """With two classes p - y is (c, -c): the gradient's direction hangs on the sign of c, and moves no class."""
    net = net_of("tiny-gpt", seed=3)
    search = search_of(net, sent(net, random_texts(1, 6, VOCABULARY, stream(8, "texts"))))
    x = torch.randn(1, 1, 6, 64, generator=torch.Generator().manual_seed(0)) * search.size / 8
    free = torch.tensor([[[2.0, -2.0]]], requires_grad=True)
    wanted = {name: tensor[None] for name, tensor in search.got.wanted.items()}
    for distance, moved in ((layerwise_cosine, False), (layerwise_l2_l1(0.1, linear=True, scaled=True), True)):
        (slope,) = torch.autograd.grad(distance(search.simulate(x, torch.softmax(free, -1)), wanted).sum(), free)
        assert (float(slope.abs().max()) > 1e-4) == moved


@pytest.mark.parametrize("label", [0, 1])
def test_classes_that_were_not_told_are_supposed(label: int) -> None:
    net, texts = net_of("tiny-gpt", seed=3), random_texts(1, 6, VOCABULARY, stream(8, "texts"))
    update = net.round(texts, np.array([label]), EVAL, stream(0, "round"))
    search = search_of(net, update)
    assert search.got.labels is None
    plan = Descent(steps=60, rate=0.01, factor=lambda _: 1.0, norm=True, candidates=10, suppose=True)
    (ended,) = search.run(plan, 2, torch.Generator().manual_seed(0))
    assert ended.labels is not None
    assert ended.labels.tolist() == [label]


def test_lamp_finds_a_decoder_s_text_of_either_class_untold() -> None:
    net, texts = net_of("tiny-gpt", seed=3), random_texts(1, 6, VOCABULARY, stream(8, "texts"))
    updates = [net.round(texts, np.array([label]), EVAL, stream(0, "round")) for label in (0, 1, 0, 1, 0, 1)]
    for found in guessed(Lamp(steps=100, candidates=10, moves=0), net, *updates):
        assert recall(found, texts) >= 0.5


def test_of_several_texts_the_likeliest_classes_are_supposed_first() -> None:
    net, texts = net_of(), random_texts(3, 6, VOCABULARY, stream(8, "texts"))
    search = search_of(net, sent(net, texts), 3)
    plan = Descent(steps=1, rate=0.01, factor=lambda _: 1.0, norm=True, candidates=10, suppose=True)
    guessed = search.supposed(plan, torch.zeros(5, dtype=torch.long), torch.Generator().manual_seed(0))
    assert guessed is not None
    counts = guessed.sum(dim=1).tolist()
    assert counts[0] == np.bincount(LABELS[:3]).tolist()
    assert len({tuple(row) for row in counts}) == 4


# Discrete moves and their language model


def test_moves_put_a_shuffled_text_in_order() -> None:
    net = net_of()
    texts = random_texts(1, 6, VOCABULARY, stream(9, "texts"))
    search = search_of(net, sent(net, texts))
    ids = torch.from_numpy(net.encode(texts).ids)
    x = search.simulate.table[ids[:, [1, 0, 2, 3, 5, 4]]][None]
    owner = torch.zeros(1, dtype=torch.long)
    y = search.told(owner)
    rounds = Reorder(tried=40, every=1, steps=10, fluency=0.0, model=None, rng=stream(0, "moves"))
    costs = [float(search.distances(x, y, owner))]
    for step in range(1, 9):
        x = rounds(step, search, x, y, owner)
        costs.append(float(search.distances(x, y, owner)))
    assert all(after <= before for before, after in pairwise(costs))
    assert search.tokens(x, owner)[0].tolist() == ids.tolist()


def test_a_move_is_an_order_of_the_same_things() -> None:
    rng = stream(0, "moves")
    made = [move(5, rng) for _ in range(200)]
    assert all(sorted(order.tolist()) == list(range(5)) for order in made)
    assert len({tuple(order.tolist()) for order in made}) > 20
    assert sorted(move(2, rng).tolist()) == [0, 1]


def test_the_language_model_is_a_distribution_and_knows_what_it_saw() -> None:
    model = KneserNey([(1, 2, 3), (1, 2, 4), (1, 2, 3), (5, 2, 3)], vocabulary=8)
    for history in ((), (1,), (1, 2), (7, 7), (2, 3)):
        assert sum(model.probability(history, token) for token in range(8)) == pytest.approx(1.0)
    assert model.probability((1, 2), 3) > model.probability((1, 2), 4) > model.probability((1, 2), 6) > 0
    assert model.surprise((1, 2, 3)) < model.surprise((3, 2, 1))


def test_kneser_ney_by_hand() -> None:
    # Bigrams (start a) 2, (a b) 1, (a c) 1: once 2, twice 1, so D = 2/4. Contexts: one of each of a, b, c.
    model = KneserNey([(0, 1), (0, 2)], vocabulary=4, order=2)
    shortest = (1 - 0.5) / 3 + 0.5 * 3 / 3 / 4
    assert model.probability((0,), 1) == pytest.approx((1 - 0.5) / 2 + 0.5 * 2 / 2 * shortest)
    assert model.probability((0,), 3) == pytest.approx(0.5 * 2 / 2 * 0.5 * 3 / 3 / 4)


def test_public_texts_make_the_language_model() -> None:
    net = net_of()
    update = sent(net, random_texts(1, 6, VOCABULARY, stream(9, "texts")))
    attack = Lamp(steps=4, restarts=1, candidates=2, every=2, moves=3)
    known = replace(knowing(net), public=Records.of_texts(random_texts(5, 6, VOCABULARY, stream(1, "public"))))
    said = [
        attack.run(Target(Updates((update,)), attack.needs), k, stream(0, "run")).facts["language_model"]
        for k in (knowing(net), known)
    ]
    assert said[0] == "none"
    assert "Kneser-Ney" in str(said[1])


# Bad input, and what is said beforehand


@pytest.mark.parametrize("attack", [Tag(steps=2), Lamp(steps=2, candidates=2)])
def test_bad_tensors_are_named(attack: Any) -> None:
    net = net_of()
    good = sent(net, random_texts(1, 5, VOCABULARY, stream(3, "texts")))
    name = next(n for n in good.tensors if n.endswith("query.weight"))
    missing = {k: v for k, v in good.tensors.items() if k != name}
    for tensors in (missing, {**good.tensors, name: np.full_like(good.tensors[name], np.nan)}):
        with pytest.raises(DataError, match=name):
            played_on(attack, net, Update(tensors), 1)
    silent = Update({k: np.zeros_like(v) for k, v in good.tensors.items()})
    assert played_on(attack, net, silent, 1) == ()
    assert attack.outlook(knowing(net), silent).prospect == "impossible"


@pytest.mark.parametrize("attack", [Tag(), Lamp()])
def test_the_outlook_says_how_long_it_takes_and_what_stands_against_it(attack: Any) -> None:
    net = net_of()
    texts = random_texts(1, 5, VOCABULARY, stream(3, "texts"))
    said = attack.outlook(knowing(net), sent(net, texts))
    assert (said.prospect, said.seconds > 0) == ("possible", True)
    assert "5 tokens" in said.why
    assert attack.outlook(knowing(net, 8), sent(net, texts)).prospect == "unlikely"
    several = attack.outlook(knowing(net), sent(net, texts, kind="delta", epochs=3, rate=0.1))
    assert several.prospect == "unlikely"
    module = net.module.requires_grad_(False)
    module.get_input_embeddings().weight.requires_grad_(True)
    assert "embedding" in (attack.obstacle(knowing(TextNet(module)), None) or "")
