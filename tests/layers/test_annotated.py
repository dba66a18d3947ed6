"""AnnotatedData: databases of images with boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch

from moka.engine.layerwise import Layerwise
from moka.errors import DataError, MokaError
from moka.layers.annotated import AnnotatedData
from moka.net import Net, build_net
from moka.report.records import IterationCompleted
from moka.schema import caffe_pb2, parse_text
from moka.solver.solver import Solver
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


AUGMENTED = """
transform_param {
  mirror: true mean_value: 104 mean_value: 117 mean_value: 123
  resize_param {
    prob: 1 resize_mode: WARP height: 32 width: 32 interp_mode: LINEAR interp_mode: AREA
    interp_mode: NEAREST interp_mode: CUBIC interp_mode: LANCZOS4
  }
  emit_constraint { emit_type: CENTER }
  distort_param {
    brightness_prob: 0.5 brightness_delta: 32 contrast_prob: 0.5 contrast_lower: 0.5
    contrast_upper: 1.5 hue_prob: 0.5 hue_delta: 18 saturation_prob: 0.5 saturation_lower: 0.5
    saturation_upper: 1.5 random_order_prob: 0
  }
  expand_param { prob: 0.5 max_expand_ratio: 4 }
}
annotated_data_param {
  batch_sampler { max_sample: 1 max_trials: 1 }
  batch_sampler {
    sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }
    sample_constraint { min_jaccard_overlap: 0.1 }
    max_sample: 1 max_trials: 50
  }
  batch_sampler {
    sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }
    sample_constraint { min_jaccard_overlap: 0.7 }
    max_sample: 1 max_trials: 50
  }
  batch_sampler {
    sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }
    sample_constraint { max_jaccard_overlap: 1 }
    max_sample: 1 max_trials: 50
  }
  label_map_file: "labelmap.prototxt"
}
"""


def test_boxes_frame_their_objects_through_all_of_ssds_steps(make: Maker) -> None:
    """Dark images with one bright rectangle each, in color images large enough to be resized."""
    rng = np.random.default_rng(0)
    records = []
    for _ in range(4):
        pixels = rng.integers(0, 40, (3, 120, 160)).astype(np.uint8)
        x, y = rng.integers(10, 60, 2)
        pixels[:, y : y + 50, x : x + 70] = 230
        box: Box = (3, 0, x / 160, y / 120, (x + 70) / 160, (y + 50) / 120, False)
        records.append(record(pixels, [box], encoded=True))
    fields = AUGMENTED.replace("height: 32 width: 32", "height: 150 width: 150").replace(
        "max_expand_ratio: 4", "max_expand_ratio: 2"
    ).replace("mean_value: 104 mean_value: 117 mean_value: 123", "")  # fmt: skip
    torch.manual_seed(3)
    net = make(records, fields, batch_size=32, phase=caffe_pb2.TRAIN)
    engine, seen = Layerwise(net), []
    for _ in range(3):
        engine.forward()
        for item, _, _, *corners, _ in net.blobs["label"].data[0, 0].tolist():
            bright = net.blobs["data"].data[int(item)].max(0)
            y, x = np.nonzero(bright > bright.max() / 2)
            found = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) / 150
            np.testing.assert_allclose(corners, found, atol=3 / 150)  # edges are smoothed
            seen.append(corners)
    assert len(seen) > 60
    assert len({tuple(np.round(corners, 4)) for corners in seen}) > 40
    net.close()


def source(path: Path, batch_size: int = 3) -> AnnotatedData:
    text = (
        'name: "data" type: "AnnotatedData" top: "data" top: "label"'
        f' data_param {{ source: "{path}" batch_size: {batch_size} }} {AUGMENTED}'
    )
    config = parse_text(text, caffe_pb2.LayerParameter)
    config.phase = caffe_pb2.TRAIN
    return AnnotatedData(config)


def test_augmented_batches_are_a_function_of_seed_and_place(tmp_path: Path) -> None:
    fill(tmp_path / "db", [record(PIXELS[k % 2], [A, B]) for k in range(7)])
    first = source(tmp_path / "db")
    for _ in range(4):
        first()
    resumed = source(tmp_path / "db")
    resumed.load_state(first.state())
    for _ in range(4):
        for a, b in zip(first(), resumed(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    batches = {first()[0].numpy().tobytes() for _ in range(14)}
    assert len(batches) == 14  # new numbers in each epoch
    for made in (first, resumed):
        made.close()


def test_the_numbers_do_not_depend_on_how_many_threads_make_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "db", [record(PIXELS[k % 2], [A]) for k in range(5)])
    runs = []
    for threads in (1, 3):
        monkeypatch.setattr("moka.data.batches.THREADS", threads)
        torch.manual_seed(9)
        made = source(tmp_path / "db")
        runs.append([torch.cat([t.ravel() for t in made()]) for _ in range(6)])
        made.close()
    for one, many in zip(*runs, strict=True):
        torch.testing.assert_close(one, many, rtol=0, atol=0)


SSD = """
layer {
  name: "data" type: "AnnotatedData" top: "data" top: "label"
  data_param { source: "boxes_lmdb" batch_size: 4 backend: LMDB }
  %s
}
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 5 pad: 2 stride: 4
                      weight_filler { type: "xavier" } }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer {
  name: "loc" type: "Convolution" bottom: "conv" top: "loc"
  convolution_param { num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } }
}
layer { name: "loc_p" type: "Permute" bottom: "loc" top: "loc_p"
        permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_f" type: "Flatten" bottom: "loc_p" top: "loc_f" }
layer {
  name: "conf" type: "Convolution" bottom: "conv" top: "conf"
  convolution_param { num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } }
}
layer { name: "conf_p" type: "Permute" bottom: "conf" top: "conf_p"
        permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_f" type: "Flatten" bottom: "conf_p" top: "conf_f" }
layer {
  name: "prior" type: "PriorBox" bottom: "conv" bottom: "data" top: "prior"
  prior_box_param { min_size: 8 max_size: 16 aspect_ratio: 2 flip: true variance: 0.1
                    variance: 0.1 variance: 0.2 variance: 0.2 }
}
layer {
  name: "loss" type: "MultiBoxLoss" bottom: "loc_f" bottom: "conf_f" bottom: "prior"
  bottom: "label" top: "loss" include { phase: TRAIN } propagate_down: true propagate_down: true
  propagate_down: false propagate_down: false
  loss_param { normalization: VALID }
  multibox_loss_param { num_classes: 4 overlap_threshold: 0.5 neg_pos_ratio: 3 neg_overlap: 0.5
                        mining_type: MAX_NEGATIVE }
}
"""


def test_a_detector_trains_and_goes_on_from_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    records = []
    for k in range(10):
        pixels = rng.integers(0, 100, (3, 60, 80)).astype(np.uint8)
        pixels[k % 3, 20:50, 20:60] = 255
        records.append(record(pixels, [(k % 3 + 1, 0, 0.25, 1 / 3, 0.75, 5 / 6, False)]))
    fill(Path("boxes_lmdb"), records)
    scaled = AUGMENTED.replace("mirror: true", "mirror: true scale: 0.01")
    Path("net.prototxt").write_text(SSD % scaled)
    text = (
        'net: "net.prototxt" base_lr: 0.003 lr_policy: "fixed" momentum: 0.9 max_iter: %d'
        ' snapshot: 10 snapshot_prefix: "%s" random_seed: 1 solver_mode: CPU'
    )
    whole = Solver(parse_text(text % (30, "whole"), caffe_pb2.SolverParameter))
    losses: list[float] = []
    whole.listeners.append(
        lambda r: losses.append(r.loss) if isinstance(r, IterationCompleted) else None
    )
    whole.solve()
    resumed = Solver(parse_text(text % (30, "resumed"), caffe_pb2.SolverParameter))
    resumed.restore("whole_iter_10.solverstate")
    resumed.solve()
    a, b = (Path(f"{name}_iter_30.caffemodel").read_bytes() for name in ("whole", "resumed"))
    assert a == b
    assert all(np.isfinite(losses))
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
