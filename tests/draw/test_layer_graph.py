"""A net as boxes: in-place layers and blocks are folded, and nothing overlaps."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from moka.draw.layer_graph import block_name, fold_blocks, lay_out_layers, layer_graph
from moka.net import read_net
from moka.schema import caffe_pb2, parse_text

MODELS = Path(__file__).parents[2] / "models"
TEXT = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } }
layer { name: "test" type: "Data" top: "data" top: "label" include { phase: TEST } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


def net_of(text: str) -> caffe_pb2.NetParameter:
    return read_net(parse_text(text, caffe_pb2.NetParameter))[0]


def test_in_place_layers_are_in_the_box_of_their_blob() -> None:
    graph = layer_graph(net_of(TEXT), caffe_pb2.TEST)
    assert [box.layers for box in graph.boxes.values()] == [
        ("test",), ("conv", "relu", "drop"), ("ip",), ("loss",),
    ]  # fmt: skip
    named = {
        (graph.boxes[a].layers[0], graph.boxes[b].layers[0]): blobs
        for (a, b), blobs in graph.edges.items()
    }
    assert named == {
        ("test", "conv"): ("data",),
        ("conv", "ip"): ("conv",),
        ("ip", "loss"): ("ip",),
        ("test", "loss"): ("label",),
    }


@pytest.mark.parametrize(
    ("layer", "block"),
    [
        ("fire2/squeeze1x1", "fire2"),
        ("inception_3a/1x1", "inception_3a"),
        ("res2a_branch2b", "res2a"),
        ("conv1", ""),
        ("conv1_1", ""),
    ],
)
def test_names_of_blocks(layer: str, block: str) -> None:
    assert block_name(layer) == block


def test_blocks_become_boxes_that_can_be_opened() -> None:
    net = read_net(MODELS / "squeezenet_v1.1" / "deploy.prototxt")[0]
    graph = layer_graph(net)
    folded = fold_blocks(graph)
    blocks = [box for box in folded.boxes.values() if box.is_block]
    assert [box.block for box in blocks] == [f"fire{k}" for k in range(2, 10)]
    assert {box.repeats for box in blocks} == {8}
    assert sum(len(box.layers) for box in folded.boxes.values()) == len(net.layer)
    opened = fold_blocks(graph, ["fire3"])
    assert len(opened.boxes) == len(folded.boxes) + 3
    assert all(source != target for source, target in folded.edges)


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("name", ["bvlc_googlenet", "resnet18"])
def test_boxes_do_not_overlap_and_edges_go_down(name: str, fold: bool) -> None:
    graph = layer_graph(read_net(MODELS / name / "deploy.prototxt")[0])
    placed = lay_out_layers(fold_blocks(graph) if fold else graph)
    for a, b in combinations(placed.centers, 2):
        apart_x = abs(placed.centers[a][0] - placed.centers[b][0])
        apart_y = abs(placed.centers[a][1] - placed.centers[b][1])
        width, height = ((placed.sizes[a][i] + placed.sizes[b][i]) / 2 for i in (0, 1))
        assert apart_x >= width - 1e-6 or apart_y >= height - 1e-6, (a, b)
    for key, (x, y) in placed.centers.items():
        width, height = placed.sizes[key]
        assert -1e-6 <= x - width / 2 <= x + width / 2 <= placed.width + 1e-6
        assert -1e-6 <= y - height / 2 <= y + height / 2 <= placed.height + 1e-6
    for way in placed.ways.values():
        heights = [y for _, y in way]
        assert heights == sorted(heights)
