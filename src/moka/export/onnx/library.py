"""The packages that exporting, importing and nets in testing need."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from moka.errors import MokaError
from moka.telemetry import report_nothing


def load_onnx(purpose: str = "Exporting to ONNX") -> ModuleType:
    """The package `onnx`. Raises MokaError with the way to install it."""
    onnx = _load("onnx", purpose)
    for part in ("checker", "external_data_helper", "helper", "inliner", "numpy_helper"):
        importlib.import_module(f"onnx.{part}")
    return onnx


def load_runtime(purpose: str = "The check of an exported model") -> ModuleType:
    """The package `onnxruntime`. Raises MokaError with the way to install it."""
    report_nothing()
    return _load("onnxruntime", purpose)


def runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a model that it cannot load or run: classes of its own, which
    share no base, and those that its binding makes of C++ exceptions."""
    module = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    classes = (value for value in vars(module).values() if isinstance(value, type))
    own = (each for each in classes if issubclass(each, Exception))
    return (*own, RuntimeError, ValueError)


def load_safetensors(purpose: str) -> ModuleType:
    """The module `safetensors.torch`. Raises MokaError with the way to install it."""
    return _load("safetensors.torch", purpose)


def is_installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def _load(name: str, purpose: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise MokaError(
            f"{purpose} needs the package {package}.",
            advice=f"Install it: pip install -U {package}",
        ) from None
