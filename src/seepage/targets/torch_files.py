"""Torch networks from disk: built by the user's code, their weights read without running any."""

import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from seepage.core.errors import ConfigError, ModelError, SeepageError, TrustError
from seepage.core.registry import load
from seepage.core.spec import InputSpec
from seepage.targets.torch import TorchModel
from seepage.targets.trust import existing, pickled_names, unpickle

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
_INSIDE = ("state_dict", "model_state_dict")
# Put before every name by DataParallel, torch.compile and trainers that hold the network as `model`.
_HARMLESS = ("torch._utils.", "torch.storage.", "collections.")
PREFIXES = ("module.", "_orig_mod.", "model.")
_CONVERT = (
    "save its weights alone: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors'), "
    "and give build= a function that makes the network"
)


def load_torch(
    build: str | Callable[..., nn.Module] | None,
    weights: str | Path | None,
    spec: InputSpec,
    classes: int | None = None,
    *,
    build_args: Mapping[str, Any] | None = None,
    outputs: str = "logits",
    batch: int = 256,
    family: str | None = None,
    trust_pickle: bool = False,
) -> TorchModel:
    """A victim from a function that makes the network and a file with its weights.

    Args:
        build: returns the network: a callable, or its import path "package.module:name". May be
            None for a file that holds a whole network, which needs `trust_pickle`.
        weights: a `.safetensors` file, or a `.pt`, `.pth`, `.bin` or `.ckpt` file that holds a state
            dict, plain or under "state_dict" or "model_state_dict". None when `build` loads them.
        spec: what one record is and how the network wants it prepared.
        classes: as for `TorchModel`.
        build_args: keyword arguments for `build`.
        outputs: as for `TorchModel`.
        batch: as for `TorchModel`.
        family: as for `TorchModel`.
        trust_pickle: whether the file may run code while it is loaded.

    Raises:
        TrustError: for a file that holds more than tensors, without `trust_pickle`.
        ModelError: for a file that is missing, damaged, or does not fit the network.
        ConfigError: for an import path that leads nowhere.
    """
    network = load_network(build, weights, build_args, trust_pickle=trust_pickle)
    return TorchModel(network, spec, classes, outputs=outputs, batch=batch, family=family)


def load_network(
    build: str | Callable[..., nn.Module] | None,
    weights: str | Path | None,
    build_args: Mapping[str, Any] | None = None,
    *,
    trust_pickle: bool = False,
) -> nn.Module:
    """The network itself: arguments and errors are those of `load_torch`."""
    network = None if build is None else _built(build, build_args or {})
    if weights is not None:
        path = existing(weights, "weights")
        found = _read(path, trust_pickle)
        if isinstance(found, nn.Module):
            network = found
        elif network is None:
            raise ConfigError(
                f"'{path.name}' holds weights alone: give build=, a function that makes the network they belong to"
            )
        else:
            _fill(network, _state(found, path.name), path.name)
    if network is None:
        raise ConfigError("a torch victim needs build=, a function that makes the network, or its import path")
    return network


def _built(build: str | Callable[..., nn.Module], arguments: Mapping[str, Any]) -> nn.Module:
    make = load(build) if isinstance(build, str) else build
    name = build if isinstance(build, str) else getattr(build, "__name__", type(build).__name__)
    if isinstance(make, nn.Module):
        return make
    if not callable(make):
        raise ConfigError(f"build: '{name}' is a {type(make).__name__}; a function that returns a network was wanted")
    try:
        network = make(**arguments)
    except SeepageError:
        raise
    except Exception as error:
        raise ModelError(f"build: '{name}' failed ({type(error).__name__}: {error})") from error
    if not isinstance(network, nn.Module):
        raise ModelError(f"build: '{name}' returned a {type(network).__name__}; a torch.nn.Module was wanted")
    return network


def read_tensors(path: Path, trust_pickle: bool = False, what: str = "weights") -> dict[str, Tensor]:
    """The tensors of a weights file by name, read without running code unless the file is trusted.

    Args:
        path: the file.
        trust_pickle: whether it may run code while it is loaded.
        what: what it is, for messages.

    Raises:
        TrustError, ModelError: as `load_torch`.
    """
    found = _read(path, trust_pickle, what)
    return dict(found.state_dict()) if isinstance(found, nn.Module) else _state(found, path.name, what)


