from __future__ import annotations

import pytest

from moka.errors import NetError
from moka.layers.detection.namesakes import refuse_form
from moka.schema import caffe_pb2, parse_text


def test_a_form_of_another_fork() -> None:
    text = 'type: "DetectionLoss" detection_loss_param { side: 7 }'
    config = parse_text(text, caffe_pb2.LayerParameter)
    with pytest.raises(NetError, match="layer of that name in caffe-yolo"):
        refuse_form(config, "yolo")
    config.detection_loss_param.Clear()
    refuse_form(config, "yolo")
    refuse_form(caffe_pb2.LayerParameter(type="ReLU"), "yolo")
