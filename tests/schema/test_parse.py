"""Text is read as protobuf reads it, in any encoding; faults are placed and explained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from moka.byte_text import to_bytes, to_text
from moka.errors import SchemaError
from moka.schema import caffe_pb2, parse_text, unknown_fields_are

ROOT = Path(__file__).parents[2]
GBK = "卷积".encode("gbk")


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter)


@pytest.mark.parametrize("folder", ["models", "examples", "tests"])
def test_files_are_read_as_protobuf_reads_them(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.prototxt"))
    assert files
    for file in files:
        kind: Any = caffe_pb2.SolverParameter if "solver" in file.name else caffe_pb2.NetParameter
        try:
            expected = text_format.Parse(file.read_text(encoding="utf-8"), kind())
        except text_format.ParseError:
            continue
        assert parse_text(file.read_text(encoding="utf-8"), kind) == expected, file


@pytest.mark.parametrize(
    "text",
    [
        'name: "a" "b"\n\'c\'',
        "layer { loss_weight: 1 loss_weight: -.5e1f loss_weight: inf loss_weight: -2 }",
        "layer { loss_weight: [1, 2.5], loss_weight: [] };",
        "layer < phase: TEST > layer: { phase: 0 }",
        "input_dim: 0x10 input_dim: 010 input_dim: -1 input_dim: 0",
        "force_backward: t debug_info: 0",
        "layer [{ name: 'a' }, < name: 'b' >]",
        "layer { include { } }",
        r'layer { python_param { param_str: "{\'a\': 1}\n\x41" } }',
        "layers { blobs { num: 1 data: [1, nan, 3e39] } }",
    ],
)
def test_forms_of_values(text: str) -> None:
    read, expected = net(text), text_format.Parse(text, caffe_pb2.NetParameter())
    assert read.SerializeToString() == expected.SerializeToString()


@pytest.mark.parametrize(
    ("text", "place", "fact"),
    [
        ("input_dim: 1.0", "1:12", 'Expected integer, got: "1.0"'),
        ("input_dim: 3000000000", "1:12", r"Integer out of range \(3000000000\)"),
        ("input_dim: 3x3", "1:12", 'Expected integer, got: "3x3"'),
        ("layer { loss_weight: high }", "1:22", 'Expected a number, got: "high"'),
        ("layer { loss_weight: [1 2] }", "1:25", 'Expected ",", found "2"'),
        ("name 'a'", "1:6", """Expected ":", found 'a'"""),
        ("name: 'a", "1:7", "The string 'a has no closing quote"),
        ("layer: 3", "1:8", 'Expected "{", found "3"'),
        ("layer { name: 'a' ) }", "1:19", r'Expected the name of a field, found "\)"'),
        ("layer {\n", "1:7", "Expected the name of a field, found the end of the text"),
        ("layer { phase: 7 }", "1:16", "has no value with number 7. Known: TRAIN = 0, TEST = 1"),
        ("force_backward: 'yes'", "1:17", "Write force_backward: true or force_backward: false"),
        (r'name: "D:\images\" force_backward: true', "1:7", r'Write "D:/images/" or "D:\\\\images'),
    ],
)
def test_faults(text: str, place: str, fact: str) -> None:
    with pytest.raises(SchemaError, match=fact) as caught:
        net(text)
    assert f":{place}: Error parsing text-format caffe.NetParameter: " in str(caught.value)


def test_strings_in_any_encoding() -> None:
    text = to_text(b'name: "' + GBK + b'" input: "\xc3\xa9" input: "\\276\\355\\273\\375"')
    read = net(text)
    assert to_bytes(read.name) == GBK
    assert read.input[0] == "é"
    assert read.input[1] == read.name  # octal escapes of the same bytes


def test_a_stray_byte_changes_nothing_else() -> None:
    assert net(to_text(b'# caf\xe9\nname: "') + 'é"').name == "é"


# --- what forks' parsers take


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("lr_policy: poly type: SGD", 'lr_policy: "poly" type: "SGD"'),
        (
            "net: models/a-1/train_val.prototxt\nsnapshot_prefix: ./out/x_",
            'net: "models/a-1/train_val.prototxt" snapshot_prefix: "./out/x_"',
        ),
        ("stepvalue: [10, 20]", "stepvalue: 10 stepvalue: 20"),
        ("device_id: [2, 3]", "device_id: 2"),
        ("device_id: 1 device_id: 0", "device_id: 1"),
        ("snapshot_include_solver: false base_lr: 1", "base_lr: 1"),
        ("stagelr: [0.1, 0.01] stageiter: [5, 9] larc: true", None),
        ('eval_type: "detection" ap_version: "11point"', None),
    ],
)
def test_solvers_of_forks(text: str, plain: str | None) -> None:
    read = parse_text(text, caffe_pb2.SolverParameter)
    if plain:
        assert read == parse_text(plain, caffe_pb2.SolverParameter)
    else:
        assert read.ListFields()


SSD_DATA = """
layer {
  name: "data" type: "AnnotatedData" top: "data" top: "label" include { phase: TRAIN }
  transform_param {
    mirror: true mean_value: 104 mean_value: 117 mean_value: 123
    resize_param { prob: 1 resize_mode: WARP height: 300 width: 300 interp_mode: LINEAR
      interp_mode: AREA interp_mode: NEAREST interp_mode: CUBIC interp_mode: LANCZOS4 }
    emit_constraint { emit_type: CENTER }
    distort_param { brightness_prob: 0.5 brightness_delta: 32 hue_prob: 0.5 hue_delta: 18 }
    expand_param { prob: 0.5 max_expand_ratio: 4 }
  }
  data_param { source: "VOC0712/lmdb" batch_size: 32 backend: LMDB }
  annotated_data_param {
    batch_sampler { max_sample: 1 max_trials: 1 }
    batch_sampler {
      sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }
      sample_constraint { min_jaccard_overlap: 0.1 } max_sample: 1 max_trials: 50
    }
    label_map_file: "labelmap_voc.prototxt"
  }
}
layer {
  name: "mbox_loss" type: "MultiBoxLoss" bottom: "loc" bottom: "conf" bottom: "p" bottom: "label"
  top: "mbox_loss" propagate_down: true propagate_down: true propagate_down: false
  loss_param { normalization: VALID }
  multibox_loss_param {
    loc_loss_type: SMOOTH_L1 conf_loss_type: SOFTMAX loc_weight: 1 num_classes: 21
    share_location: true match_type: PER_PREDICTION overlap_threshold: 0.5
    use_prior_for_matching: true background_label_id: 0 use_difficult_gt: true neg_pos_ratio: 3
    neg_overlap: 0.5 code_type: CENTER_SIZE ignore_cross_boundary_bbox: false
    mining_type: MAX_NEGATIVE
  }
}
"""


@pytest.mark.parametrize(
    "text",
    [
        "layer { include { phase: RUN } }",
        "layer { loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 128 } }",
        "layer { convolution_param { engine: MKLDNN kernel_shape { dim: [3, 3, 3] } } }",
        "layer { convolution_param { kernel_depth: 3 hole: 2 fusion_type: SUM_FUSION } }",
        "layer { batch_norm_param { scale_bias: true scale_filler { } bias_filler { } } }",
        "layer { dropout_param { scale_train: false } pooling_param { ceil_mode: false } }",
        "layer { transform_param { resize_param { height: 9 } resize_param { } } }",
        "layers { type: ROI_POOLING roi_pooling_param { pooled_h: 7 } }",
        "multinode { model_parallel { anything: [1, 'x'] < > } } compile_net_state { x: -3 }",
        "layer { mil_data_param { unheard_of: OF } }",
        "layer { concat_param { engine: MKL2017 } eltwise_param { engine: MKL2017 } }",
        SSD_DATA,
    ],
)
def test_nets_of_forks(text: str) -> None:
    assert net(text).ListFields()


def test_an_engine_of_another_program(caplog: pytest.LogCaptureFixture) -> None:
    read = net("layer { convolution_param { engine: SPATIAL pad: 1 } }")
    assert read == net("layer { convolution_param { pad: 1 } }")
    assert "has no value named SPATIAL: skipped" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "layer { foo: 3 name: 'a' }",
        "layer { foo { bar: [1, 2] baz < x: 'y' > } name: 'a' }",
        "layer { foo: [{ a: 1 }, { b: 2 }]; name: 'a' }",
        "layer { name: 'a' foo: -1.5e3, }",
        "layer { name: 'a' pooling_param { pool: MEDIAN } }",
    ],
)
def test_unknown_fields_can_be_skipped(text: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SchemaError):
        net(text)
    read = parse_text(text, caffe_pb2.NetParameter, "n.prototxt", unknown_fields="warn")
    assert read.layer[0].name == "a"
    (line,) = caplog.messages
    assert line.startswith("n.prototxt:1:")
    assert line.endswith(": skipped.")
    with unknown_fields_are("warn"):
        assert net(text) == read
    with pytest.raises(SchemaError):
        net(text)


def test_what_is_skipped_has_to_end() -> None:
    with pytest.raises(SchemaError, match="found the end of the text"):
        parse_text("foo { a: 1", caffe_pb2.NetParameter, unknown_fields="warn")
