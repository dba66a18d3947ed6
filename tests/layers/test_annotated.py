"""AnnotatedData: databases of images with boxes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.layers.annotated_records import PIXELS, A, B, Box, build, fill, record

from moka.engine.layerwise import Layerwise
from moka.errors import DataError, MokaError
from moka.net import Net, build_net
from moka.schema import caffe_pb2, parse_text
from moka.types import Array

Maker = Callable[..., Net]


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """make(records, fields, batch_size=, phase=): a net of one AnnotatedData."""
    return partial(build, tmp_path)


def row(item: int, box: Box) -> list[float]:
    return [item, *(float(v) for v in box)]


def test_images_and_boxes(make: Maker) -> None:
    records = [record(PIXELS[0], [A, B]), record(PIXELS[1], [B], encoded=True)]
    net = make(records, "transform_param { mean_value: 104 mean_value: 117 mean_value: 123 }")
    Layerwise(net).forward()
    mean = np.array([104, 117, 123], np.float32)[:, None, None]
    np.testing.assert_array_equal(net.blobs["data"].data, PIXELS - mean)
    want = [[[row(0, A), row(0, B), row(1, B)]]]
    np.testing.assert_array_equal(net.blobs["label"].data, want)
    net.close()


def labeled(pixels: Array, label: int | None) -> bytes:
    """A record without type and boxes, as for classification."""
    annotated = caffe_pb2.AnnotatedDatum.FromString(record(pixels, []))
    annotated.ClearField("type")
    if label is not None:
        annotated.datum.label = label
    return annotated.SerializeToString()


def test_records_without_boxes_have_labels(make: Maker) -> None:
    """Samplers and resizing go on as without boxes."""
    net = make(
        [labeled(PIXELS[0], 4), labeled(PIXELS[1], 7)],
        "annotated_data_param { batch_sampler { sampler { min_scale: 0.3 } max_trials: 5"
        " sample_constraint { min_jaccard_overlap: 0.1 } } }"
        " transform_param { resize_param { height: 6 width: 8 } }",
    )
    Layerwise(net).forward()
    np.testing.assert_array_equal(net.blobs["data"].data, PIXELS)
    assert net.blobs["label"].data.tolist() == [[[[4]]], [[[7]]]]
    net.close()


def test_a_record_without_a_label_among_labeled_ones(make: Maker) -> None:
    net = make([labeled(PIXELS[0], 4), labeled(PIXELS[1], None)])
    with pytest.raises(DataError, match='record "00000001": it has no label, as the first record'):
        Layerwise(net).forward()
    net.close()


def test_the_count_of_boxes_follows_the_batch(make: Maker) -> None:
    records = [record(PIXELS[0], []), record(PIXELS[1], [A, B])]
    net = make(records, batch_size=1)
    engine = Layerwise(net)
    engine.forward()
    np.testing.assert_array_equal(net.blobs["label"].data, np.full((1, 1, 1, 8), -1))
    engine.forward()
    np.testing.assert_array_equal(net.blobs["label"].data, [[[row(0, A), row(0, B)]]])
    engine.forward()
    assert net.blobs["label"].data.shape == (1, 1, 1, 8)
    net.close()


def test_resizing_as_ssd_tests(make: Maker) -> None:
    net = make(
        [record(PIXELS[0], [A]), record(PIXELS[1][:, :4], [B])],
        "transform_param { resize_param { prob: 1 resize_mode: WARP height: 5 width: 7"
        " interp_mode: LINEAR } }",
    )
    Layerwise(net).forward()
    want = cv2.resize(PIXELS[0].transpose(1, 2, 0), (7, 5)).transpose(2, 0, 1)
    np.testing.assert_array_equal(net.blobs["data"].data[0], want)
    assert net.blobs["data"].data.shape == (2, 3, 5, 7)
    np.testing.assert_array_equal(net.blobs["label"].data, [[[row(0, A), row(1, B)]]])
    net.close()


def test_a_mirrored_image_has_mirrored_boxes(make: Maker) -> None:
    net = make([record(PIXELS[0], [A])], "transform_param { mirror: true }", batch_size=16)
    Layerwise(net).forward()
    data, label = net.blobs["data"].data, net.blobs["label"].data[0, 0]
    flipped = [np.array_equal(image, PIXELS[0][:, :, ::-1]) for image in data]
    assert 0 < sum(flipped) < 16
    for item, mirrored in enumerate(flipped):
        x = (0.5, 0.75) if mirrored else (0.25, 0.5)
        np.testing.assert_allclose(label[item], [item, 3, 0, x[0], 0.5, x[1], 1, 0])
    net.close()


@pytest.mark.parametrize(
    ("constraint", "count"),
    [
        ("", 2),
        ("emit_constraint { emit_type: CENTER }", 1),
        ("emit_constraint { emit_type: MIN_OVERLAP emit_overlap: 0.6 }", 1),
        ("emit_constraint { emit_type: MIN_OVERLAP emit_overlap: 0.1 }", 2),
    ],
)
def test_a_crop_takes_its_boxes_along(make: Maker, constraint: str, count: int) -> None:
    """The central 4 x 4 of 8 x 8: a box in it, one that reaches into it, one beside it."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8)).astype(np.uint8)
    inner: Box = (3, 0, 0.375, 0.5, 0.5, 0.75, False)
    reaching: Box = (9, 0, 0.0, 0.0, 0.4375, 0.4375, False)
    beside: Box = (5, 0, 0.0, 0.0, 0.25, 0.25, False)
    net = make(
        [record(pixels, [inner, reaching, beside])],
        f"transform_param {{ crop_size: 4 {constraint} }}",
        batch_size=1,
    )
    Layerwise(net).forward()
    np.testing.assert_array_equal(net.blobs["data"].data[0], pixels[:, 2:6, 2:6])
    rows = net.blobs["label"].data[0, 0]
    assert rows[:, 1].tolist() == [3, 9][:count]
    np.testing.assert_allclose(rows[0, 3:7], A[2:6])
    if count > 1:
        np.testing.assert_allclose(rows[1, 3:7], [0, 0, 0.375, 0.375])
    net.close()


