from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

from moka.errors import NetError

DRAW = np.random.default_rng(7)
BIASES = (1.1, 1.2, 3.4, 4.5, 0.6, 2.3, 6.6, 1.7)


def maps(*shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {f"x{k}": DRAW.standard_normal(shape) * 1.5 for k, shape in enumerate(shapes)}


def net(kind: str, message: str, options: str, values: dict[str, np.ndarray]) -> str:
    shapes = [" ".join(map(str, x.shape)) for x in values.values()]
    return one_layer(f'type: "{kind}" {message} {{ {options} }}', *shapes)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("biases", [BIASES[:4], ()])
@pytest.mark.parametrize(
    "limits",
    [
        "confidence_threshold: 0.2 nms_threshold: 0.45",
        "confidence_threshold: 0.05 nms_threshold: 0.3",
        "confidence_threshold: 0.3 nms_threshold: 1",
        "confidence_threshold: 0.3 nms_threshold: 0",
        "confidence_threshold: 0.99 nms_threshold: 0.45",  # nothing is found
    ],
)
def test_yolo_v2(export: Export, images: int, biases: tuple[float, ...], limits: str) -> None:
    values = maps((images, 2 * 8, 5, 6))
    options = f"num_classes: 3 num_box: 2 {limits} " + " ".join(f"biases: {b}" for b in biases)
    message = "yolo_detection_output_param"
    done = export(net("YoloDetectionOutput", message, options, values), check_inputs=values)
    assert done.free_batch


@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize("scales", [1, 2])
@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(
    "limits",
    [
        "confidence_threshold: 0.3 nms_threshold: 0.45",
        "confidence_threshold: 0.1 nms_threshold: 0.3",
        "confidence_threshold: 0.1 nms_threshold: 1",
        "confidence_threshold: 0.3 nms_threshold: 1.5",  # a box with each of its classes
        "confidence_threshold: 1.1 nms_threshold: 0.45",
    ],
)
def test_yolo_v3(export: Export, images: int, scales: int, limits: str, gaussian: bool) -> None:
    classes = 3
    channels = 2 * ((9 if gaussian else 5) + classes)
    values = maps(*[(images, channels, 4, 5), (images, channels, 6, 7)][:scales])
    options = " ".join(
        [
            f"num_classes: {classes} num_box: 2 mask_group_num: {scales} {limits}",
            f"gaussian_box: {str(gaussian).lower()}",
            *(f"biases: {20 * b}" for b in BIASES),
            *(f"mask: {k}" for k in (3, 1, 0, 2)[: 2 * scales]),
            *(f"anchors_scale: {s}" for s in (32, 16)[:scales]),
        ]
    )
    text = net("Yolov3DetectionOutput", "yolov3_detection_output_param", options, values)
    assert export(text, check_inputs=values).free_batch


def test_two_maps_of_yolo_v2_are_refused(export: Export) -> None:
    text = (
        'input: "a" input_shape { dim: 1 dim: 16 dim: 4 dim: 4 } input: "b" input_shape { dim: 1'
        ' dim: 16 dim: 2 dim: 2 } layer { name: "found" type: "YoloDetectionOutput" bottom: "a"'
        ' bottom: "b" top: "y" yolo_detection_output_param { num_classes: 3 num_box: 2 } }'
    )
    with pytest.raises(NetError, match="maps of two scales have no exporter"):
        export(text)
