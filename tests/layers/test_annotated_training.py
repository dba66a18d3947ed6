"""AnnotatedData with all of SSD's augmentation, and a detector that trains on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.layers.annotated_records import PIXELS, A, B, Box, build, fill, record

from moka.engine.layerwise import Layerwise
from moka.layers.annotated import AnnotatedData
from moka.report.records import IterationCompleted
from moka.schema import caffe_pb2, parse_text
from moka.solver.solver import Solver

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


def test_boxes_frame_their_objects_through_all_of_ssds_steps(tmp_path: Path) -> None:
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
    net = build(tmp_path, records, fields, batch_size=32, phase=caffe_pb2.TRAIN)
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
