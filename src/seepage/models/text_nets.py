"""Transformers that clients of federated learning train: small ones with fresh weights, and those in a local folder.

The library `transformers` is imported when one is asked for. Nothing is downloaded, and no code of a folder is run.
"""

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from seepage.core.errors import ConfigError, MissingExtra, ModelError, did_you_mean
from seepage.models.text_clients import Task, TextNet
from seepage.models.training import seeded
from seepage.models.word_pieces import CONTINUED, word_pieces

UNKNOWN, PAD, START, END = "[UNK]", "[PAD]", "[CLS]", "[SEP]"
_SPECIAL = (PAD, UNKNOWN, START, END)
_PURPOSE = "a client who trains on texts"


@dataclass(frozen=True)
class Sizes:
    """The measures of a small transformer.

    Attributes:
        width: numbers a token is represented by.
        layers, heads: how many.
        length: the most tokens of a text.
        dropout: the share of values dropped in "train" mode.
        tokens: the greatest size of a vocabulary made of texts.
    """

    width: int = 256
    layers: int = 3
    heads: int = 4
    length: int = 64
    dropout: float = 0.0
    tokens: int = 5000


def text_net(
    name: str,
    vocabulary: int | Sequence[str],
    classes: int,
    seed: int,
    task: Task = "classification",
    **options: Any,
) -> TextNet:
    """A small transformer with fresh weights drawn under `seed`: "tiny-gpt" (a decoder) or "tiny-bert" (an encoder).

    Args:
        name: which.
        vocabulary: how many tokens it knows (it is then fed token numbers, 0 being the padding), or texts that its
            vocabulary is made of.
        classes: how many classes it tells apart, for "classification".
        seed: of the weights.
        task: "classification", or "causal-lm" for the decoder.
        options: those of `Sizes`.

    Raises:
        ConfigError: for an unknown name or option, or an encoder with "causal-lm".
        MissingExtra: without transformers.
    """
    if name not in TEXT_NETS:
        raise ConfigError(f"unknown network '{name}': {did_you_mean(name, TEXT_NETS)}")
    try:
        sizes = Sizes(**options)
    except TypeError as error:
        raise ConfigError(f"the network '{name}' was given an option it does not take: {error}") from error
    if sizes.width % sizes.heads:
        raise ConfigError(f"a width that {sizes.heads} heads can share was wanted, got {sizes.width}")
    tokenizer = None
    if not isinstance(vocabulary, int):
        tokenizer = TEXT_NETS[name].tokenizer(vocabulary, sizes)
        vocabulary = len(tokenizer)
    with seeded(seed):
        module = TEXT_NETS[name].build(vocabulary, classes, task, sizes)
    return TextNet(module, task, tokenizer, sizes.length)


def folder_net(
    path: str | Path, task: Task = "classification", classes: int | None = None, *, whole: bool = False
) -> TextNet:
    """A model with its tokenizer from a folder of the transformers library; its weights are read from safetensors.

    Args:
        path: the folder: `config.json`, `model.safetensors` (or its shards), a tokenizer.
        task: what its clients train it for.
        classes: how many classes its head should have; a head that the folder lacks is drawn anew.
        whole: whether a folder that lacks weights is refused instead.

    Raises:
        ModelError: for a folder that holds no such model.
        MissingExtra: without transformers.
    """
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise MissingExtra("transformers", "lm", _PURPOSE) from error
    if not (Path(path) / "config.json").is_file():
        raise ModelError(f"{path} holds no config.json: a folder of the transformers library was wanted")
    kinds: dict[str, Any] = {
        "classification": transformers.AutoModelForSequenceClassification,
        "causal-lm": transformers.AutoModelForCausalLM,
    }
    kept: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    more = {} if classes is None or task == "causal-lm" else {"num_labels": classes}
    try:
        with seeded(0), _quietly():
            module, told = kinds[task].from_pretrained(
                str(path),
                use_safetensors=True,
                attn_implementation="eager",
                output_loading_info=True,
                **kept,
                **more,
            )
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(path), **kept)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise ModelError(f"the folder {path} cannot be opened as a model of texts: {error}") from error
    if whole and told["missing_keys"]:
        raise ModelError(
            f"the folder {path} has no weights '{min(told['missing_keys'])}' of a model for '{task}': they would be "
            "drawn anew, and what was captured is not of such. Give the model that the server sent: its folder, or its "
            'weights (weights = "...")'
        )
    return TextNet(module.float(), task, tokenizer)


