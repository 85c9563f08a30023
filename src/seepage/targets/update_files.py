"""Captured updates: gradients by name, or the weights before and after a round, held against the model they are of."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seepage.core.errors import DataError, ModelError
from seepage.core.victim import Update
from seepage.targets.torch_files import PREFIXES, read_tensors
from seepage.targets.trust import existing

Array = np.ndarray
Tensors = Mapping[str, Any] | Sequence[Any] | str | Path
# Before and after should differ by training: weights that agree this closely with the model's are its own.
_SAME = 1e-6


def load_tensors(given: Tensors, module: nn.Module, what: str, trust_pickle: bool = False) -> dict[str, Tensor]:
    """Tensors by name, in single precision or better.

    Args:
        given: a mapping from names to tensors or arrays; a `.safetensors` file, a torch file that holds a state dict,
            or an `.npz`; or a list of arrays (as Flower passes them, which is what an `.npz` without names holds
            too), in the order of the module's state dict, or of its parameters.
        module: the model; prefixes that wrappers put before names are taken off where its own names lack them.
        what: which of the tensors these are, for messages.
        trust_pickle: whether a torch file may run code while it is loaded.

    Raises:
        ModelError, TrustError: for a file that is missing, damaged, or would run code.
        DataError: for what are no floating tensors, NaN and infinite values, or a list of another length.
    """
    if isinstance(given, str | Path):
        given = _read(Path(given), what, trust_pickle)
    if not isinstance(given, Mapping):
        given = _named(list(given), module, what)
    found = {str(name): _tensor(value, str(name), what) for name, value in given.items()}
    if not found:
        raise DataError(f"{what}: tensors by name were wanted, got none")
    return _said_once(_without_prefix(found, {name for name, _ in module.state_dict().items()}), module, what)


def _read(path: Path, what: str, trust_pickle: bool) -> Mapping[str, Any] | list[Array]:
    path = existing(path, what)
    if path.suffix != ".npz":
        return read_tensors(path, trust_pickle, what)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{what}: '{path.name}' cannot be read as arrays ({error}): save them with np.savez"
        ) from error
    # np.savez(path, *arrays) names them arr_0, arr_1, ...
    if set(arrays) == {f"arr_{i}" for i in range(len(arrays))}:
        return [arrays[f"arr_{i}"] for i in range(len(arrays))]
    return arrays


def _named(values: list[Any], module: nn.Module, what: str) -> dict[str, Any]:
    whole = list(module.state_dict())
    own = [name for name, _ in module.named_parameters()]
    for names in (whole, own):
        if len(values) == len(names):
            return dict(zip(names, values, strict=True))
    raise DataError(
        f"{what}: a list of {len(values)} arrays fits neither the {len(whole)} tensors of the model's state dict nor "
        f"its {len(own)} parameters: give tensors by name"
    )


def _tensor(value: Any, name: str, what: str) -> Tensor:
    try:
        tensor = value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    except TypeError as error:
        raise DataError(f"{what}: '{name}' should be a tensor of numbers, got a {type(value).__name__}") from error
    if tensor.is_complex() or tensor.is_quantized:
        raise DataError(f"{what}: '{name}' is {tensor.dtype}; floating values were wanted: dequantise it first")
    if not tensor.is_floating_point():
        return tensor
    if not torch.isfinite(tensor).all():
        raise DataError(
            f"{what}: '{name}' holds NaN or infinite values: the client's training diverged, or the file is damaged; "
            "capture another round"
        )
    return tensor if tensor.dtype is torch.float64 else tensor.float()


def _without_prefix(found: dict[str, Tensor], own: set[str]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in found) and not any(name.startswith(prefix) for name in own):
            return {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def tied_names(module: nn.Module) -> dict[str, str]:
    """Names under which a weight stands in the module once more, each with the name that it goes by in an update.

    As of a language model whose output layer is its token embedding.
    """
    first = {id(weight): name for name, weight in module.named_parameters()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: first[id(weight)] for name, weight in every if first[id(weight)] != name}


def _said_once(found: dict[str, Tensor], module: nn.Module, what: str) -> dict[str, Tensor]:
    """Weights that stand in the module twice by one name: state dicts hold them under each.

    Raises:
        DataError: where the two differ.
    """
    for other, own in tied_names(module).items():
        if other not in found:
            continue
        tensor = found.pop(other)
        if own in found and not torch.equal(found[own], tensor):
            raise DataError(
                f"{what}: '{own}' and '{other}' are one weight of the model, and differ here: was the client's model "
                "one that does not tie them? Give the model that it trained"
            )
        found[own] = tensor
    return found


def as_update(found: Mapping[str, Tensor], module: nn.Module, kind: str, what: str = "update") -> Update:
    """The update that tensors by name are, of this module.

    A frozen parameter need not be there; its part is then zero.

    Raises:
        DataError: when names or shapes do not fit the module (the first that does not is named), or all is zero.
    """
    own, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    for name, tensor in found.items():
        if name not in own and name not in buffers:
            raise DataError(
                f"{what}: '{name}' is no parameter of the model (its first is '{next(iter(own))}'): is it the update "
                "of another model, or are the names those of another framework?"
            )
        wanted = (own.get(name) if name in own else buffers[name]).shape  # pyright: ignore[reportOptionalMemberAccess]
        if tensor.shape != wanted:
            raise DataError(
                f"{what}: '{name}' has shape {tuple(tensor.shape)}, the model's has {tuple(wanted)}: is it the "
                "update of another model, or of one with other options?"
            )
        if name in own and not tensor.is_floating_point():
            raise DataError(
                f"{what}: '{name}' holds {str(tensor.dtype).removeprefix('torch.')} numbers, floating ones were "
                "wanted: were they quantised? Give them dequantised, as the server adds them to its weights"
            )
    tensors: dict[str, Array] = {}
    for name, weight in own.items():
        if name not in found and weight.requires_grad:
            raise DataError(
                f"{what}: '{name}' of the model is missing ({len(found)} tensors given, {len(own)} wanted): give every "
                "parameter that the client trained, and freeze those that it did not (requires_grad off in the model, "
                "or [victim] frozen for a folder of the transformers library)"
            )
        tensors[name] = found[name].numpy() if name in found else np.zeros(tuple(weight.shape), np.float32)
    if not any(tensor.any() for tensor in tensors.values()):
        raise DataError(
            f"{what}: every tensor is zero, so that there is nothing to read: did the client train, are its layers "
            "frozen, are before and after the same weights, or were the values too small for half precision?"
        )
    # By the model's own type: a mean over clients makes floating numbers of a count of batches.
    floating = [name for name, own_one in buffers.items() if own_one.is_floating_point() and name in found]
    sent = {name: found[name].numpy() for name in floating if found[name].is_floating_point()}
    return Update(tensors, kind, sent)


def difference(before: Mapping[str, Tensor], after: Mapping[str, Tensor], module: nn.Module) -> Update:
    """The update that lies between the weights before and after a round, with the buffers of after.

    Raises:
        DataError: as `as_update`; and where after lacks what before has.
    """
    own = {name for name, _ in module.named_parameters()}
    for name in before:
        if name in own and name not in after:
            raise DataError(f"after: '{name}' is missing, which before has: are they of one model?")
    for name in after:
        if name in own and name in before and before[name].shape != after[name].shape:
            raise DataError(
                f"after: '{name}' has shape {tuple(after[name].shape)}, before has {tuple(before[name].shape)}: are "
                "they of one model?"
            )
    changed = {name: after[name] - before[name] for name in after if name in own and name in before}
    buffers = {name: tensor for name, tensor in after.items() if name not in own}
    return as_update({**changed, **buffers}, module, "delta", "before and after")


def fill(module: nn.Module, state: Mapping[str, Tensor], what: str = "before") -> None:
    """Put the weights before the round into the module; buffers that are not there keep the module's own values.

    Args:
        module: the model.
        state: the weights by name (`load_tensors`).
        what: which they are, for messages.

    Raises:
        DataError: when names or shapes do not fit the module; the first that does not is named.
    """
    own = module.state_dict()
    for name, tensor in state.items():
        if name not in own:
            raise DataError(f"{what}: '{name}' is no tensor of the model (its first is '{next(iter(own))}')")
        if own[name].shape != tensor.shape:
            raise DataError(
                f"{what}: '{name}' has shape {tuple(tensor.shape)}, the model's has {tuple(own[name].shape)}: are they "
                "the weights of another model?"
            )
    for name, _ in module.named_parameters():
        if name not in state:
            raise DataError(f"{what}: '{name}' of the model is missing")
    module.load_state_dict(dict(state), strict=False)


def same_weights(module: nn.Module, state: Mapping[str, Tensor]) -> str | None:
    """The first parameter of the module that differs from `state`, or None when they are the same weights."""
    for name, weight in module.named_parameters():
        if name in state and state[name].shape == weight.shape:
            apart = (weight.detach().double() - state[name].double()).abs().max()
            if float(apart) > _SAME * max(float(weight.detach().abs().max()), 1e-12):
                return name
    return None
