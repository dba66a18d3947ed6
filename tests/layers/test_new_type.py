"""A new layer type is one class in one module: everything else follows from it."""

from __future__ import annotations

import ast
import importlib.util
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import caffe
from moka.draw.net_drawing import net_drawing
from moka.engine.autograd import Autograd
from moka.engine.layerwise import Layerwise
from moka.errors import NetError
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.export import export_onnx
from moka.export.onnx.table import exports
from moka.layers import REGISTRY, all_entries, registry
from moka.layers.base import Layer
from moka.net import build_net
from moka.net.cost import multiply_adds
from moka.net.spec import layers as L
from moka.schema import caffe_pb2, parse_text

ROOT = Path(__file__).parents[2]
MODULE = '''"""Layers that this test makes up."""

from collections.abc import Iterable, Sequence

from torch import Tensor

from moka.layers.base import BlobSpec, Layer
from moka.layers.options import option
from moka.layers.registry import DrawStyle, layer
from moka.types import Shape


@layer(
    "Stretch",
    bottoms=1,
    tops=1,
    message="inner_product_param",
    aliases=("Strain",),
    fork="a test",
    drawn=DrawStyle("#123456", edge="{axis} wide"),
)
class Stretch(Layer):
    """Each column times a factor that is learned. Bottom and top: (N, C)."""

    axis: int = option()

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        filler = self.config.inner_product_param.weight_filler
        yield BlobSpec(x[1:], filler, "factor")

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return bottoms[0][0] * bottoms[0][1]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.blobs[0]
'''
NET = """
name: "new"
layer { name: "in" type: "Input" top: "x" top: "t"
  input_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 3 } } }
layer { name: "stretch" type: "Strain" bottom: "x" top: "y"
  inner_product_param { weight_filler { type: "constant" value: 2 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path) -> Iterator[ModuleType]:
    """The module, registered for the length of a test."""
    before = dict(REGISTRY)
    file = tmp_path / "stretch.py"
    file.write_text(MODULE)
    spec = importlib.util.spec_from_file_location("stretch", file)
    assert spec is not None
    assert spec.loader is not None
    made = sys.modules["stretch"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    yield made
    del sys.modules["stretch"]
    registry._entries.clear()
    registry._entries.update(before)


def net_message() -> caffe_pb2.NetParameter:
    return parse_text(NET, caffe_pb2.NetParameter)


def test_it_is_built_and_counted() -> None:
    net = build_net(net_message(), caffe_pb2.TRAIN)
    layer = net.layers[1]
    assert layer.entry.type == "Stretch"
    assert net.graph.nodes[1].type == "Strain"  # as the file says
    assert list(layer.state_dict()) == ["factor"]
    assert multiply_adds(net) == 2 * 3
    assert layer.precision == "multiplies"  # for it counts what it multiplies


@pytest.mark.parametrize("half", [None, torch.bfloat16, torch.float16])
def test_every_engine_runs_it(half: torch.dtype | None) -> None:
    net = build_net(net_message(), caffe_pb2.TRAIN)
    for name, value in (("x", 1.0), ("t", 0.0)):
        net.blobs[name].data[...] = value
    step = Autograd(net, half=half)
    assert float(step.forward()) == 2 * 2 * 3 / 2
    step.forward_backward()
    gradient = net.layers[1].weights[0].grad
    assert gradient is not None
    assert gradient.tolist() == [2.0] * 3
    engine = Layerwise(net)
    engine.clear_param_diffs()
    assert engine.forward() == 2 * 2 * 3 / 2
    engine.backward()
    assert gradient.tolist() == [2.0] * 3
    called = net(x=torch.ones(2, 3), t=torch.zeros(2, 3))
    assert called["loss"].item() == 2 * 2 * 3 / 2


def test_it_is_drawn() -> None:
    drawing = net_drawing(net_message())
    assert drawing.nodes["stretch_Strain"].color == "#123456"
    assert "1 wide" in {edge.label for edge in drawing.edges}


def test_it_is_documented() -> None:
    page = runpy.run_path(str(ROOT / "docs/make_pages.py"))["layers_page"]()
    start = page.index("## Layers that this test makes up\n\n### Stretch\n")
    section = page[start : page.index("\n## ", start + 1)]
    assert "From a test. Also called `Strain`." in section
    assert "Each column times a factor that is learned." in section
    assert "| `axis` | `1` |" in section


def test_programs_find_it() -> None:
    assert {"Stretch", "Strain"} <= set(caffe.layer_type_list())
    spec = L.Strain(L.Input(shape=dict(dim=[2, 3])), axis=1).to_proto()
    assert spec.layer[-1].inner_product_param.axis == 1
    assert [entry.type for entry in all_entries()].count("Stretch") == 1
    assert "Strain" not in {entry.type for entry in all_entries()}


def test_it_is_exported_or_refused_by_name(module: ModuleType, tmp_path: Path) -> None:
    text = NET.partition('layer { name: "loss"')[0]
    net = build_net(parse_text(text, caffe_pb2.NetParameter))
    with pytest.raises(NetError, match=r'layer "stretch" \(Strain\): cannot be exported: this'):
        export_onnx(net, tmp_path / "new.onnx")

    @exports(module.Stretch)
    def export_stretch(site: Site, layer: Layer, x: Value) -> str:
        return site.add("Mul", x.name, site.weight(0))

    assert export_onnx(net, tmp_path / "new.onnx").nodes == 1


# Where the names of layer types may stand outside of moka/layers, and why.
MAY_NAME_TYPES = {
    "moka/schema/upgrade": "older files say by other words which layer they mean",
    "moka/schema/fork_types.py": "which fork a type comes from that Moka may not have",
    "moka/schema/forms.py": "forks gave one type several meanings; the schema tells them apart",
    "moka/graph/splits.py": "inserts Split layers",
    "moka/net/spec.py": "names messages (Parameter), not layers",
    "caffe/net.py": "a word of an error message",
    "moka/models": "nets as programs",
    "moka/rewrite": "puts Input layers in the place of data, knows what layers do to channels",
    "moka/export/onnx": "names operators of ONNX, many of which are called like layers",
    "moka/opencv": "what OpenCV itself does otherwise for a type: names, rows, operations",
    "moka/web/data/part.py": "the name of a page",
    "moka/web/models/nets_part.py": "puts Input layers in the place of layers that read files",
    "moka/inference/unpacked": "rewrites operators of ONNX",
    "moka/export/torch": "a table of layer types and how PyTorch writes each",
    "moka/importer": "makes layers of operators, many of which are called like layers",
}


def test_no_other_place_names_a_layer_type() -> None:
    found = set()
    for file in sorted((ROOT / "src").rglob("*.py")):
        place = file.relative_to(ROOT / "src").as_posix()
        if place.startswith(("moka/layers/", *MAY_NAME_TYPES)) or place.endswith("_pb2.py"):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and (node.value in REGISTRY)
            ):
                found.add(f"{place}:{node.lineno}: {node.value}")
    assert not found


def test_no_other_place_asks_for_a_layer_class() -> None:
    """Only the base classes are known outside, and the user's own."""
    bases = {"Layer", "Source", "ArrayLayer", "TensorLayer"}
    classes = {entry.make.__name__ for entry in all_entries()} - bases
    found = set()
    for file in sorted((ROOT / "src").rglob("*.py")):
        place = file.relative_to(ROOT / "src").as_posix()
        if place.startswith(("moka/layers/", "moka/export/onnx/")):  # these mirror those
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("moka.layers"):
                found |= {f"{place}: {n.name}" for n in node.names if n.name in classes}
    assert not found
