"""Encoders of texts as victims: a sentence encoder in a local folder, or any function from texts to vectors.

Nothing is downloaded and nothing from the folder is run: weights are read from safetensors files alone.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from seepage.core.errors import ConfigError, MissingExtra, ModelError, SeepageError, TrustError
from seepage.core.registry import load
from seepage.core.victim import TextEncoder
from seepage.core.vocabulary import Access
from seepage.targets.answers import digest, positive
from seepage.targets.trust import existing

Array = np.ndarray
Pooling = Literal["mean", "cls", "max"]

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
# A control asks what the attack asked before: answers are kept, up to this many texts.
_KEPT = 200_000


class FolderEncoder:
    """A sentence encoder from a Hugging Face or sentence-transformers folder, in 32 bits on the CPU.

    How tokens are pooled is read from `1_Pooling/config.json`, whether vectors are brought to length 1 from
    `modules.json`, and how many tokens are read from `sentence_bert_config.json`, each where it is there and
    not given here. A plain Hugging Face folder is pooled by the mean and not normalised.

    Args:
        path: the folder: `config.json`, `model.safetensors` (or its shards), a tokenizer.
        batch: texts encoded at a time; does not change an answer by more than rounding.
        pooling: "mean" over the tokens, "cls" for the first one, "max" over them.
        normalise: whether vectors get length 1.
        max_length: tokens read of a text; what follows is cut.

    Raises:
        MissingExtra: without the package transformers.
        TrustError: for a folder whose weights are pickled alone.
        ModelError: for a folder that holds no such encoder.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        batch: int = 64,
        pooling: Pooling | None = None,
        normalise: bool | None = None,
        max_length: int | None = None,
    ):
        self._folder = _folder(path)
        positive("batch", batch)
        self._batch = batch
        self._pooling = pooling or _pooling(self._folder)
        self._normalise = _normalises(self._folder) if normalise is None else normalise
        self._tokenizer, self._model = _loaded(self._folder)
        self._length = self._tokens(max_length)
        self._kept: dict[str, Array] = {}

    @property
    def offers(self) -> frozenset[Access]:
        return frozenset({Access.EMBEDDINGS})

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the folder's files and how they are used."""
        return digest(
            folder_digest(self._folder).encode(), repr((self._pooling, self._normalise, self._length)).encode()
        )

    @property
    def facts(self) -> dict[str, float | str | None]:
        """How texts become vectors, for the record."""
        return {
            "architecture": str(self._model.config.model_type),
            "dimensions": float(self._model.config.hidden_size),
            "pooling": self._pooling,
            "normalised": "yes" if self._normalise else "no",
            "tokens_read": float(self._length),
        }

    def embed(self, texts: Sequence[str]) -> Float[Array, " n d"]:
        """(n, d) float32 vectors, in the order of the texts.

        Raises:
            ModelError: when a vector is not finite.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        # Texts of about one length go together: padding is work for nothing.
        new.sort(key=lambda text: (len(text), text))
        known = dict(self._kept)
        for i in range(0, len(new), self._batch):
            part = new[i : i + self._batch]
            known.update(zip(part, self._encode(part), strict=True))
        self._kept = known if len(known) <= _KEPT else {}
        if not texts:
            return np.zeros((0, int(self._model.config.hidden_size)), dtype=np.float32)
        return checked(np.stack([known[text] for text in texts]), len(texts), f"the encoder in '{self._folder}'")

    def _encode(self, texts: list[str]) -> Array:
        import torch

        tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=self._length, return_tensors="pt")
        with torch.no_grad():
            states = self._model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).bool()
        if self._pooling == "cls":
            found = states[:, 0]
        elif self._pooling == "max":
            found = states.masked_fill(~mask, -torch.inf).amax(dim=1)
        else:
            found = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        if self._normalise:
            found = torch.nn.functional.normalize(found, dim=1)
        return found.numpy()

    def _tokens(self, declared: int | None) -> int:
        """How many tokens are read: as given, as the folder says, and never more than the model has places for."""
        if declared is not None:
            positive("max_length", declared)
        said = _json(self._folder / "sentence_bert_config.json").get("max_seq_length")
        known = [declared or said, getattr(self._model.config, "max_position_embeddings", None)]
        known.append(getattr(self._tokenizer, "model_max_length", None))
        return min([int(n) for n in known if isinstance(n, int) and 0 < n < 1_000_000] or [512])


class CallableEncoder:
    """A function from texts to vectors as a victim.

    Args:
        fn: takes a list of n texts and gives (n, d) numbers, the same for the same texts.
        batch: texts given at a time; all at once when not given.
    """

    def __init__(self, fn: Callable[[list[str]], Any], *, batch: int | None = None):
        if batch is not None:
            positive("batch", batch)
        self._fn, self._batch = fn, batch
        self._who = f"the function '{getattr(fn, '__name__', type(fn).__name__)}'"

    @property
    def offers(self) -> frozenset[Access]:
        return frozenset({Access.EMBEDDINGS})

    @property
    def fingerprint(self) -> str | None:
        """None: what a function will answer cannot be told from looking at it."""
        return None

    def embed(self, texts: Sequence[str]) -> Float[Array, " n d"]:
        """(n, d) float32 vectors.

        Raises:
            ModelError: when the function fails, or answers something else.
        """
        if not texts:
            return np.zeros((0, 0), dtype=np.float32)
        step = self._batch or len(texts)
        return np.concatenate([self._ask(list(texts[i : i + step])) for i in range(0, len(texts), step)])

    def _ask(self, texts: list[str]) -> Array:
        try:
            answer = self._fn(texts)
        except SeepageError:
            raise
        except Exception as error:
            raise ModelError(f"{self._who} failed ({type(error).__name__}: {error})") from error
        if hasattr(answer, "detach"):
            answer = answer.detach().cpu()
        return checked(np.asarray(answer), len(texts), self._who)


def checked(vectors: Array, n: int, who: str) -> Float[Array, " n d"]:
    """Vectors as float32, one a text, all finite.

    Raises:
        ModelError: naming what was wanted and what came.
    """
    if vectors.dtype.kind not in "fiu" or vectors.ndim != 2 or len(vectors) != n or not vectors.size:
        raise ModelError(
            f"{who} was given {n} texts and answered {vectors.dtype} of shape {vectors.shape}; "
            f"one row of numbers a text, ({n}, d), was wanted"
        )
    bad = np.nonzero(~np.isfinite(vectors).all(axis=1))[0]
    if len(bad):
        raise ModelError(f"{who} answered NaN or infinity for {len(bad)} of {n} texts, first for number {bad[0]}")
    return vectors.astype(np.float32)


def load_encoder(
    path: str | None = None,
    fn: str | Callable[[list[str]], Any] | None = None,
    *,
    batch: int = 64,
    pooling: Pooling | None = None,
    normalise: bool | None = None,
    max_length: int | None = None,
) -> TextEncoder:
    """An encoder from a folder, or from a function or its import path "package.module:name".

    Raises:
        ConfigError: when neither or both are given, an option is meant for the other, or the path leads nowhere.
        ModelError: as for `FolderEncoder`, whose arguments the others are.
    """
    if (path is None) == (fn is None):
        raise ConfigError("an encoder needs path (a folder) or fn (a function from texts to vectors), one of the two")
    if path is not None:
        return FolderEncoder(path, batch=batch, pooling=pooling, normalise=normalise, max_length=max_length)
    for name, value in (("pooling", pooling), ("normalise", normalise), ("max_length", max_length)):
        if value is not None:
            raise ConfigError(f"{name} is for an encoder in a folder (path); a function does that itself")
    found = load(fn) if isinstance(fn, str) else fn
    if not callable(found):
        raise ConfigError(f"fn: '{fn}' is a {type(found).__name__}; a function from texts to vectors was wanted")
    return CallableEncoder(found, batch=batch)


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of all files of a folder."""
    parts: list[bytes] = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        parts += [file.relative_to(folder).as_posix().encode(), file.read_bytes()]
    return digest(*parts)


