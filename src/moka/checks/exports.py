"""Whether a net leaves as an ONNX file, and how far that file's outputs are from the net's."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from moka.checks.finding import Export, Finding
from moka.errors import MokaError
from moka.export.onnx.export import USUAL_OPSET, export_onnx
from moka.export.onnx.library import load_onnx, load_runtime
from moka.export.onnx.obstacle import export_obstacle
from moka.net import Net
from moka.weights import load_weights


def need_packages() -> None:
    """Raise MokaError, with the way to install it, if a package that exporting needs is missing."""
    load_onnx()
    load_runtime()


def look_up_export(outline: Net) -> Export:
    """Whether a net exports, by its layers alone: no file is made, no weights are needed."""
    obstacle = export_obstacle(outline, USUAL_OPSET)
    return Export(str(obstacle) if obstacle else None)


def try_export(outline: Net, seen: Finding) -> Export:
    """Export a net with its weights to a file that is thrown away, and run that beside the net.

    Args:
        seen: what is known of the net; it names the weights, which fit.
    """
    if seen.weights is None or (seen.export and seen.export.obstacle):
        return seen.export or look_up_export(outline)
    try:
        net = Net(outline.graph, torch.device("cpu"), given_shapes=seen.inputs)
        load_weights(net, seen.weights)
        with tempfile.TemporaryDirectory() as folder:
            made = export_onnx(net, Path(folder) / "net.onnx")
    except MokaError as error:
        return Export(str(error))
    return Export(difference=made.random)
