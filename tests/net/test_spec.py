from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from moka.net import Net, build_net
from moka.net.spec import (
    Function,
    NetSpec,
    assign_proto,
    param_name_dict,
    to_proto,
)
from moka.net.spec import layers as L
from moka.net.spec import params as P
from moka.schema import caffe_pb2, parse_text


def net_of(text: str) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter)


def input_top() -> Any:
    return L.Input(shape=dict(dim=[1, 3]))


DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }'


def test_names_fields_and_enums() -> None:
    n = NetSpec()
    n.data = L.Input(shape=[dict(dim=[1, 3, 8, 8])])
    n.conv = L.Convolution(
        n.data, num_output=2, kernel_size=[3, 5], pad=1, weight_filler=dict(type="xavier")
    )
    n.pool = L.Pooling(n.conv, pool=P.Pooling.AVE, global_pooling=True)
    assert n.to_proto() == net_of("""
        layer { name: "data" type: "Input" top: "data"
          input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
          convolution_param { num_output: 2 kernel_size: 3 kernel_size: 5 pad: 1
            weight_filler { type: "xavier" } } }
        layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
          pooling_param { pool: AVE global_pooling: true } }
    """)


def test_in_place_layers_keep_their_name_and_make_their_bottom() -> None:
    n = NetSpec()
    n.data = input_top()
    n.act = L.ReLU(n.data, in_place=True)
    n.again = L.TanH(n.act, in_place=True)
    n.out = L.Split(n.again, n.data)
    assert n.to_proto() == net_of(
        DATA
        + """
        layer { name: "act" type: "ReLU" bottom: "data" top: "data" }
        layer { name: "again" type: "TanH" bottom: "data" top: "data" }
        layer { name: "out" type: "Split" bottom: "data" bottom: "data" top: "out" }
    """
    )


def test_automatic_names_count_by_type() -> None:
    x, label = L.DummyData(shape=[dict(dim=[2, 3]), dict(dim=[2])], ntop=2)
    hidden = L.InnerProduct(x, num_output=3)
    act = L.ReLU(hidden, in_place=True)
    loss = L.EuclideanLoss(L.InnerProduct(act, num_output=3), x)
    made = [(layer.name, *layer.top) for layer in to_proto(loss, label, act).layer]
    assert made == [
        ("DummyData1", "DummyData1", "DummyData2"),
        ("InnerProduct1", "InnerProduct1"),
        ("ReLU1", "InnerProduct1"),
        ("InnerProduct2", "InnerProduct2"),
        ("EuclideanLoss1", "EuclideanLoss1"),
    ]
    assert [layer.name for layer in act.to_proto().layer] == [m[0] for m in made[:3]]


def test_an_in_place_layer_of_several_tops_takes_one_automatic_name() -> None:
    x, y = input_top(), input_top()
    a, _ = L.Filter(x, y, ntop=2, in_place=True)
    assert [(m.name, *m.top) for m in to_proto(a, L.Filter(x, y)).layer][2:] == [
        ("Filter1", "Input1", "Input2"),
        ("Filter2", "Filter2"),
    ]


def test_every_layer_stands_before_its_first_reader_and_once() -> None:
    n = NetSpec()
    data = input_top()
    hidden = L.InnerProduct(data, num_output=2)
    n.out = L.TanH(hidden)
    n.hidden = hidden
    n.beside = L.Sigmoid(data)
    assert [layer.name for layer in n.to_proto().layer] == ["Input1", "hidden", "out", "beside"]


def test_layers_without_tops_are_kept_by_assigning_them() -> None:
    n = NetSpec()
    n.data = input_top()
    silence = L.Silence(n.data, ntop=0)
    assert isinstance(silence, Function)
    assert len(n.to_proto().layer) == 1
    n.quiet = silence
    assert n.to_proto() == net_of(DATA + 'layer { name: "quiet" type: "Silence" bottom: "data" }')
    assert to_proto(silence).layer[1].name == "Silence1"


def test_second_top_alone_is_named() -> None:
    n = NetSpec()
    _, n.label = L.DummyData(shape=[dict(dim=[1]), dict(dim=[1])], ntop=2)
    (layer,) = n.to_proto().layer
    assert (layer.name, list(layer.top)) == ("DummyData1", ["DummyData1", "label"])


def test_name_names_the_layer_only() -> None:
    n = NetSpec()
    n.data = L.Input(name="in", shape=dict(dim=[1]))
    (layer,) = n.to_proto().layer
    assert (layer.name, list(layer.top)) == ("in", ["data"])


def test_a_function_assigned_names_the_layer() -> None:
    n = NetSpec()
    n.layer = L.Input(shape=dict(dim=[1])).fn
    (layer,) = n.to_proto().layer
    assert (layer.name, list(layer.top)) == ("layer", ["Input1"])


