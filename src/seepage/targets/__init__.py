"""Adapters that make something a victim. Each is loaded when it is first used: none costs torch unless it is torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seepage.targets.wrap import infer_spec, open_encoder, open_victim, takes_tables, task_told, wrap

if TYPE_CHECKING:
    from seepage.targets.callable import CallableModel, load_callable
    from seepage.targets.encoder import CallableEncoder, FolderEncoder, load_encoder
    from seepage.targets.onnx import OnnxModel
    from seepage.targets.predictors import Predictor
    from seepage.targets.remote import HttpModel
    from seepage.targets.sklearn import SklearnModel, load_sklearn
    from seepage.targets.torch import TorchModel
    from seepage.targets.torch_files import load_network, load_torch

_WHERE = {
    "CallableModel": "callable",
    "load_callable": "callable",
    "CallableEncoder": "encoder",
    "FolderEncoder": "encoder",
    "load_encoder": "encoder",
    "HttpModel": "remote",
    "OnnxModel": "onnx",
    "Predictor": "predictors",
    "SklearnModel": "sklearn",
    "load_sklearn": "sklearn",
    "TorchModel": "torch",
    "load_network": "torch_files",
    "load_torch": "torch_files",
}

__all__ = [
    "CallableEncoder",
    "CallableModel",
    "FolderEncoder",
    "HttpModel",
    "OnnxModel",
    "Predictor",
    "SklearnModel",
    "TorchModel",
    "infer_spec",
    "load_callable",
    "load_encoder",
    "load_network",
    "load_sklearn",
    "load_torch",
    "open_encoder",
    "open_victim",
    "takes_tables",
    "task_told",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'seepage.targets' has no attribute '{name}'")
    return getattr(import_module(f"seepage.targets.{_WHERE[name]}"), name)