def _folder(path: str | Path) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "is not there"
        raise ModelError(
            f"an encoder is a folder with config.json, model.safetensors and a tokenizer; '{folder}' {what}. Nothing "
            "is downloaded: save the model first (model.save(folder), or save_pretrained(folder))"
        )
    existing(folder / "config.json", "the encoder's configuration")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(file.name for pattern in _PICKLED for file in folder.glob(pattern))
        if pickled:
            raise TrustError(
                f"'{folder}' holds pickled weights alone ({pickled[0]}), and a pickle can run code: they are not "
                "loaded here, with --trust-pickle neither. Convert them where you trust them: "
                "model.save_pretrained(folder, safe_serialization=True)"
            )
        raise ModelError(f"'{folder}' holds no weights: a model.safetensors was wanted")
    return folder


def _json(file: Path) -> dict[str, Any]:
    """The content of an optional file; an empty one where it is not there."""
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file}: an object was wanted, got a {type(content).__name__}")
    return content


def _pooling(folder: Path) -> Pooling:
    """How the folder says that tokens are pooled; the mean where it says nothing."""
    said = _json(folder / "1_Pooling" / "config.json")
    asked = sorted(name for name, value in said.items() if name.startswith("pooling_mode_") and value is True)
    if not asked:
        return "mean"
    if len(asked) > 1 or asked[0] not in _POOLINGS:
        raise ModelError(
            f"{folder / '1_Pooling'}: pooling by {', '.join(asked)} is not known here, by one of "
            f"{', '.join(_POOLINGS)} it is. Wrap such an encoder in a function (fn)"
        )
    return _POOLINGS[asked[0]]


def _normalises(folder: Path) -> bool:
    """Whether the folder's list of modules ends in bringing vectors to length 1."""
    file = folder / "modules.json"
    if not file.is_file():
        return False
    try:
        modules = json.loads(file.read_text(encoding="utf-8"))
        kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{file}: a list of modules, each with a type, was wanted ({error})") from error
    other = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if other:
        raise ModelError(
            f"{file} names a module '{other[0]}' that is not known here; wrap the encoder in a function (fn)"
        )
    return "Normalize" in kinds


def _loaded(folder: Path) -> tuple[Any, Any]:
    """The tokenizer and the network of a folder."""
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as noise
    except ImportError as error:
        raise MissingExtra("transformers", "lm", "an encoder in a folder") from error
    level, bars = noise.get_verbosity(), noise.is_progress_bar_enabled()
    # What a library says while it loads is not for the terminal of an audit.
    noise.set_verbosity_error()
    noise.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model = AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
    except Exception as error:
        raise ModelError(f"no encoder can be read from '{folder}' ({type(error).__name__}: {error})") from error
    finally:
        noise.set_verbosity(level)
        if bars:
            noise.enable_progress_bar()
    if tokenizer.pad_token is None:
        raise ModelError(f"the tokenizer in '{folder}' has no token to pad with: such a model is no sentence encoder")
    return tokenizer, model.eval()
