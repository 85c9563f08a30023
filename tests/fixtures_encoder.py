"""A sentence encoder as people save one: a random BERT of two layers with a vocabulary of its own, in a folder."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from seepage.core.words import words


def save_encoder(
    folder: Path, vocabulary: Iterable[str], *, pooling: str | None = "mean_tokens", normalise: bool = True
) -> Path:
    """Write a folder as sentence-transformers does; without `pooling`, as transformers alone does."""
    pytest.importorskip("transformers", reason="the extra 'lm' is not installed")
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        ".",
        ",",
        *sorted({w for v in vocabulary for w in words(v)}),
    ]
    listed = folder / "vocab.txt"
    listed.write_text("\n".join(tokens), "utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        # Wide weights: words then differ as much as those of a trained encoder.
        model = BertModel(
            BertConfig(
                vocab_size=len(tokens),
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=40,
                initializer_range=0.3,
            )
        )
    model.save_pretrained(folder)
    BertTokenizerFast(str(listed)).save_pretrained(folder)
    if pooling is not None:
        modules = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
        kinds = [{"idx": i, "type": f"sentence_transformers.models.{kind}"} for i, kind in enumerate(modules)]
        (folder / "modules.json").write_text(json.dumps(kinds), "utf-8")
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}), "utf-8")
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24}), "utf-8")
    return folder