def test_a_crop_that_is_no_square(make: Maker) -> None:
    box: Box = (3, 0, 0.25, 0.0, 0.75, 1.0, False)
    net = make([record(PIXELS[0], [box])], "transform_param { crop_h: 2 crop_w: 4 }", batch_size=1)
    Layerwise(net).forward()
    np.testing.assert_array_equal(net.blobs["data"].data[0], PIXELS[0][:, 2:4, 2:6])
    np.testing.assert_allclose(net.blobs["label"].data[0, 0], [row(0, (3, 0, 0, 0, 1, 1, False))])
    net.close()


def test_boxes_as_parts_of_another_size(make: Maker) -> None:
    """Of 6 x 8 pixels, resized to 12 x 16; boxes are parts of 6 x 4."""
    net = make(
        [record(PIXELS[0], [A])],
        "transform_param { resize_param { resize_mode: FIT_SMALL_SIZE height: 12 width: 12"
        " height_scale: 6 width_scale: 4 } }",
        batch_size=1,
    )
    Layerwise(net).forward()
    assert net.blobs["data"].data.shape == (1, 3, 12, 16)
    np.testing.assert_allclose(net.blobs["label"].data[0, 0, 0, 3:7], [1, 1, 2, 2])
    net.close()
    with pytest.raises(DataError, match="height_scale and width_scale, 20 x 4, are more than"):
        Layerwise(make(
            [record(PIXELS[0], [A])],
            "transform_param { resize_param { resize_mode: FIT_SMALL_SIZE height: 12 width: 12"
            " height_scale: 20 width_scale: 4 } }",
        )).forward()  # fmt: skip


def test_the_table_of_mobilenet_yolo(make: Maker) -> None:
    yolo = "annotated_data_param { yolo_data_type: 1 yolo_data_jitter: 0 %s }"
    records = [record(PIXELS[0], [A, B]), record(PIXELS[1], [B])]
    net = make(records, yolo % "")
    assert net.blobs["label"].shape == (2, 1, 300, 5)
    Layerwise(net).forward()
    label = net.blobs["label"].data
    np.testing.assert_allclose(label[0, 0, :2], [[2, 0.375, 0.75, 0.25, 0.5],
                                                 [0, 0.0625, 0.125, 0.125, 0.25]])  # fmt: skip
    assert not label[0, 0, 2:].any()
    net.close()
    easy = make(records, yolo % "train_diffcult: false")
    Layerwise(easy).forward()
    assert easy.blobs["label"].data.any(3).sum(2).ravel().tolist() == [1, 0]
    easy.close()


