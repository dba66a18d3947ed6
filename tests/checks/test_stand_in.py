from __future__ import annotations

from pathlib import Path

import pytest

from moka.checks.stand_in import build
from moka.errors import NetError
from moka.graph import Graph, build_graph
from moka.layers import REGISTRY
from moka.net import Net
from moka.schema import caffe_pb2, parse_text

NET = """
layer { name: "d" type: "Data" top: "x" data_param { source: "gone" batch_size: 2 } %s }
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 2 kernel_size: 3 group: %d } }
"""


def graph(options: str = "", group: int = 1) -> Graph:
    param = parse_text(NET % (options, group), caffe_pb2.NetParameter)
    return build_graph(param, REGISTRY, file="n.prototxt")


def size(net: Net) -> tuple[int, ...]:
    return tuple(net.blobs["x"].shape)


def test_the_first_size_with_which_it_can_be_built() -> None:
    built = build(graph(group=2))
    assert size(built.net) == (2, 2, 224, 224)
    assert built.notes == (
        'Data is missing: gone: layer "d" (Data): No such file or directory.',
        "Nothing tells the size of its images: the numbers are those for 2 x 224 x 224.",
    )


def test_the_first_size_that_fits() -> None:
    built = build(graph(), lambda net: size(net)[1:] == (1, 96, 96))
    assert size(built.net) == (2, 1, 96, 96)
    assert built.notes[1] == "Its images are taken to be 1 x 96 x 96."
    nothing_fits = build(graph(), lambda net: False)
    assert size(nothing_fits.net) == (2, 3, 224, 224)
    assert "Nothing tells" in nothing_fits.notes[1]
    assert (built.is_guess, nothing_fits.is_guess) == (False, True)


def test_what_the_text_tells_stays() -> None:
    options = "transform_param { crop_size: 9 mean_value: 1 mean_value: 1 }"
    built = build(graph(options), lambda net: False)
    assert size(built.net) == (2, 2, 9, 9)
    assert len(built.notes) == 1


def test_nets_beside(tmp_path: Path) -> None:
    """Their channels are tried first, then others in their size; a broken one tells nothing."""
    deploy, broken = tmp_path / "a.prototxt", tmp_path / "b.prototxt"
    deploy.write_text('input: "x" input_dim: 5 input_dim: 1 input_dim: 20 input_dim: 30')
    broken.write_text("layer {")
    beside = [str(broken), str(deploy)]
    assert size(build(graph(), None, beside).net) == (2, 1, 20, 30)
    assert size(build(graph(group=2), None, beside).net) == (2, 2, 20, 30)


def test_no_size() -> None:
    with pytest.raises(NetError, match=r"gone: .*Without it nobody knows the shapes"):
        build(graph(group=7))
