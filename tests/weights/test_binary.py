from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.weights.nets import TWO

from moka.errors import WeightsError
from moka.net import Net
from moka.schema import caffe_pb2, parse_text, write_binary
from moka.weights import copy_weights, parse_model, read_model, to_message

if TYPE_CHECKING:
    from tests.conftest import NetMaker


@pytest.fixture
def net(make_net: NetMaker) -> Net:
    return make_net(TWO)


def test_a_saved_model_has_every_layer_and_its_shapes(net: Net, make_net: NetMaker) -> None:
    split = make_net(TWO + 'layer { name: "s" type: "Silence" bottom: "x" }', caffe_pb2.TRAIN)
    message = to_message(split)
    assert message.name == "two"
    assert [(x.name, x.type, x.phase) for x in message.layer] == [
        ("in", "Input", caffe_pb2.TRAIN),
        ("x_in_0_split", "Split", caffe_pb2.TRAIN),
        ("conv", "Convolution", caffe_pb2.TRAIN),
        ("ip", "InnerProduct", caffe_pb2.TRAIN),
        ("s", "Silence", caffe_pb2.TRAIN),
    ]
    shapes = [[list(b.shape.dim) for b in x.blobs] for x in message.layer]
    assert shapes == [[], [], [[3, 2, 2, 2], [3]], [[5, 27], [5]], []]
    assert not any(b.diff for x in message.layer for b in x.blobs)


def test_diffs_are_saved_if_asked(net: Net) -> None:
    net.layer_blobs(2)[1].diff[...] = [1, 2, 3, 4, 5]
    ip = to_message(net, with_diffs=True).layer[2]
    assert list(ip.blobs[1].diff) == [1, 2, 3, 4, 5]
    assert list(ip.blobs[0].diff) == [0] * 135


@pytest.mark.parametrize(
    ("layer", "forms"),
    [
        ('layers { name: "n" type: TANH blobs { %s } }', ["V1LayerParameter"]),
        (
            'layers { layer { name: "n" type: "tanh" blobs { %s } } }',
            ["V0LayerParameter", "V1LayerParameter"],
        ),
    ],
)
def test_a_model_in_an_old_form_keeps_its_blobs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, layer: str, forms: list[str]
) -> None:
    caplog.set_level(logging.INFO, "moka")
    file = tmp_path / "old.caffemodel"
    blob = "num: 1 channels: 1 height: 1 width: 2 data: 3 data: 4"
    write_binary(file, parse_text(layer % blob, caffe_pb2.NetParameter))
    new = f'layer {{ name: "n" type: "TanH" blobs {{ {blob} }} }}'
    assert read_model(file) == parse_text(new, caffe_pb2.NetParameter)
    attempt = "Attempting to upgrade input file specified using deprecated {}: {}"
    said = [m for m in caplog.messages if m.startswith("Attempting")]
    assert said == [attempt.format(form, file) for form in forms]
    assert parse_model(file.read_bytes()) == read_model(file)


def test_an_inconsistent_model(tmp_path: Path) -> None:
    file = tmp_path / "old.caffemodel"
    write_binary(file, parse_text("layer { } layers { }", caffe_pb2.NetParameter))
    with pytest.raises(WeightsError, match=r'old\.caffemodel: it has both 1 "layer"'):
        read_model(file)
    with pytest.raises(WeightsError, match=r'^\(buffer\): it has both 1 "layer"'):
        parse_model(file.read_bytes())


def test_a_layer_of_an_old_model_is_named(tmp_path: Path) -> None:
    file = tmp_path / "old.caffemodel"
    old = 'layers { layer { name: "p" type: "pol" } }'
    write_binary(file, parse_text(old, caffe_pb2.NetParameter))
    says = r'old\.caffemodel: layer "p": Unknown layer name: pol .* Did you mean "pool"'
    with pytest.raises(WeightsError, match=says):
        read_model(file)


def test_layers_the_net_lacks_are_not_looked_into(net: Net) -> None:
    message = to_message(net)
    message.layer.add(name="other").blobs.add().shape.dim.append(3)  # and no numbers
    copy_weights(net, message)
