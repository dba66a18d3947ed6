from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import (
    BlobSpec,
    Layer,
    canonical_axis,
    not_negative,
    param,
    positive,
    shape_text,
)
from moka.layers.registry import Entry
from moka.schema import caffe_pb2, parse_text
from moka.types import Shape

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker


class Probe(Layer):
    """Reads fields of every kind; not registered."""

    kernel_size = param(positive)
    pad = param(not_negative, unset_is_none=True)
    pool = param()
    stride = param()
    kernel_h = param()
    shape = param(of="input_param")
    weight_filler = param(of="inner_product_param")
    num_output = param(positive, of="inner_product_param")

    entry = Entry("Probe", Layer, "pooling_param", 1, 1, False, False, ())

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        yield BlobSpec(x, caffe_pb2.FillerParameter(value=2))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.blobs[0]


def probe(text: str, *, phase: caffe_pb2.Phase = caffe_pb2.TEST) -> Probe:
    config = parse_text(text, caffe_pb2.LayerParameter)
    config.phase = phase
    return Probe(config, (2, 3))


def test_fields_that_are_not_set() -> None:
    made = probe("")
    assert made.kernel_size is None  # no default in the schema
    assert made.pad is None  # it has one, 0, but was not set
    assert made.pool == "MAX"  # the name of the default
    assert made.stride == 1
    assert made.shape == ()


def test_fields_that_are_set() -> None:
    made = probe(
        "pooling_param { kernel_size: 3 pad: 0 pool: AVE }"
        " input_param { shape { dim: 4 } shape { dim: 5 } }"
        ' inner_product_param { num_output: 7 weight_filler { type: "xavier" } }'
    )
    assert (made.kernel_size, made.pad, made.pool, made.num_output) == (3, 0, "AVE", 7)
    assert [list(s.dim) for s in made.shape] == [[4], [5]]
    assert made.weight_filler.type == "xavier"


def test_a_check_is_said_in_words() -> None:
    with pytest.raises(NetError, match="kernel_size must be > 0, got 0"):
        probe("pooling_param { kernel_size: 0 }")


def test_fields_are_found_in_base_classes_too() -> None:
    class Derived(Probe):
        stride_h = param()

    names = [field.name for field in Derived.fields]
    assert names[:2] == ["kernel_size", "pad"]
    assert names[-1] == "stride_h"


def test_a_required_field() -> None:
    class Strict(Probe):
        kernel_w = param(required=True)

    config = caffe_pb2.LayerParameter()
    with pytest.raises(NetError, match="kernel_w is missing"):
        Strict(config, (2, 3))


@pytest.mark.parametrize(("phase", "training"), [(caffe_pb2.TRAIN, True), (caffe_pb2.TEST, False)])
def test_the_phase_decides_on_training(phase: caffe_pb2.Phase, training: bool) -> None:
    assert probe("", phase=phase).training == training


def test_parameters_are_filled_and_seen_in_the_layers_shape() -> None:
    made = probe("")
    assert made.blob_shapes == [(2, 3)]
    assert made(torch.ones(2, 3)).tolist() == [[2] * 3] * 2
    made.share_weight(0, torch.nn.Parameter(torch.arange(6.0).reshape(3, 2)))
    assert made.blobs[0].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("axis", "shape", "extra", "expected"),
    [(0, (2, 3), 0, 0), (-1, (2, 3), 0, 1), (-2, (2, 3), 0, 0), (2, (2, 3), 1, 2), (0, (), 1, 0)],
)
def test_canonical_axis(axis: int, shape: Shape, extra: int, expected: int) -> None:
    assert canonical_axis(axis, shape, extra=extra) == expected


@pytest.mark.parametrize(("axis", "shape"), [(2, (2, 3)), (-3, (2, 3)), (0, ())])
def test_an_axis_that_does_not_exist(axis: int, shape: Shape) -> None:
    with pytest.raises(NetError, match=f"axis {axis} does not exist in a blob of shape"):
        canonical_axis(axis, shape)


@pytest.mark.parametrize(
    ("shape", "text"), [((64, 1, 28, 28), "64 1 28 28 (50176)"), ((), "(1)"), ((5,), "5 (5)")]
)
def test_shape_text(shape: Shape, text: str) -> None:
    assert shape_text(shape) == text


GIVEN = 'type: "InnerProduct" inner_product_param { num_output: 2 bias_term: %s } %s'
WEIGHT = "blobs { shape { dim: 2 dim: 1 } data: 3 data: 4 }"
LEGACY = "blobs { num: 1 channels: 1 height: 2 width: 1 data: 3 data: 4 }"


@pytest.mark.parametrize("blob", [WEIGHT, LEGACY])
def test_blobs_in_the_message_are_where_it_starts(make_layer: LayerMaker, blob: str) -> None:
    layer = make_layer(GIVEN % ("false", blob), (1, 1))
    assert layer.weights[0].tolist() == [[3], [4]]


@pytest.mark.parametrize(
    ("bias", "blobs", "message"),
    [
        ("true", WEIGHT, "Incorrect number of weight blobs: 1 are given, the layer has 2"),
        (
            "false",
            "blobs { shape { dim: 1 dim: 2 } data: 3 data: 4 }",
            r"given for parameter 0 has shape 1 2 \(2\), the layer's is 2 1 \(2\)",
        ),
    ],
)
def test_blobs_in_the_message_that_do_not_fit(
    make_layer: LayerMaker, bias: str, blobs: str, message: str
) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(GIVEN % (bias, blobs), (1, 1))
