"""The packages `onnx` and `onnxruntime`, which only exporting needs."""

from __future__ import annotations

import importlib
from types import ModuleType

from moka.errors import MokaError

INSTALL = "Install them: pip install 'moka-caffe[export]'"


def load_onnx() -> ModuleType:
    """The package `onnx`. Raises MokaError with the way to install it."""
    return _load("onnx", "Exporting to ONNX")


def load_runtime() -> ModuleType:
    """The package `onnxruntime`. Raises MokaError with the way to install it."""
    return _load("onnxruntime", "The check of an exported model")


def _load(name: str, purpose: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MokaError(f"{purpose} needs the package {name}.", advice=f"{INSTALL}.") from None