def _read(path: Path, trust_pickle: bool, what: str = "weights") -> Any:
    """The content of a weights file: tensors by name or, with trust, anything."""
    if path.suffix == ".safetensors":
        try:
            return load_file(str(path))
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise _damaged(path, error, what) from error
    if path.suffix not in PICKLED:
        raise ModelError(
            f"{what}: '{path.name}' is of no known kind; .safetensors and {', '.join(PICKLED)} can be read"
        )
    if _is_torchscript(path):
        raise ModelError(
            f"'{path.name}' is a TorchScript archive; load it yourself (torch.jit.load) and audit the module"
        )
    try:
        with warnings.catch_warnings():
            # About pickles of another protocol: such a file either loads or is refused below.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if not trust_pickle:
            raise _refused(path, error, what) from error
    except Exception as error:  # a damaged pickle can make its reader fail in any way
        raise _damaged(path, error, what) from error
    return unpickle(path, lambda p: torch.load(p, map_location="cpu", weights_only=False), trust_pickle, _CONVERT)


def _refused(path: Path, error: Exception, what: str) -> ModelError:
    """Why a file cannot be read without running code: it wants to, or it is damaged."""
    try:
        names, whole = pickled_names(_pickle_of(path))
    except zipfile.BadZipFile:
        return _damaged(path, error, what)
    foreign = sorted(name for name in names if not name.startswith(_HARMLESS))
    if not foreign and not whole:
        return _damaged(path, error, what)
    return TrustError(
        f"'{path.name}' holds more than tensors and would run code when loaded "
        f"(it asks for {_some(foreign) or 'other objects'}); {_CONVERT}; "
        "or, if you trust where it comes from, pass trust_pickle=True (--trust-pickle)"
    )


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _pickle_of(path: Path) -> bytes:
    """The pickle inside a checkpoint: a member of the archive, or the file itself in the old format."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        inside = [name for name in archive.namelist() if name.endswith("data.pkl")]
        return archive.read(inside[0]) if inside else b""


def _damaged(path: Path, error: Exception, what: str) -> ModelError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ModelError(
        f"{what}: '{path.name}' cannot be read, it seems damaged or truncated ({first[:200]}): save or copy it again"
    )


def _state(content: Any, name: str, what: str = "weights") -> dict[str, Tensor]:
    """The state dict in a checkpoint's content."""
    inner: Any = content
    if isinstance(content, Mapping):
        inner = next((content[key] for key in _INSIDE if isinstance(content.get(key), Mapping)), content)
    if not isinstance(inner, Mapping):
        raise ModelError(f"{what}: '{name}' holds a {type(content).__name__}; tensors by name were wanted")
    tensors = {str(key): value for key, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ModelError(
            f"{what}: '{name}' holds no tensors by name at its top, under 'state_dict' or under "
            f"'model_state_dict'; it holds {_some(map(str, inner))}"
        )
    return tensors


def _fill(network: nn.Module, state: dict[str, Tensor], name: str) -> None:
    """Load `state` into `network`, every tensor of which must be there in its shape."""
    own = {key: value for key, value in network.state_dict().items() if isinstance(value, Tensor)}
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state) and not any(key.startswith(prefix) for key in own):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    # Tied weights are saved once: a name whose tensor lies in the same memory as one given is not missing.
    given = {own[key].data_ptr() for key in state if key in own}
    missing = [
        key
        for key in own
        # Batch norm's counter matters in training only, and old checkpoints lack it.
        if key not in state and own[key].data_ptr() not in given and not key.endswith("num_batches_tracked")
    ]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    said = (("missing", missing), ("not part of the network", unexpected), ("of another shape", shapes))
    faults = [f"{len(items)} {what}: {_some(items)}" for what, items in said if items]
    if faults:
        raise ModelError(f"weights: '{name}' does not fit the network that build= makes; {'; '.join(faults)}")
    network.load_state_dict(state, strict=False)


def _some(items: Any, most: int = 4) -> str:
    names = list(items)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
