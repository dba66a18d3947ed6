"""Exports nets from short texts and checks them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.export.conftest import random_weights

from moka.export.onnx.export import Exported, export_onnx
from moka.net import build_net
from moka.schema import caffe_pb2, parse_text

Export = Callable[..., Exported]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """export(text, **options): the export of a net with random weights, checked by running it."""

    def export(text: str, **options: Any) -> Exported:
        net = random_weights(build_net(parse_text(text, caffe_pb2.NetParameter)))
        return export_onnx(net, tmp_path / "net.onnx", **options)

    return export


def one_layer(layer: str, *shapes: str, tops: str = 'top: "y"', name: str = "it") -> str:
    """A net of Inputs of these shapes ("2 3 5 5") and one layer that reads all of them."""
    inputs = "".join(
        f'layer {{ name: "in{k}" type: "Input" top: "x{k}" input_param {{ shape {{'
        f" {' '.join(f'dim: {n}' for n in shape.split())} }} }} }}\n"
        for k, shape in enumerate(shapes)
    )
    bottoms = " ".join(f'bottom: "x{k}"' for k in range(len(shapes)))
    return f'{inputs}layer {{ name: "{name}" {bottoms} {tops} {layer} }}'
