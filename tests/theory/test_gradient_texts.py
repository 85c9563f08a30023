"""Texts recovered from updates: exact where algebra says so, nothing where it cannot; errors name the tensor."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from seepage.attacks.gradient.attention import Reader, attention_layers
from seepage.attacks.gradient.embedding_rows import EmbeddingRows
from seepage.attacks.gradient.petrov2024 import Dager
from seepage.attacks.gradient.span import Span, above_noise, levelled
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.errors import DataError
from seepage.core.knowledge import TextGradientKnowledge
from seepage.core.seeds import stream
from seepage.core.victim import Update
from seepage.models.federated import LocalTraining
from seepage.models.text_clients import TextNet
from seepage.models.text_nets import text_net
from seepage.testing.text_clients import played_on, random_texts

pytest.importorskip("transformers")

VOCABULARY, WIDTH = 1000, 128
EVAL = LocalTraining(mode="eval")
LABELS = np.array([0, 1, 1, 0])
WORDS = (
    "the cat sat on the mat",
    "no dog would ever sit there",
    "a mat is not for dogs",
    "cats sit where they like to",
)


def net_of(name: str = "tiny-gpt", seed: int = 0, **options: Any) -> TextNet:
    return text_net(name, VOCABULARY, 2, seed, **{"width": WIDTH, "length": 32, **options})


def sent(net: TextNet, texts: tuple[str, ...], dtype: torch.dtype = torch.float32, **local: Any) -> Update:
    made = replace(EVAL, **local)
    y = None if net.task == "causal-lm" else LABELS[: len(texts)]
    return net.round(texts, y, made, stream(0, "round"), dtype)


def told(net: TextNet) -> TextGradientKnowledge:
    return TextGradientKnowledge(net=net, assumptions=Assumptions(batch=Rung.known(4), mode=Rung.known("eval")))


def in_place(guesses: tuple[str, ...], texts: tuple[str, ...]) -> int:
    """Tokens at their place in the best guess for each text."""

    def same(guess: str, text: str) -> int:
        return sum(a == b for a, b in zip(guess.split(), text.split(), strict=False))

    return sum(max((same(guess, text) for guess in guesses), default=0) for text in texts)


# What the algebra promises


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["tiny-gpt", "tiny-bert"])
def test_texts_of_different_lengths_are_recovered_exactly(name: str, dtype: torch.dtype) -> None:
    net, rng = net_of(name), stream(1, "texts")
    texts = tuple(random_texts(1, n, VOCABULARY, rng)[0] for n in (8, 6, 5))
    found = played_on(Dager(), net, sent(net, texts, dtype), 3)
    assert sorted(found) == sorted(texts)


def test_an_unknown_batch_is_counted_by_the_attack() -> None:
    net, texts = net_of(), random_texts(4, 8, VOCABULARY, stream(2, "texts"))
    assert sorted(played_on(Dager(), net, sent(net, texts), None)) == sorted(texts)


@pytest.mark.parametrize("name", ["tiny-gpt", "tiny-bert"])
def test_words_are_written_as_the_tokenizer_writes_them(name: str) -> None:
    net = text_net(name, WORDS, 2, 0, width=WIDTH, length=32)
    found = played_on(Dager(), net, sent(net, WORDS), 4)
    assert sorted(found) == sorted(net.read(text) for text in WORDS)


def test_frozen_embeddings_protect_nothing() -> None:
    module = net_of().module
    module.get_input_embeddings().weight.requires_grad_(False)
    net, texts = TextNet(module), random_texts(4, 8, VOCABULARY, stream(3, "texts"))
    update = sent(net, texts)
    assert net.embedding not in update.tensors
    assert sorted(played_on(Dager(), net, update, 4)) == sorted(texts)
    assert EmbeddingRows().obstacle(told(net), None) is not None


def test_a_model_with_rotary_positions_is_read_by_its_second_layer() -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        pad_token_id=0,
        num_labels=2,
        attn_implementation="eager",
    )
    net, texts = TextNet(LlamaForSequenceClassification(config)), random_texts(3, 8, VOCABULARY, stream(4, "texts"))
    reader = Reader(net)
    assert (reader.causal, reader.positioned, reader.apart) == (True, False, True)
    assert sorted(played_on(Dager(), net, sent(net, texts), 3)) == sorted(texts)


def test_of_a_next_token_loss_the_last_token_alone_is_hidden() -> None:
    net = net_of(task="causal-lm")
    texts = random_texts(3, 8, VOCABULARY, stream(5, "texts"))
    found = played_on(Dager(), net, sent(net, texts), 3)
    assert sorted(found) == sorted(" ".join(text.split()[:-1]) for text in texts)
    assert "shares" in (EmbeddingRows().obstacle(told(net), None) or "")


def test_one_local_step_is_as_good_as_a_gradient() -> None:
    net, texts = net_of(), random_texts(4, 8, VOCABULARY, stream(6, "texts"))
    update = sent(net, texts, kind="delta", rate=0.1)
    assert sorted(played_on(Dager(), net, update, 4)) == sorted(texts)


def test_rank_is_the_number_of_different_tokens_with_their_places() -> None:
    net = net_of()
    texts = ("5 6 7 8", "5 9 7 10")
    gradient = attention_layers(net.module)[0].gradient(sent(net, texts))
    assert Span.of(gradient).rank == 6


@pytest.mark.parametrize("seed", [0, 4])
def test_two_texts_of_one_class_of_an_encoder_are_recovered_in_single_precision(seed: int) -> None:
    """What all tokens share is a hundred times as large as what tells them apart: its end is not the spectrum's."""
    net = text_net("tiny-bert", 500, 2, seed, width=64, layers=3, heads=2, length=16)
    texts = random_texts(2, 8, 500, stream(seed, "one class"))
    update = net.round(texts, np.array([0, 0]), EVAL, stream(0, "round"))
    first = Span.of(attention_layers(net.module)[0].gradient(update))
    assert (first.rank, first.level, first.noisy) == (16, True, False)
    assert sorted(played_on(Dager(), net, update, 2)) == sorted(texts)