def test_fields_of_the_layer_itself() -> None:
    top = L.InnerProduct(
        input_top(),
        num_output=2,
        param=[dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, name="b")],
        include=dict(phase=caffe_pb2.TRAIN, stage=["a", "b"]),
        exclude=[dict(min_level=3), dict(phase=caffe_pb2.TEST)],
        loss_weight=0.5,
        propagate_down=[False],
        transform_param=dict(scale=2),
        inner_product_param=dict(axis=2),
    )
    assert to_proto(top).layer[1] == parse_text(
        """name: "InnerProduct1" type: "InnerProduct" bottom: "Input1" top: "InnerProduct1"
        param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 name: "b" }
        include { phase: TRAIN stage: "a" stage: "b" }
        exclude { min_level: 3 } exclude { phase: TEST }
        loss_weight: 0.5 propagate_down: false transform_param { scale: 2 }
        inner_product_param { num_output: 2 axis: 2 }""",
        caffe_pb2.LayerParameter,
    )


def test_types_whose_message_is_named_otherwise() -> None:
    x = input_top()
    made = to_proto(
        L.Python(x, module="m", layer="C", param_str="{}"),
        L.Deconvolution(x, num_output=2),
        L.Swish(x, beta=2),
    )
    _, python, deconvolution, swish = made.layer
    assert python.python_param.layer == "C"
    assert deconvolution.convolution_param.num_output == 2
    assert swish.swish_param.beta == 2


def test_a_type_that_is_not_known_has_the_fields_of_any_layer() -> None:
    (layer,) = to_proto(L.MyOwn(python_param=dict(module="m"))).layer
    assert (layer.type, layer.python_param.module) == ("MyOwn", "m")


def test_a_message_is_as_good_as_a_dict() -> None:
    filler = caffe_pb2.FillerParameter(type="msra", variance_norm=caffe_pb2.FillerParameter.FAN_OUT)
    _, layer = to_proto(L.InnerProduct(input_top(), num_output=1, weight_filler=filler)).layer
    assert layer.inner_product_param.weight_filler == filler


def test_an_empty_dict_sets_nothing() -> None:
    _, layer = to_proto(L.ReLU(input_top(), relu_param={})).layer
    assert not layer.HasField("relu_param")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L.ReLU(3), r"^ReLU input 0 is not a Top \(type is <class 'int'>\)$"),
        (
            lambda: L.Eltwise(input_top(), "x"),
            r"^Eltwise input 1 is not a Top \(type is <class 'str'>\)$",
        ),
        (
            lambda: L.Silence(L.Input(shape=dict(dim=[1]), ntop=2), ntop=0),
            r"^Silence input 0 is not a Top \(type is <class 'tuple'>\)$",
        ),
        (
            lambda: setattr(NetSpec(), "data", L.Input(ntop=2)),
            r"^data is not a Top \(type is <class 'tuple'>\)\. Name .*: n\.data0, n\.data1 = \.",
        ),
        (
            lambda: to_proto(L.Convolution(weight_filler="xavier")),
            r"^FillerParameter is a message: give a dict, not 'xavier'\.\n",
        ),
    ],
)
def test_what_is_no_top_or_no_message(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("kernal_size", "kernel_size"),
        ("num_outputs", "num_output"),
        ("inclde", "include"),
        ("inplace", "in_place"),
    ],
)
def test_a_field_that_does_not_exist_fails_at_the_call(name: str, near: str) -> None:
    wanted = rf'^Convolution has no field "{name}"\. Did you mean "{near}"\?$'
    with pytest.raises(AttributeError, match=wanted):
        L.Convolution(**{name: 3})


def test_a_field_that_a_later_change_does_not_find() -> None:
    n = NetSpec()
    n.conv = L.Convolution()
    n.update("conv", dict(kernal_size=3))
    with pytest.raises(AttributeError, match='has no field "kernal_size"') as caught:
        n.to_proto()
    assert caught.value.__notes__ == ['In layer "conv" (Convolution).']


def test_a_field_of_a_message_that_does_not_exist() -> None:
    top = L.Convolution(weight_filler=dict(kind="xavier"))
    wanted = r'^FillerParameter has no field "kind"\. Known: type, value, '
    with pytest.raises(AttributeError, match=wanted) as caught:
        to_proto(top)
    assert caught.value.__notes__ == ['In layer "Convolution1" (Convolution).']


@pytest.mark.parametrize(
    ("name", "near"),
    [("Convulution", "Convolution"), ("Relu", "ReLU"), ("SoftmaxLoss", "Softmax")],
)
def test_a_layer_type_that_does_not_exist(name: str, near: str) -> None:
    with pytest.raises(AttributeError, match=rf'no layer type "{name}"\. Did you mean "{near}'):
        getattr(L, name)


def test_a_layer_type_of_another_caffe() -> None:
    (layer,) = to_proto(L.Frobnicate(name="x", loss_weight=2)).layer
    assert (layer.name, layer.type, *layer.loss_weight) == ("x", "Frobnicate", 2.0)
    wanted = 'has no field "kernel_size": Moka does not have this layer type. Write it as a Python'
    with pytest.raises(AttributeError, match=f"^Frobnicate {wanted}"):
        L.Frobnicate(kernel_size=3)


