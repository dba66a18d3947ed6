from __future__ import annotations

from pathlib import Path

import pytest
from tests.layers.one_layer import text_of

from moka.errors import MokaError
from moka.export.onnx.export import USUAL_OPSET, export_onnx
from moka.export.onnx.obstacle import export_obstacle
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.net import Net, build_net
from moka.net.outline import outline
from moka.schema import caffe_pb2, parse_text

OWN_FILES = sorted(
    name
    for name, entry in REGISTRY.items()
    if entry.source not in ("files", "arrays") and not entry.runs_user_code
)


def outlined(text: str) -> Net:
    message = parse_text(text, caffe_pb2.NetParameter)
    return outline(build_graph(message, REGISTRY, phase=caffe_pb2.TEST, file="(given message)"))


@pytest.mark.parametrize("kind", OWN_FILES)
def test_an_outline_tells_what_the_export_says(kind: str, tmp_path: Path) -> None:
    text = text_of(kind)
    said = None
    try:
        net = build_net(parse_text(text, caffe_pb2.NetParameter), caffe_pb2.TEST)
        export_onnx(net, tmp_path / "net.onnx", check=False)
    except MokaError as error:
        said = str(error)
    obstacle = export_obstacle(outlined(text), USUAL_OPSET)
    assert (str(obstacle) if obstacle else None) == said
