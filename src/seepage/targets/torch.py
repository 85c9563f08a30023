"""A torch network as a victim: everything can be asked of it, up to its weights."""

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from seepage.core.errors import ModelError
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Access, Modality
from seepage.targets.answers import (
    LEAST_LOG,
    OUTPUTS,
    as_batch,
    as_rows,
    choice,
    digest,
    enough_classes,
    kind_of,
    positive,
    probe_records,
    spec_text,
    to_scores,
)

Array = np.ndarray

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.Transformer)


def family_of(module: nn.Module) -> str:
    """The architecture family that a network's layers speak of.

    Attention comes before convolution, so that a vision transformer, whose patches are cut by a
    convolution, is a transformer; a layer written by hand counts by its class name.
    """
    layers = list(module.modules())
    names = [type(layer).__name__ for layer in layers]
    if any(isinstance(layer, _ATTENTION) for layer in layers) or any(
        "Transformer" in name or "SelfAttention" in name or "MultiHead" in name for name in names
    ):
        return "transformer"
    if any(isinstance(layer, _CONVOLUTIONS) for layer in layers):
        return "cnn"
    if any(isinstance(layer, nn.RNNBase) for layer in layers):
        return "rnn"
    linear = sum(isinstance(layer, nn.Linear) for layer in layers)
    return "unknown" if linear == 0 else "linear" if linear == 1 else "mlp"


def _tensor(answer: Any) -> Tensor:
    """The class scores in a network's answer: itself, its `logits`, or the first of several."""
    for found in (
        answer,
        answer.get("logits") if isinstance(answer, Mapping) else getattr(answer, "logits", None),
        answer[0] if isinstance(answer, (tuple, list)) and answer else None,
    ):
        if isinstance(found, Tensor):
            return found
    raise ModelError(f"the network answered a {type(answer).__name__}; a tensor of shape (n, classes) was wanted")


class Differentiable(nn.Module):
    """A network from raw records to logits: preprocessing before it, the reading of its outputs behind it.

    Follows the caller: whatever the device and precision of the records, the logits come back on
    the same device in the same precision, and gradients flow through the move.

    Args:
        network: the user's module.
        spec: what one record is and how the network wants it prepared.
        outputs: "logits", "probabilities" or "log_probabilities".
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, spec: InputSpec, outputs: str):
        super().__init__()
        self.network = network
        self.outputs = outputs
        image = spec.modality is Modality.IMAGE
        self._flip = image and spec.channels == "bgr" and spec.shape[0] == 3
        self._last = image and spec.layout == "hwc"
        sides = (-1,) + (1,) * (len(spec.shape) - 1)
        self.register_buffer("mean", torch.tensor(spec.mean or (0.0,)).reshape(sides), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std or (1.0,)).reshape(sides), persistent=False)
        self._normalised = bool(spec.mean or spec.std)

    def prepare(self, x: Float[Tensor, " n ..."]) -> Float[Tensor, " n ..."]:
        """Records as the network wants them, in the same order of steps as `InputSpec.prepare`."""
        if self._flip:
            x = x.flip(1)
        if self._normalised:
            x = (x - self.mean.to(x)) / self.std.to(x)
        return x.movedim(1, -1).contiguous() if self._last else x

    def raw(self, x: Float[Tensor, " n ..."]) -> Tensor:
        """What the network itself answers: (n, k), when it is a classifier."""
        weight = next((p for p in self.network.parameters() if p.is_floating_point()), None)
        prepared = self.prepare(x)
        out = _tensor(self.network(prepared if weight is None else prepared.to(weight.device, weight.dtype)))
        out = out.to(x)
        if out.ndim == 1:
            return out[:, None]
        return out.flatten(1) if out.ndim > 2 and all(side == 1 for side in out.shape[2:]) else out

    def features(self, x: Float[Tensor, " n ..."]) -> tuple[Float[Tensor, " n d"], Float[Tensor, " n c"]]:
        """What enters the last fully connected layer, (n, d), and the logits, from one pass.

        Raises:
            ModelError: when no such layer runs.
        """
        layers = {name: layer for name, layer in self.network.named_modules() if isinstance(layer, nn.Linear)}
        seen: list[Tensor] = []
        with _entering(layers, lambda _, value: seen.append(value)):
            logits = self(x)
        if not seen:
            raise ModelError("this network runs no torch.nn.Linear layer, so there are no features before the last one")
        return seen[-1].reshape(len(x), -1), logits

    def forward(self, x: Float[Tensor, " n ..."]) -> Float[Tensor, " n c"]:
        out = self.raw(x)
        one = out.shape[1] == 1
        if self.outputs == "logits":
            return torch.cat([torch.zeros_like(out), out], dim=1) if one else out
        least = float(np.exp(LEAST_LOG))
        p = out.exp() if self.outputs == "log_probabilities" else out
        if one:
            return torch.cat([1 - p, p], dim=1).clamp_min(least).log()
        return out.clamp_min(LEAST_LOG) if self.outputs == "log_probabilities" else p.clamp_min(least).log()


def frozen(module: nn.Module) -> nn.Module:
    """A copy of a user's network that asks for no gradients; its own mode and gradients are left alone.

    Raises:
        ModelError: for weights that were never loaded or are not finite, and a network that cannot be copied.
    """
    _check_weights(module)
    try:
        network = copy.deepcopy(module)
    except Exception as error:
        raise ModelError(
            f"the network cannot be copied ({error}); detach tensors that it keeps from a forward pass, "
            "or build it afresh and load its weights"
        ) from error
    return network.requires_grad_(False)


def network_digest(network: nn.Module, *declared: bytes) -> str:
    """SHA-256 over the structure, what was declared, the source of the user's own layers and every weight."""
    parts = [str(network).encode(), *declared]
    parts += sorted(_source(kind).encode() for kind in {type(layer) for layer in network.modules()})
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), flat.view(torch.uint8).numpy().tobytes()]
    return digest(*parts)


