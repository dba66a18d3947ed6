from __future__ import annotations

import pytest

from moka.draw.net_drawing import Drawing, Edge, net_drawing
from moka.draw.net_passes import (
    COPY,
    add_shapes,
    cut,
    fold_in_place,
    in_two_lines,
    join_parallel,
    layer_count,
)
from moka.schema import caffe_pb2, parse_text

NET = """
layer { name: "i" type: "Input" top: "x" }
layer { name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 20 } }
layer { name: "b" type: "BatchNorm" bottom: "y" top: "y" }
layer { name: "r" type: "ReLU" bottom: "y" top: "y" }
layer { name: "e" type: "Eltwise" bottom: "y" bottom: "x" top: "z" }
"""


def drawing(text: str = NET, rankdir: str = "LR") -> Drawing:
    return net_drawing(parse_text(text, caffe_pb2.NetParameter), rankdir)


def chain(count: int) -> Drawing:
    """Layers l0, l1, ..., of which each reads the blob before it, and the last the first too."""
    layers = ['layer { name: "i" type: "Input" top: "b0" }']
    for k in range(count):
        more = 'bottom: "b0"' if k == count - 1 else ""
        layers.append(
            f'layer {{ name: "l{k}" type: "TanH" bottom: "b{k}" {more} top: "b{k + 1}" }}'
        )
    return drawing("\n".join(layers))


def test_layers_in_two_lines() -> None:
    made = in_two_lines(drawing(), "TB")
    assert made.rankdir == "TB"
    lines = {key: node.lines for key, node in made.nodes.items()}
    assert lines["c_Convolution"] == ("c (Convolution)", "kernel size: 1 stride: 1 pad: 0")
    assert lines["i_Input"] == ("i (Input)",)
    assert lines["x_blob"] == ("x",)


def test_layers_in_place_are_written_into_their_blob() -> None:
    folded = fold_in_place(drawing())
    assert list(folded.nodes) == ["i_Input", "x_blob", "c_Convolution", "y_blob", "e_Eltwise",
                                  "z_blob"]  # fmt: skip
    assert folded.nodes["y_blob"].in_place_lines == ("b (BatchNorm)", "r (ReLU)")
    assert folded.nodes["x_blob"].in_place_lines == ()
    ends = [(edge.source, edge.target) for edge in folded.edges]
    assert ("c_Convolution", "y_blob") in ends
    assert len(ends) == 6
    assert layer_count(folded) == layer_count(drawing()) == 5


@pytest.mark.parametrize(
    ("rankdir", "lines"), [("LR", ("y", "2x20x4")), ("TB", ("y 2x20x4",)), ("BT", ("y 2x20x4",))]
)
def test_shapes(rankdir: str, lines: tuple[str, ...]) -> None:
    shown = add_shapes(drawing(rankdir=rankdir), {"y": ("2", "20", "4"), "x": ("?",), "z": ()})
    assert shown.nodes["y_blob"].lines == lines
    assert shown.nodes["x_blob"].lines == ("x",)
    assert shown.nodes["z_blob"].lines == ("z",)
    assert shown.nodes["c_Convolution"] == drawing(rankdir=rankdir).nodes["c_Convolution"]


def test_edges_of_both_phases_are_joined() -> None:
    text = """
    layer { name: "d" type: "Data" top: "x" data_param { batch_size: 64 } include { phase: TRAIN } }
    layer { name: "d" type: "Data" top: "x" data_param { batch_size: 10 } include { phase: TEST } }
    layer { name: "t" type: "TanH" bottom: "x" top: "y" }
    """
    assert join_parallel(drawing(text)).edges == (
        Edge("d_Data", "x_blob", "Batch 64, Batch 10"),
        Edge("x_blob", "t_TanH"),
        Edge("t_TanH", "y_blob"),
    )


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_parts_hold_everything_once(count: int) -> None:
    whole = chain(20)
    parts = cut(whole, count)
    assert len(parts) == count
    nodes = [key for part in parts for key in part.nodes if not key.endswith(COPY)]
    assert sorted(nodes) == sorted(whole.nodes)
    assert sum(len(part.edges) for part in parts) == len(whole.edges)
    sizes = [len(part.nodes) for part in parts]
    assert max(sizes) - min(sizes) <= 8
    for part in parts:
        assert {end for e in part.edges for end in (e.source, e.target)} <= set(part.nodes)


def test_a_blob_of_an_earlier_part_is_copied() -> None:
    first, last = cut(chain(20), 2)
    copies = [key for key in last.nodes if key.endswith(COPY)]
    assert "b0_blob" in first.nodes
    assert f"b0_blob{COPY}" in copies
    assert len(copies) == 2  # and the one where the cut lies
    for key in copies:
        assert last.nodes[key].is_copy
        assert last.nodes[key].lines == (key.removesuffix(f"_blob{COPY}"),)
    assert not any(node.is_copy for node in first.nodes.values())


def test_the_cut_lies_where_few_blobs_cross_it() -> None:
    """Two modules of four branches each, joined by one blob."""
    layers = ['layer { name: "i" type: "Input" top: "a" }']
    for bottom, top in ("ab", "bc"):
        branches = [f"{top}{k}" for k in range(4)]
        layers += [
            f'layer {{ name: "{name}" type: "TanH" bottom: "{bottom}" top: "{name}" }}'
            for name in branches
        ]
        bottoms = " ".join(f'bottom: "{name}"' for name in branches)
        layers.append(f'layer {{ name: "{top}" type: "Concat" {bottoms} top: "{top}" }}')
    _, second = cut(drawing("\n".join(layers)), 2)
    assert [key for key in second.nodes if key.endswith(COPY)] == [f"b_blob{COPY}"]


def test_branches_are_cut_side_by_side() -> None:
    """Two chains of ten layers, listed one after the other."""
    layers = [f'layer {{ name: "{side}" type: "Input" top: "{side}0" }}' for side in "lr"]
    for side in "lr":
        layers += [
            f'layer {{ name: "{side}{k}" type: "TanH" bottom: "{side}{k}" top: "{side}{k + 1}" }}'
            for k in range(10)
        ]
    for part in cut(drawing("\n".join(layers)), 2):
        names = [key for key, node in part.nodes.items() if not node.is_blob]
        left, right = (sum(key.startswith(side) for key in names) for side in "lr")
        assert left == right > 3


def test_what_is_too_short_to_cut() -> None:
    assert len(cut(drawing(""), 3)) == 1
    text = 'layer { name: "i" type: "Input" top: "x" }'
    (part,) = cut(drawing(text), 4)
    assert part == drawing(text)
