"""Clients who train transformers: their gradients are those of the library's own loss; padding has no part."""

import sys

import numpy as np
import pytest
import torch

from seepage.core.errors import ConfigError, DataError, MissingExtra, ModelError
from seepage.core.seeds import stream
from seepage.models.federated import LocalTraining
from seepage.models.private import PerRecord
from seepage.models.text_clients import Task, TextNet
from seepage.models.text_nets import folder_net, text_net

pytest.importorskip("transformers")

EVAL = LocalTraining(mode="eval")
TEXTS = ("5 6 7 8 9", "10 11", "12 5 13")
Y = np.array([0, 1, 1])


def gradient(net: TextNet, texts: tuple[str, ...], y: np.ndarray | None) -> dict[str, np.ndarray]:
    return dict(net.round(texts, y, EVAL, stream(0), torch.float64).tensors)


@pytest.mark.parametrize("name", ["tiny-gpt", "tiny-bert"])
def test_the_gradient_is_that_of_the_library(name: str) -> None:
    net = text_net(name, 40, 2, 0, width=32, layers=2)
    found, module, batch = gradient(net, TEXTS, Y), net.module.double(), net.encode(TEXTS)
    out = module(
        input_ids=torch.from_numpy(batch.ids),
        attention_mask=torch.from_numpy(batch.mask).long(),
        labels=torch.from_numpy(Y),
    )
    out.loss.backward()
    for key, weight in module.named_parameters():
        wanted = np.zeros(weight.shape) if weight.grad is None else weight.grad.numpy()
        np.testing.assert_allclose(found[key], wanted, atol=1e-10)


def test_the_loss_of_the_next_token_is_that_of_the_library() -> None:
    net = text_net("tiny-gpt", 40, 0, 0, "causal-lm", width=32, layers=2)
    found, module, batch = gradient(net, TEXTS, None), net.module.double(), net.encode(TEXTS)
    ids = torch.from_numpy(batch.ids)
    mask = torch.from_numpy(batch.mask)
    module(input_ids=ids, attention_mask=mask.long(), labels=ids.masked_fill(~mask, -100)).loss.backward()
    for key, weight in module.named_parameters():
        # The library computes this loss in single precision.
        np.testing.assert_allclose(found[key], weight.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["tiny-gpt", "tiny-bert"])
def test_padding_has_no_part_in_a_gradient(name: str) -> None:
    net = text_net(name, 40, 2, 0, width=32, layers=2)
    together = gradient(net, TEXTS, Y)
    alone = [gradient(net, (text,), Y[i : i + 1]) for i, text in enumerate(TEXTS)]
    for key, value in together.items():
        np.testing.assert_allclose(value, np.mean([one[key] for one in alone], axis=0), atol=1e-10)


def test_a_step_of_a_client_is_its_gradient_times_the_rate() -> None:
    net = text_net("tiny-gpt", 40, 2, 0, width=32, layers=2)
    step = net.round(TEXTS, Y, LocalTraining("delta", rate=0.1, mode="eval"), stream(0), torch.float64)
    for key, value in gradient(net, TEXTS, Y).items():
        np.testing.assert_allclose(step.tensors[key], -0.1 * value, atol=1e-12)