def rows_of(spec: InputSpec, batch: int, x: Float[Array, " n ..."], ask: Callable[[Tensor], Tensor]) -> Array:
    """What `ask` answers to records (n, *spec.shape), `batch` of them at a time: (n, k) float64.

    Raises:
        DataError: for records of another shape, or that are not finite.
        ModelError: when it fails, or answers something else than rows of finite numbers.
    """
    x = as_batch(spec, x)
    rows: list[Array] = []
    # An empty batch still passes through once, as a single record, to learn the width.
    for part in [x[i : i + batch] for i in range(0, len(x), batch)] or [probe_records(spec, 1)]:
        try:
            with torch.no_grad():
                answer = ask(torch.tensor(part))
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"the network failed on records of shape {part.shape} ({_first_line(error)}); "
                "it takes records prepared as [victim] input declares"
            ) from error
        rows.append(as_rows(answer.double().cpu().numpy(), len(part), "the network"))
    return np.concatenate(rows)[: len(x)]


class TorchModel:
    """A `torch.nn.Module` as a victim.

    The module is copied, and the copy put in evaluation mode: the caller's keeps its mode and its
    gradients. It takes prepared records, (n, *spec.shape) in `spec.layout`, and answers (n, classes)
    logits, a tuple that begins with them, or a mapping or object with `logits`. One output, (n,) or
    (n, 1), is that of class 1 of two.

    Args:
        module: the network, on any device and in any floating precision.
        spec: what one record is and how the network wants it prepared.
        classes: how many classes; found by asking when not given.
        outputs: "logits", "probabilities" or "log_probabilities": what the module answers.
        batch: how many records pass through it at a time.
        family: the architecture family; read off the layers when not given.

    Raises:
        ModelError: when the module cannot be copied, has weights that are not finite, does not take
            the declared records, or answers something else than `outputs` says.
        ConfigError: for an option that cannot be used.
    """

    def __init__(
        self,
        module: nn.Module,
        spec: InputSpec,
        classes: int | None = None,
        *,
        outputs: str = "logits",
        batch: int = 256,
        family: str | None = None,
    ):
        enough_classes(classes, "the network")
        positive("batch", batch)
        self._spec = spec
        self._outputs = choice("outputs", outputs, OUTPUTS)
        self._batch = int(batch)
        network = frozen(module)
        self._module = Differentiable(network, spec, self._outputs).eval()
        self._family = family or family_of(network)
        self._last_linear, found = self._probe()
        if classes is not None and classes != found:
            raise ModelError(f"the network tells {found} classes apart, but {classes} were declared")
        enough_classes(found, "the network")
        self._classes = found

    @property
    def spec(self) -> InputSpec:
        return self._spec

    @property
    def classes(self) -> int:
        return self._classes

    @property
    def family(self) -> str:
        return self._family

    @property
    def offers(self) -> frozenset[Access]:
        return frozenset({Access.WEIGHTS})

    @cached_property
    def fingerprint(self) -> str | None:
        """SHA-256 over the structure, the source of the user's own layers, every weight and the declaration."""
        return network_digest(self._module.network, self._outputs.encode(), spec_text(self._spec))

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """(n, classes) probabilities, float64; each row sums to one.

        Raises:
            DataError: for records of another shape, or that are not finite.
            ModelError: when the network fails or answers no probabilities.
        """
        return to_scores(self._rows(x, self._module.raw), self._outputs, "the network")

    def logits(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """(n, classes) unnormalised outputs; of a network that answers probabilities, their logarithm."""
        return self._rows(x, self._module)

    def embeddings(self, x: Float[Array, " n ..."]) -> Float[Array, " n d"]:
        """What enters the last fully connected layer, (n, features), any real value.

        Raises:
            ModelError: when the network has no such layer.
        """
        if self._last_linear is None:
            raise ModelError("this network runs no torch.nn.Linear layer, so there are no features before the last one")
        layer = self._module.network.get_submodule(self._last_linear)

        def features(batch: Tensor) -> Tensor:
            seen: list[Tensor] = []
            with _entering({"last": layer}, lambda _, value: seen.append(value)):
                self._module.raw(batch)
            return seen[-1].reshape(len(seen[-1]), -1)

        return self._rows(x, features)

    def differentiable(self) -> Differentiable:
        """A copy of the network from raw records (n, *spec.shape) to logits (n, classes), in evaluation mode.

        What an attack does to it does not reach the victim. Its weights ask for no gradients, so that a
        backward pass to the records costs no more than it must; `requires_grad_()` turns them on.
        """
        return copy.deepcopy(self._module)

    def _rows(self, x: Array, ask: Any) -> Array:
        return rows_of(self._spec, self._batch, x, ask)

    def _probe(self) -> tuple[str | None, int]:
        """Ask about a few records: the name of the last linear layer that ran, and the number of classes."""
        network = self._module.network
        leaves = {name: layer for name, layer in network.named_modules() if not any(layer.children())}
        ran: list[str] = []
        with _entering(leaves, lambda name, _: ran.append(name)):
            rows = self._rows(probe_records(self._spec), self._module.raw)
        self._check_outputs(rows, leaves[ran[-1]] if ran else network)
        scores = to_scores(rows, self._outputs, "the network")
        linear = [name for name in ran if isinstance(leaves[name], nn.Linear)]
        return (linear[-1] if linear else None), scores.shape[1]

    def _check_outputs(self, rows: Array, last: nn.Module) -> None:
        """Refuse what is said to be logits and is not: a softmax over it would distort every score."""
        if self._outputs != "logits":
            return
        sigmoid = isinstance(last, nn.Sigmoid) and bool(((rows >= 0) & (rows <= 1)).all())
        if sigmoid and rows.shape[1] > 1:
            raise ModelError(
                f"the network ends in a sigmoid over {rows.shape[1]} outputs, which are no distribution over classes; "
                'wrap it in a module that divides each row by its sum, and say outputs="probabilities"'
            )
        if sigmoid or kind_of(rows) == "probabilities":
            raise ModelError(
                "the network's answers are probabilities already, and a softmax over them would distort every "
                'score: say outputs="probabilities"'
            )


@contextmanager
def _entering(layers: Mapping[str, nn.Module], note: Any) -> Generator[None]:
    """Calls `note(name, input)` whenever a tensor enters one of `layers`."""

    def hook(name: str) -> Any:
        def enters(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if inputs and isinstance(inputs[0], Tensor):
                note(name, inputs[0])

        return enters

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_weights(module: nn.Module) -> None:
    """Raise a ModelError for weights that were never loaded or are not finite."""
    for name, tensor in module.named_parameters():
        if tensor.is_meta:
            raise ModelError(f"the network's weights were never loaded: '{name}' is on the meta device")
        if isinstance(tensor, nn.parameter.UninitializedParameter):
            raise ModelError(f"the network's lazy layer '{name}' has no shape yet: pass a record through it first")
        if not torch.isfinite(tensor).all():
            raise ModelError(f"the network's weights '{name}' hold NaN or infinity; its training has diverged")
    for name, buffer in module.named_buffers():
        # An infinite buffer can be meant (an attention mask); NaN never is.
        if buffer.is_floating_point() and not buffer.is_meta and torch.isnan(buffer).any():
            raise ModelError(f"the network's buffer '{name}' holds NaN; its training has diverged")


def _source(kind: type[nn.Module]) -> str:
    """The source of a user's layer, free of comments and layout; of torch's own layers, the name alone.

    Read method by method: the source of a class is looked up by its name, which two classes may share.
    """
    parts = [kind.__qualname__]
    own = [base for base in kind.__mro__ if base.__module__.partition(".")[0] not in ("torch", "builtins")]
    for name, method in [pair for base in own for pair in vars(base).items()]:
        if inspect.isfunction(method):
            parts.append(f"{name} {_tidy(method)}")
    return "\n".join(parts)


def _tidy(method: Any) -> str:
    try:
        return ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(method))))
    except (OSError, SyntaxError):
        return "source unknown"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
