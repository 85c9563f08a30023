"""Encoders of texts as victims: folders, functions, and what is refused."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures_encoder import save_encoder
from seepage.core.errors import ConfigError, MissingExtra, ModelError, TrustError
from seepage.core.target import Target
from seepage.core.victim import TextEncoder
from seepage.core.vocabulary import Access
from seepage.targets import CallableEncoder, FolderEncoder, load_encoder, open_encoder, open_victim
from seepage.targets.encoder import folder_digest

WORDS = ["the", "fever", "of", "patient", "nine", "rose", "at", "night", "and", "fell", "by", "day"]
TEXTS = ["The fever rose.", "Patient nine fell by day, and by night.", "fever", "The fever rose."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder") / "tiny", WORDS)


def raw_states(folder: Path, text: str) -> np.ndarray:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)([text], return_tensors="pt")
    with torch.no_grad():
        return AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0].numpy()


def test_a_folder_is_an_encoder_of_texts(folder: Path) -> None:
    encoder = load_encoder(str(folder))
    assert isinstance(encoder, TextEncoder)
    assert encoder.offers == {Access.EMBEDDINGS}
    vectors = encoder.embed(TEXTS)
    assert vectors.shape == (4, 32)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[0], vectors[3])
    assert encoder.embed([]).shape == (0, 32)


@pytest.mark.parametrize(("pooling", "by_hand"), [("mean", "mean"), ("max", "max"), ("cls", "first")])
def test_tokens_are_pooled_as_the_folder_says(tmp_path: Path, pooling: str, by_hand: str) -> None:
    named = {"mean": "mean_tokens", "max": "max_tokens", "cls": "cls_token"}[pooling]
    folder = save_encoder(tmp_path / "e", WORDS, pooling=named, normalise=False)
    states = raw_states(folder, TEXTS[1])
    wanted = {"mean": states.mean(0), "max": states.max(0), "first": states[0]}[by_hand]
    # A longer text in the batch: what is padded must not count.
    found = FolderEncoder(folder).embed([TEXTS[1], " ".join(WORDS * 2)])[0]
    assert np.allclose(found, wanted, atol=1e-5)


def test_a_plain_folder_is_pooled_by_the_mean_and_not_normalised(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "e", WORDS, pooling=None)
    assert np.allclose(FolderEncoder(folder).embed(["fever"])[0], raw_states(folder, "fever").mean(0), atol=1e-5)
    given = FolderEncoder(folder, pooling="cls", normalise=True)
    assert given.facts["pooling"] == "cls"
    assert np.linalg.norm(given.embed(["fever"])[0]) == pytest.approx(1, abs=1e-5)


def test_batches_and_order_change_nothing(folder: Path) -> None:
    texts = [" ".join(WORDS[: 1 + k % 11]) for k in range(30)]
    one = FolderEncoder(folder, batch=1).embed(texts)
    assert np.allclose(one, FolderEncoder(folder, batch=7).embed(texts), atol=1e-5)
    assert np.allclose(one[::-1], FolderEncoder(folder).embed(texts[::-1]), atol=1e-5)


def test_no_more_tokens_are_read_than_the_folder_says(folder: Path) -> None:
    encoder = FolderEncoder(folder)
    assert encoder.facts["tokens_read"] == 24
    long, longer = " ".join(["fever"] * 40), " ".join(["fever"] * 300)
    assert np.allclose(encoder.embed([long]), encoder.embed([longer]), atol=1e-6)
    assert FolderEncoder(folder, max_length=1000).facts["tokens_read"] == 40, "the model has 40 places"


def test_a_fingerprint_belongs_to_files_and_options(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert FolderEncoder(copy).fingerprint == FolderEncoder(folder).fingerprint
    assert FolderEncoder(copy, pooling="cls").fingerprint != FolderEncoder(folder).fingerprint
    (copy / "README.md").write_text("changed")
    assert folder_digest(copy) != folder_digest(folder)


def test_an_encoder_is_asked_through_the_meter(folder: Path) -> None:
    target = Target(FolderEncoder(folder), [Access.EMBEDDINGS], budget=3, captured=("fever", "night"))
    assert target.captured_embeddings().shape == (2, 32)
    assert target.queries == 0
    target.embed(["a", "b"])
    assert target.queries == 2
    with pytest.raises(Exception, match="budget"):
        target.embed(["a", "b"])


@pytest.mark.parametrize("what", ["missing", "file", "empty", "no weights", "pickle", "broken json", "broken weights"])
def test_what_is_no_encoder_is_refused(folder: Path, tmp_path: Path, what: str) -> None:
    place = tmp_path / "e"
    if what == "file":
        place.write_text("x")
    elif what != "missing":
        shutil.copytree(folder, place)
    if what == "empty":
        shutil.rmtree(place)
        place.mkdir()
    if what in ("no weights", "pickle"):
        (place / "model.safetensors").unlink()
    if what == "pickle":
        (place / "pytorch_model.bin").write_bytes(b"x")
    if what == "broken json":
        (place / "config.json").write_text("{")
    if what == "broken weights":
        (place / "model.safetensors").write_bytes(b"x" * 100)
    wanted = TrustError if what == "pickle" else ModelError
    told = {"missing": "is not there", "file": "is a file", "empty": "config", "no weights": "model.safetensors"}
    told |= {"pickle": "Convert", "broken json": "no encoder can be read", "broken weights": "no encoder can be read"}
    with pytest.raises(wanted, match=told[what]):
        load_encoder(str(place))


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("1_Pooling/config.json", {"pooling_mode_lasttoken": True}, "pooling by pooling_mode_lasttoken"),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "pooling by"),
        ("modules.json", [{"type": "sentence_transformers.models.Dense"}], "'Dense'"),
        ("modules.json", [1], "a list of modules"),
        ("sentence_bert_config.json", [1], "an object was wanted"),
    ],
)
def test_what_a_folder_says_and_is_not_known_here_is_refused(
    folder: Path, tmp_path: Path, file: str, content: Any, told: str
) -> None:
    shutil.copytree(folder, tmp_path / "e")
    (tmp_path / "e" / file).write_text(json.dumps(content))
    with pytest.raises(ModelError, match=told):
        FolderEncoder(tmp_path / "e")


def test_vectors_that_are_not_finite_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    shutil.copytree(folder, tmp_path / "e")
    weights = load_file(tmp_path / "e" / "model.safetensors")
    weights["encoder.layer.1.output.LayerNorm.bias"][:] = np.nan
    save_file(weights, tmp_path / "e" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="NaN or infinity for 1 of 1"):
        FolderEncoder(tmp_path / "e").embed(["fever"])


def test_without_transformers_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"seepage\[lm\]"):
        FolderEncoder(folder)


def letters(texts: list[str]) -> list[list[float]]:
    return [[float(text.count(c)) for c in "abc"] for text in texts]


def test_a_function_is_an_encoder() -> None:
    encoder = load_encoder(fn=letters, batch=2)
    assert encoder.embed(["abba", "c", "aa"]).tolist() == [[2, 2, 0], [0, 0, 1], [2, 0, 0]]
    assert isinstance(encoder, CallableEncoder)
    assert encoder.fingerprint is None
    assert len(encoder.embed([])) == 0


@pytest.mark.parametrize(
    ("fn", "told"),
    [
        (lambda texts: [[1.0]], "was given 2 texts and answered"),
        (lambda texts: [[1.0], [float("inf")]], "NaN or infinity for 1 of 2 texts, first for number 1"),
        (lambda texts: [1.0, 2.0], "one row of numbers a text"),
        (lambda texts: [["a"], ["b"]], "one row of numbers a text"),
        (lambda texts: 1 / 0, "failed .ZeroDivisionError"),
    ],
)
def test_what_a_function_answers_is_looked_at(fn: Any, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        load_encoder(fn=fn).embed(["a", "b"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "path .* or fn"),
        ({"path": "x", "fn": "a:b"}, "path .* or fn"),
        ({"fn": "os:sep"}, "a function from texts to vectors"),
        ({"fn": "os:getcwd", "pooling": "mean"}, "pooling is for an encoder in a folder"),
        ({"paht": "x"}, "did you mean 'path'"),
        ({"path": "x", "pooling": "median"}, "option 'pooling'"),
        ({"path": 3}, "option 'path'"),
    ],
)
def test_options_of_an_encoder_are_checked(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        open_encoder(options)


def test_an_encoder_is_no_classifier(folder: Path) -> None:
    from seepage.core.spec import InputSpec
    from seepage.core.vocabulary import Modality

    with pytest.raises(ConfigError, match="vectors, not classes"):
        open_victim("encoder", InputSpec((3,), modality=Modality.TABLE), {"path": str(folder)})


def test_a_real_sentence_encoder_tells_sentences_apart() -> None:
    folder = os.environ.get("SEEPAGE_SENTENCE_ENCODER", "")
    if not Path(folder, "config.json").is_file():
        pytest.skip("no sentence encoder: name the folder of one in SEEPAGE_SENTENCE_ENCODER")
    encoder = FolderEncoder(folder)
    a, b, c = encoder.embed(["The patient has a fever.", "A fever was measured.", "He plays the violin."])
    assert a @ b > a @ c + 0.2
    assert np.allclose(np.linalg.norm([a, b, c], axis=1), 1, atol=1e-4)