def test_dropout_acts_in_training_and_keeps_out_of_global_generators() -> None:
    net = text_net("tiny-gpt", 40, 2, 0, width=32, layers=2, dropout=0.2)
    before = torch.get_rng_state()
    mine, again, other = (
        net.round(TEXTS, Y, LocalTraining(mode="train"), stream(seed)).tensors["score.weight"] for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(mine, again)
    assert not np.allclose(mine, other)


@pytest.mark.parametrize(
    ("name", "task"), [("tiny-gpt", "classification"), ("tiny-bert", "classification"), ("tiny-gpt", "causal-lm")]
)
def test_every_text_is_clipped_by_its_own_gradient(name: str, task: Task) -> None:
    """By hand: each text alone in a batch, its gradient shortened to the clip, and the mean of them."""
    net = text_net(name, 40, 2, 0, task, width=32, layers=2)
    y = Y if task == "classification" else None
    alone = [gradient(net, (text,), None if y is None else y[i : i + 1]) for i, text in enumerate(TEXTS)]
    lengths = [np.sqrt(sum(np.square(g).sum() for g in one.values())) for one in alone]
    clip = float(np.median(lengths))
    private = LocalTraining(mode="eval", private=PerRecord(clip, 0.0))
    found = net.round(TEXTS, y, private, stream(0), torch.float64).tensors
    for key, value in found.items():
        short = [one[key] * min(1.0, clip / (length + 1e-6)) for one, length in zip(alone, lengths, strict=True)]
        np.testing.assert_allclose(value, np.mean(short, axis=0), atol=1e-10)
    assert min(lengths) < clip < max(lengths)


def test_steps_on_texts_are_each_noised() -> None:
    """Two epochs of two steps on texts, the last half full: the change has the variance of four draws."""
    net = text_net("tiny-gpt", 40, 2, 0, width=32, layers=2)
    local = LocalTraining("delta", batch=2, epochs=2, rate=0.1, mode="eval", private=PerRecord(1e-6, 1e6))
    sent = net.round(TEXTS, Y, local, stream(1))
    drawn = np.concatenate([t.reshape(-1) for t in sent.tensors.values()])
    assert drawn.std() == pytest.approx(0.1 * (1 / 2) * 2, rel=0.02)
    again = net.round(TEXTS, Y, local, stream(1))
    assert all(np.array_equal(t, again.tensors[key]) for key, t in sent.tensors.items())


def test_a_text_of_one_token_has_no_next_one_and_adds_nothing() -> None:
    net = text_net("tiny-gpt", 40, 0, 0, "causal-lm", width=32, layers=2)
    local = LocalTraining(mode="eval", private=PerRecord(100.0, 0.0))
    one, two = (net.round(texts, None, local, stream(0), torch.float64) for texts in (TEXTS[:1], (TEXTS[0], "7")))
    for key, value in one.tensors.items():
        np.testing.assert_allclose(two.tensors[key], value / 2, atol=1e-12)


def test_a_vocabulary_is_made_of_texts() -> None:
    net = text_net("tiny-gpt", ["The cat, again!", "a dog"], 2, 0, width=32, layers=2)
    assert net.read("A CAT again zebra!") == "a cat again !"
    assert net.encode(["the dog"]).ids[0, -1] in net.ends


def test_a_folder_is_opened_and_a_false_one_is_refused(tmp_path: object) -> None:
    folder = str(tmp_path)
    net = text_net("tiny-gpt", ["the cat", "a dog"], 2, 0, width=32, layers=2)
    net.module.save_pretrained(folder)
    net.tokenizer.save_pretrained(folder)
    opened = folder_net(folder)
    assert opened.read("The dog cat") == "the dog cat"
    mine, theirs = (gradient(one, ("the cat", "a dog"), Y[:2]) for one in (net, opened))
    assert all(np.allclose(mine[key], theirs[key], atol=1e-9) for key in mine)
    with pytest.raises(ModelError, match=r"config\.json"):
        folder_net(folder + "/nothing")


def test_what_cannot_be_used_is_said() -> None:
    net = text_net("tiny-gpt", 40, 2, 0, width=32, layers=2)
    with pytest.raises(DataError, match="no tokenizer"):
        net.encode(["the cat"])
    with pytest.raises(DataError, match="token numbers from 0 to 39"):
        net.encode(["3 40"])
    with pytest.raises(DataError, match="classes 0 to 1"):
        net.round(TEXTS, np.array([0, 1, 2]), EVAL, stream(0))
    with pytest.raises(DataError, match="no classes"):
        net.round(TEXTS, None, EVAL, stream(0))
    with pytest.raises(ConfigError, match="did you mean 'tiny-gpt'"):
        text_net("tinygpt", 40, 2, 0)
    with pytest.raises(ConfigError, match="depth"):
        text_net("tiny-gpt", 40, 2, 0, depth=3)
    with pytest.raises(ConfigError, match="encoder"):
        text_net("tiny-bert", 40, 2, 0, "causal-lm")
    with pytest.raises(ModelError, match="transformers library"):
        TextNet(torch.nn.Linear(3, 2))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"seepage\[lm\]"):
        text_net("tiny-gpt", 40, 2, 0)
