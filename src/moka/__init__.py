"""Moka: Caffe models on PyTorch.

net = moka.load("deploy.prototxt", "net.caffemodel")   # an nn.Module
outputs = net(data=tensor)                             # {"prob": tensor}
moka.export(net, "net.onnx")                           # for any program that runs ONNX
solver = moka.train("solver.prototxt")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from moka.errors import MokaError
from moka.fork import make_forks_safe

if TYPE_CHECKING:
    from moka.api import load, train
    from moka.checks.shelf import check
    from moka.draw import viz
    from moka.export import export
    from moka.heap import keep_freed_memory
    from moka.inference.engines import set_engine
    from moka.layers.python import TensorLayer as Layer
    from moka.net import Net
    from moka.solver.solver import Solver
    from moka.threads import choose_threads
    from moka.weights import load_weights, save_weights

__all__ = [
    "Layer",
    "MokaError",
    "Net",
    "Solver",
    "check",
    "choose_threads",
    "export",
    "keep_freed_memory",
    "load",
    "load_weights",
    "save_weights",
    "set_engine",
    "train",
    "viz",
]

__version__ = "0.1.0"

_HOMES = {
    "check": "moka.checks.shelf.check",
    "choose_threads": "moka.threads.choose_threads",
    "Layer": "moka.layers.python.TensorLayer",
    "keep_freed_memory": "moka.heap.keep_freed_memory",
    "load": "moka.api.load",
    "train": "moka.api.train",
    "Net": "moka.net.Net",
    "Solver": "moka.solver.solver.Solver",
    "load_weights": "moka.weights.load_weights",
    "save_weights": "moka.weights.save_weights",
    "set_engine": "moka.inference.engines.set_engine",
}
_MODULES = {"export": "moka.export", "viz": "moka.draw.viz"}


make_forks_safe()


def __dir__() -> list[str]:
    """The public names, also those that have not been imported yet."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: reading messages and graphs needs no torch."""
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _HOMES:
        module, _, attribute = _HOMES[name].rpartition(".")
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'moka' has no attribute '{name}'")