def test_rows_of_one_length_span_the_same_space() -> None:
    rng = stream(0, "levelled")
    inputs = np.linalg.qr(rng.normal(size=(40, 6)))[0].T
    # Large rows tell one direction and the others only just; small rows tell all of them.
    large = rng.normal(size=(60, 6)) * np.array([1e3, *[1e-2] * 5])
    exact = np.concatenate([large, rng.normal(size=(60, 6)) * 1e-2]) @ inputs
    rounded = exact * (1 + 1e-6 * rng.normal(size=exact.shape))
    space = Span.of(rounded.astype(np.float32))
    assert (space.rank, space.level) == (6, True)
    assert Span.of(rounded.astype(np.float32), level=False).rank != 6
    assert float(space.apart(torch.from_numpy(inputs)).max()) < space.tolerance
    zero = torch.zeros(3, 4, dtype=torch.float64)
    assert torch.equal(levelled(zero), zero)


def test_a_token_at_two_places_carries_others_from_one_to_the_other() -> None:
    """e_b + p_0 = (e_b + p_3) - (e_a + p_3) + (e_a + p_0): it passes by algebra, and the second layer refuses it."""
    net, texts = net_of(), ("5 6 7 8", "9 10 11 5", "12 13 14 15")
    update = sent(net, texts)
    passing = Dager().passing(net, update, 3)
    true = [{int(text.split()[place]) for text in texts} for place in range(4)]
    extra = [sorted(set(tokens) - own) for tokens, own in zip(passing, true, strict=True)]
    assert all(own <= set(tokens) for tokens, own in zip(passing, true, strict=True))
    assert extra == [[8, 15], [], [], [9, 12]]
    assert sorted(played_on(Dager(), net, update, 3)) == sorted(texts)


def test_the_query_alone_does_not_see_a_first_token() -> None:
    """Attention to one token is 1 whatever the query is: the trap that query, key and value together avoid."""
    net, texts = net_of(), random_texts(4, 8, VOCABULARY, stream(7, "texts"))
    fused = attention_layers(net.module)[0].gradient(sent(net, texts))
    first = Reader(net).inputs(0, net_ids(net, texts))[:, 0]
    assert float(Span.of(fused).apart(first).max()) < 1e-3
    assert float(Span.of(fused[:WIDTH]).apart(first).min()) > 0.1


def net_ids(net: TextNet, texts: tuple[str, ...]) -> torch.Tensor:
    return torch.from_numpy(net.encode(texts).ids)


def test_inputs_of_a_first_layer_have_one_direction_less_than_numbers() -> None:
    """Normalisation takes the mean out of every input; a small vocabulary has fewer directions still."""
    assert Reader(net_of()).capacity == WIDTH - 1
    assert Reader(text_net("tiny-gpt", 20, 2, 0, width=WIDTH, length=4)).capacity == 20 + 4 - 1


def test_values_above_noise_are_counted() -> None:
    rng = stream(0, "noise")
    noise = rng.normal(size=(300, 100))
    low = rng.normal(size=(300, 12)) @ rng.normal(size=(12, 100)) * 2
    assert above_noise(np.linalg.svd(noise, compute_uv=False), 300, 100) == 0
    assert above_noise(np.linalg.svd(noise + low, compute_uv=False), 300, 100) == 12


# Where it cannot


def test_as_many_tokens_as_the_model_is_wide_hide_each_other() -> None:
    net, texts = net_of(width=32), random_texts(4, 12, VOCABULARY, stream(8, "texts"))
    update = sent(net, texts)
    outlook = Dager().outlook(told(net), update)
    assert outlook is not None
    assert outlook.prospect == "impossible"
    assert "of 32, as many as any" in outlook.why
    assert in_place(played_on(Dager(), net, update, 4), texts) == 0
    few = Dager().outlook(told(net_of()), sent(net_of(), texts[:2]))
    assert few is not None
    assert few.prospect == "expected"