def test_a_value_of_another_type_names_its_layer() -> None:
    n = NetSpec()
    n.conv = L.Convolution(num_output="many")
    with pytest.raises(TypeError) as caught:
        n.to_proto()
    assert caught.value.__notes__ == ['In layer "conv" (Convolution).']


def test_items_are_attributes() -> None:
    n = NetSpec()
    n["a/b"] = input_top()
    n.c = n["a/b"]
    n["d"] = L.ReLU(n.c)
    assert list(n.tops) == ["a/b", "c", "d"]
    assert n.d is n["d"] is n.tops["d"]
    del n["a/b"], n.d
    assert list(n.tops) == ["c"]
    with pytest.raises(KeyError):
        n.d  # noqa: B018
    with pytest.raises(KeyError):
        n["d"]


def test_names_tops_and_later_changes() -> None:
    """As the SSD fork has them."""
    n = NetSpec()
    n.data = input_top()
    n.conv = L.Convolution(n.data, num_output=4, kernel_size=3)
    n.silence = L.Silence(n.conv, ntop=0)
    assert n.keys() == ["data", "conv", "silence"]
    assert n.vals() == [n.data, n.conv, n.silence]
    n.update("conv", dict(num_output=5, param=[dict(lr_mult=0)]))
    n.update("silence", dict(name="quiet"))
    net = n.to_proto()
    assert net.layer[1].convolution_param.num_output == 5
    assert net.layer[1].convolution_param.kernel_size == [3]
    assert net.layer[1].param[0].lr_mult == 0
    assert net.layer[2].name == "quiet"


def test_values_may_be_numpys() -> None:
    top = L.Convolution(
        L.Input(shape=dict(dim=np.array([1, 3, 8, 8]))),
        num_output=np.int64(4),
        kernel_size=np.array([3, 2]),
        pad=np.int32(1),
        weight_filler=dict(type="gaussian", std=np.float32(0.5)),
    )
    data, conv = to_proto(top).layer
    assert data.input_param.shape[0].dim == [1, 3, 8, 8]
    own = conv.convolution_param
    assert own.num_output == 4
    assert [*own.kernel_size, *own.pad] == [3, 2, 1]
    assert own.weight_filler.std == 0.5


def test_what_python_itself_asks_for_is_no_layer_and_no_top() -> None:
    assert not hasattr(L, "__wrapped__")
    n = NetSpec()
    n.data = input_top()
    assert copy.copy(n).to_proto() == n.to_proto()
    assert L.ReLU.__name__ == "ReLU"


def test_constants() -> None:
    assert (P.Pooling.MAX, P.Eltwise.MAX, P.Data.LMDB, P.Loss.NONE) == (0, 2, 1, 3)
    with pytest.raises(
        AttributeError, match=r'no message PolingParameter\. Did you mean "Pooling"'
    ):
        P.Poling  # noqa: B018


def test_param_name_dict() -> None:
    names = param_name_dict()
    assert (names["ReLU"], names["Permute"]) == ("relu", "permute")
    assert names["Convolution"] == "convolution"
    assert names["LRN"] == "lrn"
    assert names["HDF5Data"] == "hdf5_data"
    assert names["Transformation"] == "transform"
    assert "ParamSpec" not in names


def test_listings() -> None:
    assert "Convolution" in dir(L)
    assert "Pooling" in dir(P)


def test_assign_proto_adds_to_what_is_there() -> None:
    solver = caffe_pb2.SolverParameter()
    assign_proto(solver, "test_iter", 5)
    assign_proto(solver, "test_iter", (6, 7))
    assign_proto(solver, "test_state", {"stage": "a"})
    assign_proto(solver, "test_state", [{"level": 1}, {"phase": caffe_pb2.TEST}])
    assign_proto(solver, "train_state", {"level": 2})
    assign_proto(solver, "train_state", {"stage": ["b"]})
    assign_proto(solver, "stepvalue", [])
    assert solver == parse_text(
        """test_iter: [5, 6, 7] test_state { stage: "a" } test_state { level: 1 }
        test_state { phase: TEST } train_state { level: 2 stage: "b" }""",
        caffe_pb2.SolverParameter,
    )
    with pytest.raises(AttributeError, match=r'no field "base_rl"\. Did you mean "base_lr"'):
        assign_proto(solver, "base_rl", 1)


def test_nets_may_be_deeper_than_pythons_stack() -> None:
    top = input_top()
    for _ in range(3000):
        top = L.ReLU(top)
    assert to_proto(top).layer[-1].name == "ReLU3000"


def test_a_net_runs() -> None:
    n = NetSpec()
    n.data = input_top()
    n.sum = L.Reduction(n.data)
    net: Net = build_net(n.to_proto())
    assert net.graph.outputs == ("sum",)