def test_a_record_that_a_step_cannot_change_is_named(make: Maker) -> None:
    net = make(
        [record(PIXELS[0], [A]), record(PIXELS[0][:1], [A])],
        "transform_param { distort_param { hue_prob: 1 hue_delta: 9 } }",
        batch_size=1,
    )
    engine = Layerwise(net)
    engine.forward()
    with pytest.raises(DataError, match='record "00000001": distort_param changes hue of images'):
        engine.forward()
    net.close()


def test_a_plain_datum_is_no_annotated_datum(make: Maker) -> None:
    plain = caffe_pb2.Datum(channels=1, height=1, width=1, data=b"x").SerializeToString()
    with pytest.raises(DataError, match='record "00000000": the record is not an AnnotatedDatum'):
        make([plain])
    with pytest.raises(DataError, match="the record is not an AnnotatedDatum"):
        make([b"\xff\xff not a message"])


def test_boxes_are_optional(tmp_path: Path) -> None:
    fill(tmp_path / "boxes_lmdb", [record(PIXELS[0], [A])])
    text = (
        'layer { name: "data" type: "AnnotatedData" top: "data"'
        f' data_param {{ source: "{tmp_path}/boxes_lmdb" batch_size: 1 }} }}'
    )
    net = build_net(parse_text(text, caffe_pb2.NetParameter), caffe_pb2.TEST)
    Layerwise(net).forward()
    assert list(net.blobs) == ["data"]
    net.close()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("annotated_data_param { single_class: true }", r"{ single_class } is not supported"),
        ("annotated_data_param { yolo_data_type: 2 }", "yolo_data_type is 0 or 1, got 2"),
        (
            "annotated_data_param { batch_sampler { sampler { min_scale: 2 } } }",
            "0 < min_scale <= max_scale <= 1 must hold",
        ),
        ("transform_param { distort_param { hue_delta: -1 } }", "hue_delta must be >= 0"),
        ("transform_param { resize_param { height: 4 width: 4 max_angle: 1 } }", "max_angle"),
        ("transform_param { resize_short_side: 4 }", "but not their boxes"),
        ("transform_param { resize_param { height: 4 } }", "needs height and width"),
        ("transform_param { crop_h: 4 }", "crop_h and crop_w go together: got crop_h=4, crop_w=0"),
    ],
)
def test_what_is_not_supported(make: Maker, fields: str, message: str) -> None:
    with pytest.raises(MokaError, match=message):
        make([record(PIXELS[0], [A])], fields)


def test_a_net_without_a_source() -> None:
    text = 'layer { name: "data" type: "AnnotatedData" top: "data" data_param { batch_size: 1 } }'
    with pytest.raises(MokaError, match="data_param has no source"):
        build_net(parse_text(text, caffe_pb2.NetParameter), caffe_pb2.TEST)


def test_the_boxes_are_what_detectors_are_scored_with(tmp_path: Path) -> None:
    fill(tmp_path / "boxes_lmdb", [record(PIXELS[0], [A, B]), record(PIXELS[1], [A])])
    text = (
        'layer { name: "data" type: "AnnotatedData" top: "data" top: "label"'
        f' data_param {{ source: "{tmp_path}/boxes_lmdb" batch_size: 2 }} }}'
        ' layer { name: "found" type: "Input" top: "found"'
        " input_param { shape { dim: 1 dim: 1 dim: 2 dim: 7 } } }"
        ' layer { name: "scores" type: "DetectionEvaluate" bottom: "found" bottom: "label"'
        ' top: "scores" detection_evaluate_param { num_classes: 4 background_label_id: 0'
        " evaluate_difficult_gt: false } }"
    )
    net = build_net(parse_text(text, caffe_pb2.NetParameter), caffe_pb2.TEST)
    hit, miss = [1, 3, 0.9, *A[2:6]], [0, 3, 0.8, 0.0, 0.0, 0.1, 0.1]
    net.blobs["found"].data[...] = [hit, miss]
    Layerwise(net).forward()
    rows = net.blobs["scores"].data[0, 0].tolist()
    assert [row[1:3] for row in rows[:3]] == [[1, 0], [2, 0], [3, 2]]
    assert [row[3:] for row in rows[3:]] == [[0, 1], [1, 0]]
    net.close()
