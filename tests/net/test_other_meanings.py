"""Layers that forks compute otherwise are told."""

from __future__ import annotations

import pytest

from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.net import build_net
from moka.net.other_meanings import tell_other_meanings
from moka.schema import caffe_pb2, parse_text


def test_crops_that_forks_align_are_told(caplog: pytest.LogCaptureFixture) -> None:
    text = """
    layer { name: "data" type: "Input" top: "data"
            input_param { shape { dim: 1 dim: 1 dim: 9 dim: 9 } } }
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
            convolution_param { num_output: 1 kernel_size: 3 pad: 5 } }
    layer { name: "crop" type: "Crop" bottom: "conv" bottom: "data" top: "crop" }
    layer { name: "more" type: "Crop" bottom: "conv" bottom: "data" top: "more" }
    """
    build_net(parse_text(text, caffe_pb2.NetParameter))
    (told,) = (line for line in caplog.messages if "Crop" in line)
    assert told.startswith('The Crop layer "crop" and 1 more begins at 0, as in BVLC')
    assert told.endswith('here 4: for a net of theirs write type: "AutoCrop".')
    caplog.clear()
    build_net(parse_text(text.replace('"Crop"', '"AutoCrop"'), caffe_pb2.NetParameter))
    assert not any("Crop" in line for line in caplog.messages)


def test_losses_that_forks_balance_are_told(caplog: pytest.LogCaptureFixture) -> None:
    text = """
    layer { name: "edges" type: "ImageLabelmapData" top: "data" top: "label"
            image_data_param { source: "edges.lst" } }
    layer { name: "side" type: "SigmoidCrossEntropyLoss" bottom: "data" bottom: "label" top: "a" }
    layer { name: "fuse" type: "SigmoidCrossEntropyLoss" bottom: "data" bottom: "label" top: "b"
            %s }
    """

    def told(more: str, old: str = "", new: str = "") -> list[str]:
        caplog.clear()
        param = parse_text((text % more).replace(old, new), caffe_pb2.NetParameter)
        tell_other_meanings(build_graph(param, REGISTRY, phase=caffe_pb2.TRAIN))
        return caplog.messages

    (line,) = told("")
    assert line.startswith('The SigmoidCrossEntropyLoss layer "side" and 1 more counts all pixels')
    assert "write loss_param { class_balance: 1 } (HED) or 1.1 (RCF)" in line
    (line,) = told("loss_param { class_balance: 1.1 }")
    assert 'layer "side" counts' in line
    assert told("", "ImageLabelmapData", "ImageData") == []