def test_dropout_is_an_unlikely_prospect() -> None:
    net, texts = net_of(dropout=0.1), random_texts(4, 8, VOCABULARY, stream(9, "texts"))
    known = replace(told(net), assumptions=Assumptions(mode=Rung.known("train")))
    outlook = Dager().outlook(known, sent(net, texts, mode="train"))
    assert outlook is not None
    assert outlook.prospect == "unlikely"
    assert sorted(played_on(Dager(), net, sent(net, texts), 4)) == sorted(texts)


def test_a_change_of_weights_that_rounding_has_swallowed_is_said_beforehand() -> None:
    net, texts = net_of("tiny-bert"), random_texts(4, 8, VOCABULARY, stream(9, "texts"))
    update = sent(net, texts, kind="delta", rate=1e-4)
    known = replace(told(net), assumptions=Assumptions(mode=Rung.known("eval"), steps=Rung.known(1)))
    outlook = Dager().outlook(known, update)
    assert outlook is not None
    assert outlook.prospect in ("possible", "unlikely")
    assert "rounded as the weights are" in outlook.why
    assert Dager().spans(net, update)[0].noisy
    assert not Dager().spans(net, sent(net, texts))[0].noisy


def test_a_model_without_two_known_attention_layers_is_an_obstacle() -> None:
    assert "finds 1" in (Dager().obstacle(told(net_of(layers=1)), None) or "")
    assert Dager().obstacle(told(net_of()), None) is None


def test_another_batch_gives_nothing_of_this_one() -> None:
    net, rng = net_of(), stream(10, "texts")
    mine, other = random_texts(4, 8, VOCABULARY, rng), random_texts(4, 8, VOCABULARY, rng)
    assert in_place(played_on(Dager(), net, sent(net, other), 4), mine) <= 1


# Defended updates


def clipped(tensor: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    return tensor * (0.5 / length)


def halved(tensor: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    return tensor.astype(np.float16)


def shortened(tensor: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    return torch.from_numpy(tensor).bfloat16().float().numpy()


def noised(tensor: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    return (tensor + 0.1 * length * rng.normal(size=tensor.shape)).astype(np.float32)


@pytest.mark.parametrize(("defense", "tokens"), [(clipped, 48), (halved, 48), (shortened, 48), (noised, 0)])
def test_rounding_and_clipping_stop_nothing_and_noise_does(defense: Callable[..., Any], tokens: int) -> None:
    """Four texts of twelve tokens, a decoder 256 numbers wide; noise of a tenth of the gradient's length a weight."""
    net, texts = net_of(width=256), random_texts(4, 12, VOCABULARY, stream(11, "texts"))
    plain, rng = sent(net, texts), stream(11, "noise")
    length = float(np.sqrt(sum(float((g.astype(float) ** 2).sum()) for g in plain.tensors.values())))
    update = Update({name: defense(g, length, rng) for name, g in plain.tensors.items()})
    found = played_on(Dager(), net, update, 4)
    assert in_place(found, texts) == tokens


# Rows of the embedding


def test_embedding_rows_are_the_set_of_tokens() -> None:
    net, texts = net_of(), ("5 6 7 6", "8 5 9 10")
    found = played_on(EmbeddingRows(), net, sent(net, texts), 2)
    assert len(found) == 2
    assert set(found[0].split()) == {"5", "6", "7", "8", "9", "10"}


def test_embedding_rows_stand_out_of_little_noise() -> None:
    net, texts = net_of(), ("5 6 7 6", "8 5 9 10")
    update = sent(net, texts)
    rows, rng = update.tensors[net.embedding], stream(0, "noise")
    noisy = rows + rng.normal(size=rows.shape) * np.abs(rows).max() * 1e-3
    found = played_on(EmbeddingRows(), net, Update({**update.tensors, net.embedding: noisy}), 1)
    assert set(found[0].split()) == {"5", "6", "7", "8", "9", "10"}


# Bad updates


def test_a_tensor_that_is_not_finite_is_named() -> None:
    net, texts = net_of(), ("5 6 7", "8 9 10")
    update = sent(net, texts)
    name = attention_layers(net.module)[0].weights[0]
    broken = update.tensors[name].copy()
    broken[0, 0] = np.nan
    with pytest.raises(DataError, match=name):
        played_on(Dager(), net, Update({**update.tensors, name: broken}), 2)
    with pytest.raises(DataError, match=name):
        played_on(Dager(), net, Update({n: g for n, g in update.tensors.items() if n != name}), 2)
    rows = np.full_like(update.tensors[net.embedding], np.inf)
    with pytest.raises(DataError, match=net.embedding):
        played_on(EmbeddingRows(), net, Update({net.embedding: rows}), 2)


def test_a_zero_update_gives_nothing() -> None:
    net = net_of()
    update = Update({name: np.zeros_like(g) for name, g in sent(net, ("5 6 7",)).tensors.items()})
    assert played_on(Dager(), net, update, 1) == ()
    assert played_on(EmbeddingRows(), net, update, 1) == ()
    outlook = Dager().outlook(told(net), update)
    assert outlook is not None
    assert outlook.prospect == "impossible"