@contextmanager
def _quietly() -> Generator[None]:
    """Without the library's bars on the terminal."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _gpt(vocabulary: int, classes: int, task: Task, sizes: Sizes) -> nn.Module:
    try:
        from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel
    except ModuleNotFoundError as error:
        raise MissingExtra("transformers", "lm", _PURPOSE) from error
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=sizes.length,
        n_embd=sizes.width,
        n_layer=sizes.layers,
        n_head=sizes.heads,
        resid_pdrop=sizes.dropout,
        embd_pdrop=sizes.dropout,
        attn_pdrop=sizes.dropout,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    config.num_labels = max(classes, 1)
    config._attn_implementation = "eager"  # pyright: ignore[reportPrivateUsage]
    return GPT2ForSequenceClassification(config) if task == "classification" else GPT2LMHeadModel(config)


def _bert(vocabulary: int, classes: int, task: Task, sizes: Sizes) -> nn.Module:
    if task != "classification":
        raise ConfigError("an encoder is trained here to classify texts: task = 'causal-lm' is for 'tiny-gpt'")
    try:
        from transformers import BertConfig, BertForSequenceClassification
    except ModuleNotFoundError as error:
        raise MissingExtra("transformers", "lm", _PURPOSE) from error
    config = BertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=sizes.length,
        hidden_size=sizes.width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=4 * sizes.width,
        hidden_dropout_prob=sizes.dropout,
        attention_probs_dropout_prob=sizes.dropout,
        pad_token_id=0,
    )
    config.num_labels = max(classes, 1)
    config._attn_implementation = "eager"  # pyright: ignore[reportPrivateUsage]
    return BertForSequenceClassification(config)


def _words(texts: Sequence[str], sizes: Sizes) -> Any:
    """A tokenizer of words and punctuation marks, folded; each text ends in [SEP]."""
    made, tokenizers = _folding()
    trainer = tokenizers.trainers.WordLevelTrainer(
        vocab_size=sizes.tokens, special_tokens=list(_SPECIAL), show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, made.token_to_id(END))]
    )
    return _fast(made)


def _pieces(texts: Sequence[str], sizes: Sizes) -> Any:
    """A tokenizer of pieces of words, folded; each text begins with [CLS] and ends in [SEP]."""
    made, tokenizers = _folding()
    split = (made.pre_tokenizer.pre_tokenize_str(made.normalizer.normalize_str(text)) for text in texts)
    vocabulary = word_pieces(Counter(word for parts in split for word, _ in parts), _SPECIAL, sizes.tokens)
    made.model = tokenizers.models.WordPiece(vocabulary, unk_token=UNKNOWN, continuing_subword_prefix=CONTINUED)
    made.add_special_tokens(list(_SPECIAL))
    made.decoder = tokenizers.decoders.WordPiece()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(t, made.token_to_id(t)) for t in (START, END)]
    )
    return _fast(made)


def _folding() -> tuple[Any, Any]:
    """A tokenizer that folds texts and takes words and marks apart, yet without a vocabulary."""
    try:
        import tokenizers
        from tokenizers import models, normalizers, pre_tokenizers
    except ModuleNotFoundError as error:
        raise MissingExtra("tokenizers", "lm", _PURPOSE) from error
    made: Any = tokenizers.Tokenizer(models.WordLevel({UNKNOWN: 0}, unk_token=UNKNOWN))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made, tokenizers


def _fast(made: Any) -> Any:
    try:
        from transformers import PreTrainedTokenizerFast
    except ModuleNotFoundError as error:
        raise MissingExtra("transformers", "lm", _PURPOSE) from error
    named = {"unk_token": UNKNOWN, "pad_token": PAD, "cls_token": START, "sep_token": END}
    return PreTrainedTokenizerFast(tokenizer_object=made, padding_side="right", **named)


@dataclass(frozen=True)
class TextModel:
    """A small transformer that comes with Seepage."""

    title: str
    build: Callable[[int, int, Task, Sizes], nn.Module]
    tokenizer: Callable[[Sequence[str], Sizes], Any]


TEXT_NETS: Mapping[str, TextModel] = {
    "tiny-gpt": TextModel("a small GPT-2, with a vocabulary of words", _gpt, _words),
    "tiny-bert": TextModel("a small BERT, with a vocabulary of pieces of words", _bert, _pieces),
}
