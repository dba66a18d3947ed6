from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from moka.errors import NetError
from moka.graph import build_graph
from moka.schema import caffe_pb2, parse_text

if TYPE_CHECKING:
    from tests.graph.conftest import Registry

TEXT = """
name: "small"
state { stage: "file" }
layer { name: "in" type: "Input" top: "x" top: "t" }
layer { name: "a" type: "One" bottom: "x" top: "a" }
layer { name: "r" type: "One" bottom: "a" top: "a" }
layer { name: "train" type: "Loss" bottom: "a" bottom: "t" top: "l" include { phase: TRAIN } }
layer { name: "deep" type: "One" bottom: "a" top: "d"
  include { min_level: 1 stage: "file" stage: "s" } }
"""


def net() -> caffe_pb2.NetParameter:
    return parse_text(TEXT, caffe_pb2.NetParameter)


def test_names_and_borders(registry: Registry) -> None:
    graph = build_graph(net(), registry, phase=caffe_pb2.TRAIN)
    assert graph.name == "small"
    assert graph.phase == caffe_pb2.TRAIN
    assert [node.name for node in graph.nodes] == ["in", "a", "r", "train"]
    assert graph.blob_names == ("x", "t", "a", "l")
    assert graph.inputs == ("x", "t")
    assert graph.outputs == ("l",)


def test_phase_level_and_stages_select_layers(registry: Registry) -> None:
    graph = build_graph(net(), registry, phase=caffe_pb2.TEST, level=1, stages=["s"])
    assert [node.name for node in graph.nodes] == ["in", "a", "r", "deep"]
    assert graph.outputs == ("d", "t")


def test_the_level_of_the_file_counts_unless_one_is_given(registry: Registry) -> None:
    message = net()
    message.state.level = 1
    message.state.stage.append("s")

    def is_deep(level: int | None) -> bool:
        graph = build_graph(message, registry, phase=caffe_pb2.TEST, level=level)
        return "deep" in [node.name for node in graph.nodes]

    assert is_deep(None)
    assert not is_deep(0)


def test_without_a_phase_the_files_counts(registry: Registry) -> None:
    message = net()
    message.state.phase = caffe_pb2.TRAIN
    assert build_graph(message, registry).phase == caffe_pb2.TRAIN
    assert build_graph(message, registry, phase=caffe_pb2.TEST).phase == caffe_pb2.TEST


def test_filtered_is_without_splits_and_the_message_given_unchanged(registry: Registry) -> None:
    message = net()
    message.layer.add(name="again", type="One", bottom=["a"], top=["z"])
    before = message.SerializeToString()
    graph = build_graph(message, registry, phase=caffe_pb2.TRAIN)
    assert [x.name for x in graph.filtered.layer] == ["in", "a", "r", "train", "again"]
    assert [x.name for x in graph.param.layer] == ["in", "a", "r", "a_r_0_split", "train", "again"]
    assert message.SerializeToString() == before


def test_faults_name_file_and_layer(registry: Registry) -> None:
    message = parse_text('layer { name: "a" type: "What" }', caffe_pb2.NetParameter)
    with pytest.raises(NetError, match=r'^net.prototxt: layer "a" \(What\): Unknown layer type'):
        build_graph(message, registry, file="net.prototxt")


def test_printed_as_a_table(registry: Registry) -> None:
    graph = build_graph(net(), registry, phase=caffe_pb2.TRAIN)
    assert str(graph).splitlines() == [
        "in     Input   -> x, t",
        "a      One  x -> a",
        "r      One  a -> a",
        "train  Loss  a, t -> l",
    ]


WITHOUT_TORCH = """
import sys
from types import SimpleNamespace
sys.modules["torch"] = None  # importing it fails
from moka.graph import build_graph
from moka.schema import caffe_pb2, parse_text
entry = dict(one_top_each=False, is_loss=False, fixed_bottoms=(), state_blobs=0, source=None)
entry["coordinates"] = None
registry = {
    "Input": SimpleNamespace(bottoms=0, tops=1, **entry),
    "Split": SimpleNamespace(bottoms=1, tops=(1, None), **entry),
    "One": SimpleNamespace(bottoms=1, tops=1, **entry),
}
net = parse_text(sys.argv[1], caffe_pb2.NetParameter)
print(build_graph(net, registry))
"""


def test_a_graph_needs_no_torch() -> None:
    text = 'layer { name: "in" type: "Input" top: "x" } layer { name: "a" type: "One" bottom: "x"' \
        ' top: "y" } layer { name: "b" type: "One" bottom: "x" top: "z" }'  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, text], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "x_in_0_split  Split  x -> x_in_0_split_0, x_in_0_split_1" in done.stdout
