from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import Entry
from moka.schema import caffe_pb2, parse_text
from moka.types import Shape

if TYPE_CHECKING:
    from tests.conftest import NetMaker
    from tests.layers.conftest import LayerMaker


class Probe(Layer):
    """Reads fields of every kind; not registered."""

    kernel_size: int | None = option(positive)
    pad: int | None = option(not_negative, unset_is_none=True)
    pool: str = option()
    stride: int = option()
    kernel_h: int = option()
    shape: tuple[caffe_pb2.BlobShape, ...] = option(of="input_param")
    weight_filler: caffe_pb2.FillerParameter = option(of="inner_product_param")
    num_output: int | None = option(positive, of="inner_product_param")

    entry = Entry("Probe", message="pooling_param", bottoms=1, tops=1)

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        yield BlobSpec(x, caffe_pb2.FillerParameter(value=2))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.blobs[0]


def probe(text: str, *, phase: caffe_pb2.Phase = caffe_pb2.TEST) -> Probe:
    config = parse_text(text, caffe_pb2.LayerParameter)
    config.phase = phase
    config.top.append("top")
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
        stride_h: int = option()

    names = [field.name for field in Derived.options]
    assert names[:2] == ["kernel_size", "pad"]
    assert names[-1] == "stride_h"


def test_a_required_field() -> None:
    class Strict(Probe):
        kernel_w: int = option(required=True)

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


def test_parameters_have_names(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "InnerProduct" inner_product_param { num_output: 2 }', (1, 3))
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert layer.weights[0] is layer.weight
    assert layer.weights[1] is layer.bias
    norm = make_layer('type: "BatchNorm"', (1, 3))
    assert list(norm.state_dict()) == ["mean", "variance", "scale_factor"]


def test_names_of_parameters_that_a_layer_does_not_name() -> None:
    class Three(Probe):
        def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
            zero = caffe_pb2.FillerParameter()
            yield from (BlobSpec((k,), zero) for k in (1, 2, 3))

    config = caffe_pb2.LayerParameter(top=["y"])
    assert list(Three(config, (2, 3)).state_dict()) == ["weight", "bias", "blob2"]


def test_a_detached_parameter_gets_no_gradient_here(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "InnerProduct" inner_product_param { num_output: 2 }', (1, 3))
    layer.detach_weight(0)
    layer(torch.ones(1, 3)).sum().backward()
    weight, bias = layer.weights
    assert weight.grad is None
    assert bias.grad is not None


def test_another_number_of_tops_than_the_layer_makes() -> None:
    with pytest.raises(NetError, match="makes 1 top with these options, got 2"):
        Probe(caffe_pb2.LayerParameter(top=["a", "b"]), (2, 3))


def test_the_precision_of_a_type_that_does_not_say() -> None:
    class Product(Probe):
        def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
            return 1

    class View(Probe):
        entry = Entry("View", bottoms=1, tops=1, views=True)

    class Said(Product):
        entry = Entry("Said", bottoms=1, tops=1, bfloat16="float32")

    found = [cls.default_precision() for cls in (Probe, Product, View, Said)]
    assert found == ["float32", "multiplies", "keeps", "float32"]


INPUT_FOR_FORKS = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }
"""


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ('"Eltwise" loss_param { normalization: PRE_FIXED }', r"\{ normalization: PRE_FIXED \}"),
        ('"ReLU" transform_param { crop_h: 3 }', r"transform_param \{ crop_h \}"),
        ('"Convolution" convolution_param { num_output: 1 kernel_size: 1 binary: 1 }', "binary"),
    ],
)
def test_options_of_forks_that_a_layer_does_not_have(
    make_net: NetMaker, layer: str, said: str
) -> None:
    top = 'top: "y"'
    text = INPUT_FOR_FORKS + f'layer {{ name: "a" type: {layer} bottom: "x" {top} }}'
    with pytest.raises(NetError, match=said + ".* is an option of a fork that this layer does not"):
        make_net(text.replace('"Eltwise"', '"Eltwise" bottom: "x"'))


@pytest.mark.parametrize(
    "options", ["engine: MKL2017", "engine: CUDNN", "relu: false", "kernel_depth: 0"]
)
def test_options_of_forks_that_change_nothing(make_net: NetMaker, options: str) -> None:
    param = f"convolution_param {{ num_output: 1 kernel_size: 1 {options} }}"
    make_net(
        INPUT_FOR_FORKS + f'layer {{ name: "a" type: "Convolution" bottom: "x" top: "y" {param} }}'
    )
