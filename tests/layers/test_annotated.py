"""AnnotatedData: databases of images with boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from moka.engine.layerwise import Layerwise
from moka.errors import DataError, MokaError
from moka.net import Net, build_net
from moka.schema import caffe_pb2, parse_text
from moka.types import Array

Box = tuple[int, int, float, float, float, float, bool]  # label, instance, corners, difficult
Maker = Callable[..., Net]


def record(pixels: Array, boxes: list[Box], *, encoded: bool = False) -> bytes:
    annotated = caffe_pb2.AnnotatedDatum(type=caffe_pb2.AnnotatedDatum.BBOX)
    channels, height, width = pixels.shape
    datum = caffe_pb2.Datum(channels=channels, height=height, width=width, encoded=encoded)
    if encoded:
        datum.data = cv2.imencode(".png", pixels.transpose(1, 2, 0))[1].tobytes()
    else:
        datum.data = pixels.tobytes()
    annotated.datum.CopyFrom(datum)
    for label, instance, x1, y1, x2, y2, difficult in boxes:
        group = annotated.annotation_group.add(group_label=label)
        box = caffe_pb2.NormalizedBBox(xmin=x1, ymin=y1, xmax=x2, ymax=y2, difficult=difficult)
        group.annotation.add(instance_id=instance).bbox.CopyFrom(box)
    return annotated.SerializeToString()


def fill(path: Path, records: list[bytes]) -> None:
    with lmdb.open(str(path), map_size=1 << 22) as database, database.begin(write=True) as out:
        for k, value in enumerate(records):
            out.put(b"%08d" % k, value)


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """make(records, fields, batch_size=, phase=): a net of one AnnotatedData."""

    def build(
        records: list[bytes],
        fields: str = "",
        *,
        batch_size: int = 2,
        phase: caffe_pb2.Phase = caffe_pb2.TEST,
    ) -> Net:
        fill(tmp_path / "boxes_lmdb", records)
        text = (
            'layer { name: "data" type: "AnnotatedData" top: "data" top: "label" data_param {'
            f' source: "{tmp_path}/boxes_lmdb" batch_size: {batch_size} backend: LMDB }}'
            f" {fields} }}"
        )
        return build_net(parse_text(text, caffe_pb2.NetParameter), phase)

    return build


PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 8)).astype(np.uint8)
A: Box = (3, 0, 0.25, 0.5, 0.5, 1.0, False)
B: Box = (1, 2, 0.0, 0.0, 0.125, 0.25, True)


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
        ("annotated_data_param { batch_sampler { } }", r"annotated_data_param { batch_sampler }"),
        ("annotated_data_param { yolo_data_type: 1 }", r"annotated_data_param { yolo_data_type }"),
        ("transform_param { distort_param { } }", r"transform_param { distort_param } is not"),
        ("transform_param { expand_param { } }", r"transform_param { expand_param } is not"),
        ("transform_param { resize_short_side: 4 }", "but not their boxes"),
        ("transform_param { resize_param { height: 4 } }", "needs height and width"),
        ("transform_param { crop_h: 4 }", r"transform_param { crop_h } is not supported"),
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
