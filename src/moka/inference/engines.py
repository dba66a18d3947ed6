"""Which engine runs nets for testing: the names that users say, and the backends behind them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from moka.errors import UsageError, did_you_mean
from moka.inference.contract import Backend
from moka.inference.folded import Folded
from moka.inference.onnx_runtime import OnnxRuntime
from moka.inference.openvino import OpenVino

BACKENDS: tuple[Backend, ...] = (OnnxRuntime(), OpenVino(), Folded())  # the likely best first
LAYERWISE, AUTO = "layerwise", "auto"
ENGINES = (AUTO, LAYERWISE, *(backend.name for backend in BACKENDS))
VARIABLE = "MOKA_ENGINE"

_chosen: str | None = None  # by `set_engine`


def set_engine(name: str) -> None:
    """Choose what runs nets in testing, for the whole process, from the next pass on.

    Args:
        name: "auto" measures what is installed and takes the best for each net, shape of its
            inputs and number of threads; "layerwise" runs layer by layer; "onnxruntime",
            "openvino" or "torch" runs programs of that backend from the first pass on, and layer by
            layer what has no form in it.

    Raises:
        UsageError: an unknown name, or a backend that is not installed.
    """
    global _chosen
    _chosen = _checked(name, "engine")


def chosen() -> str:
    """The name in force: of `set_engine`, else of the variable MOKA_ENGINE, else "auto". The
    variable is read once.

    Raises:
        UsageError: the variable holds something else.
    """
    global _chosen
    if _chosen is None:
        given = os.environ.get(VARIABLE, "")
        _chosen = _checked(given, VARIABLE) if given else AUTO
    return _chosen


@contextmanager
def engine_is(name: str) -> Iterator[None]:
    """`set_engine` for a while."""
    global _chosen
    before = _chosen
    set_engine(name)
    try:
        yield
    finally:
        _chosen = before


def may_record() -> bool:
    """Whether training may run as a recording: unless the engine is "layerwise"."""
    return chosen() != LAYERWISE


def backends() -> list[Backend]:
    """The backends to try, in this order; none if nets are to run layer by layer."""
    name = chosen()
    if name == AUTO:
        return [backend for backend in BACKENDS if backend.is_installed()]
    return [backend for backend in BACKENDS if backend.name == name]


def _checked(name: str, what: str) -> str:
    if name not in ENGINES:
        raise UsageError(
            f'{what} "{name}" is unknown (known: {", ".join(ENGINES)}).',
            advice=did_you_mean(name, ENGINES),
        )
    for backend in BACKENDS:
        if backend.name == name and not backend.is_installed():
            raise UsageError(
                f"{what} {name} is not installed.", advice=f"Install it: pip install {name}."
            )
    return name
