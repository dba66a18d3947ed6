"""Models for other programs: `moka.export(net, "net.onnx")`.

This package can be called, because it has the name of what it does: importing one of its modules
would otherwise hide a function `moka.export` behind the package.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any

from moka.errors import UsageError, did_you_mean
from moka.net import Net
from moka.types import PathLike

__all__ = ["FORMATS", "export", "format_of"]

# The function of each format, (net, file, **options), and the endings of its files.
FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    "onnx": ("moka.export.onnx.export:export_onnx", (".onnx",)),
    "torch": ("moka.export.torch.export:export_torch", (".py", ".pt")),
    "safetensors": ("moka.export.torch.export:export_safetensors", (".safetensors",)),
}


def export(net: Net, file: PathLike, *, format: str = "", **options: Any) -> Any:
    """Write a net as a file for other programs. Nothing is left behind if that fails.

    Args:
        net: of the phase TEST, with its weights.
        file: what to write.
        format: "onnx"; "torch" or "safetensors", PyTorch source (`x.py`) with its weights beside it
            in that form; "" chooses by the ending of `file`.
        options: of the format; for ONNX those of `moka.export.onnx.export.export_onnx`: opset,
            batch, outputs, half, image_input, labels, check, check_image and others.

    Returns:
        What has been written; for ONNX with its largest difference from the net.

    Raises:
        MokaError: the format has no form for a layer, or the file's outputs are not the net's.
        OSError: the file cannot be written.
    """
    function, _ = FORMATS[format_of(file, format)]
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)(net, file, **options)


def format_of(file: PathLike, given: str = "") -> str:
    """The format that is given, or else that of the file's ending.

    Raises:
        UsageError: an unknown format, or an ending that says none.
    """
    if given and given not in FORMATS:
        raise UsageError(
            f'unknown format "{given}" (known: {", ".join(FORMATS)}).',
            advice=did_you_mean(given, FORMATS),
        )
    ending = os.path.splitext(file)[1].lower()
    found = given or next((name for name, (_, ends) in FORMATS.items() if ending in ends), "")
    if not found:
        raise UsageError(
            f'"{os.fspath(file)}" does not end like a file of a known format:'
            f" {', '.join(end for _, ends in FORMATS.values() for end in ends)}.",
            advice="Name the format.",
        )
    return found


class _Callable(ModuleType):
    """A package that is also a function."""

    def __call__(self, net: Net, file: PathLike, **options: Any) -> Any:
        return export(net, file, **options)


sys.modules[__name__].__class__ = _Callable
