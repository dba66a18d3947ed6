from __future__ import annotations

from math import prod

import pytest
from tests.caffe.model_libs.written import built, layer, layers_of, on_images, shapes_of, weights_of

import caffe
from caffe import layers as L
from caffe import params as P
from caffe.model_libs import ConvBNLayer, CreateMultiBoxHead, VGGNetBody

# SSD 300's maps, as ssd_pascal.py describes them: name, size, min_size, aspect ratios, step.
MAPS = (
    ("conv4_3", 38, 30, [2], 8),
    ("fc7", 19, 60, [2, 3], 16),
    ("conv6_2", 10, 111, [2, 3], 32),
    ("conv7_2", 5, 162, [2, 3], 64),
    ("conv8_2", 3, 213, [2], 100),
    ("conv9_2", 1, 264, [2], 300),
)
HEAD = "mbox_loc mbox_loc_perm mbox_loc_flat mbox_conf mbox_conf_perm mbox_conf_flat mbox_priorbox"
NORM = """
name: "conv4_3_norm" type: "Normalize" bottom: "conv4_3" top: "conv4_3_norm"
norm_param { across_spatial: false scale_filler { type: "constant" value: 20 }
  channel_shared: false }
"""
LOC = """
name: "conv4_3_norm_mbox_loc" type: "Convolution" bottom: "conv4_3_norm"
top: "conv4_3_norm_mbox_loc" param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
convolution_param { num_output: 16 kernel_size: 3 pad: 1 stride: 1
  weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0 } }
"""
PERM = """
name: "conv4_3_norm_mbox_loc_perm" type: "Permute" bottom: "conv4_3_norm_mbox_loc"
top: "conv4_3_norm_mbox_loc_perm" permute_param { order: 0 order: 2 order: 3 order: 1 }
"""
FLAT = """
name: "conv4_3_norm_mbox_loc_flat" type: "Flatten" bottom: "conv4_3_norm_mbox_loc_perm"
top: "conv4_3_norm_mbox_loc_flat" flatten_param { axis: 1 }
"""
PRIOR = """
name: "fc7_mbox_priorbox" type: "PriorBox" bottom: "fc7" bottom: "data" top: "fc7_mbox_priorbox"
prior_box_param { min_size: 60 max_size: 111 aspect_ratio: 2 aspect_ratio: 3 flip: true clip: false
  variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 step: 16 offset: 0.5 }
"""


def ssd_300() -> caffe.NetSpec:
    net = VGGNetBody(
        on_images(300, 300), "data", fully_conv=True, reduced=True, dilated=True, dropout=False
    )
    for k, channels, pad, stride in (
        (6, 256, 1, 2),
        (7, 128, 1, 2),
        (8, 128, 0, 1),
        (9, 128, 0, 1),
    ):
        ConvBNLayer(net, net.keys()[-1], f"conv{k}_1", False, True, channels, 1, 0, 1)
        wide = max(256, 2 * channels)
        ConvBNLayer(net, f"conv{k}_1", f"conv{k}_2", False, True, wide, 3, pad, stride)
    sizes = [small for _, _, small, _, _ in MAPS]
    CreateMultiBoxHead(
        net,
        num_classes=21,
        from_layers=[name for name, *_ in MAPS],
        normalizations=[20, -1, -1, -1, -1, -1],
        use_batchnorm=False,
        min_sizes=sizes,
        max_sizes=[*sizes[1:], 315],
        aspect_ratios=[ratios for *_, ratios, _ in MAPS],
        steps=[step for *_, step in MAPS],
        prior_variance=[0.1, 0.1, 0.2, 0.2],
        clip=False,
        kernel_size=3,
        pad=1,
    )
    return net


def test_layers_of_ssd_300() -> None:
    layers = layers_of(ssd_300())
    sources = ["conv4_3_norm", *(name for name, *_ in MAPS[1:])]
    first = list(layers).index("conv4_3_norm")
    heads = [f"{source}_{part}" for source in sources for part in HEAD.split()]
    assert list(layers)[first:] == [
        "conv4_3_norm",
        *heads,
        "mbox_loc",
        "mbox_conf",
        "mbox_priorbox",
    ]
    assert first + len(heads) + 4 == len(layers) == 98
    for text in (NORM, LOC, PERM, FLAT, PRIOR):
        want = layer(text)
        assert layers[want.name] == want
    axes = {name: layers[name].concat_param.axis for name in list(layers)[-3:]}
    assert axes == {"mbox_loc": 1, "mbox_conf": 1, "mbox_priorbox": 2}
    assert list(layers["mbox_conf"].bottom) == [f"{s}_mbox_conf_flat" for s in sources]


def test_shapes_of_ssd_300() -> None:
    net = ssd_300()
    shapes = shapes_of(net)
    assert {name: shapes[name][2:] for name, *_ in MAPS} == {n: (s, s) for n, s, *_ in MAPS}
    assert shapes["mbox_loc"] == (2, 4 * 8732)
    assert shapes["mbox_conf"] == (2, 21 * 8732)
    assert shapes["mbox_priorbox"] == (1, 2, 4 * 8732)
    parameters = [shape for layer in weights_of(built(net)).values() for shape in layer]
    assert sum(map(prod, parameters)) == 26_285_486


def head(**options: object) -> tuple[caffe.NetSpec, int]:
    """A head with 3 classes on maps of 64 and of 16 pixels, and how many prior boxes it has."""
    net = on_images(32, 32)
    net.a = L.Convolution(net.data, num_output=8, kernel_size=4, stride=4)
    net.b = L.Pooling(net.a, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    given = dict(num_classes=3, from_layers=["a", "b"], min_sizes=[8, [16]], use_batchnorm=False)
    tops = CreateMultiBoxHead(net, **(given | options))  # type: ignore[arg-type]
    names = ["mbox_loc", "mbox_conf", "mbox_priorbox", "mbox_objectness"][: len(tops)]
    assert tops == [net[name] for name in names]
    shapes = shapes_of(net)
    batch, scores = shapes["mbox_conf"]
    assert batch == 2
    boxes = scores // 3
    own = 1 if options.get("share_location", True) else 3
    assert shapes["mbox_loc"] == (2, 4 * boxes * own)
    assert shapes["mbox_priorbox"] == (1, 2, 4 * boxes)
    if len(tops) == 4:
        assert shapes["mbox_objectness"] == (2, 2 * boxes)
    return net, boxes


@pytest.mark.parametrize(
    ("options", "cells"),
    [
        ({}, (1, 1)),
        (dict(min_sizes=[[8, 12], [16]]), (2, 1)),
        (dict(max_sizes=[12, []]), (2, 1)),
        (dict(aspect_ratios=[2, [2, 3]]), (3, 5)),
        (dict(aspect_ratios=[[2], [2, 3]], flip=False), (2, 3)),
        (dict(aspect_ratios=[[], [2]], max_sizes=[[12], [20]]), (2, 4)),
        (dict(min_sizes=[[8, 9], [16, 18]], max_sizes=[[9, 10], []], aspect_ratios=[2, 2]), (8, 6)),
        (dict(share_location=False), (1, 1)),
    ],
)
def test_boxes_of_a_cell(options: dict[str, object], cells: tuple[int, int]) -> None:
    assert head(**options)[1] == 64 * cells[0] + 16 * cells[1]


def test_objectness() -> None:
    net, _ = head(use_objectness=True)
    assert net.keys()[-1] == "mbox_objectness"
    assert "a_mbox_objectness_flat" in net.keys()  # noqa: SIM118, NetSpec has no `in`


def test_normalized_maps_and_layers_between() -> None:
    net, _ = head(normalizations=[20, -1], inter_layer_depth=[6, 0])
    assert net.keys()[3:7] == [
        "a_norm",
        "a_norm_inter",
        "a_norm_inter_relu",
        "a_norm_inter_mbox_loc",
    ]
    layers = layers_of(net)
    assert layers["a_norm"].norm_param.scale_filler.value == 20
    assert list(layers["a_norm_inter_mbox_priorbox"].bottom) == ["a_norm_inter", "data"]
    assert shapes_of(net)["a_norm_inter"] == (2, 6, 8, 8)
    assert list(layers["b_mbox_loc"].bottom) == ["b"]


def test_batch_norm() -> None:
    net, _ = head(use_batchnorm=True, lr_mult=3, eps=0.5)
    layers = layers_of(net)
    assert layers["a_mbox_conf_bn"].batch_norm_param.eps == 0.5
    assert [p.lr_mult for p in layers["a_mbox_conf_scale"].param] == [3, 3]
    net, _ = head(lr_mult=3)
    assert [p.lr_mult for p in layers_of(net)["b_mbox_loc"].param] == [3, 6]
    assert not any(each.type == "BatchNorm" for each in layers_of(net).values())


def test_convolutions_that_predict() -> None:
    net, _ = head(kernel_size=3, pad=1, conf_postfix="_mine", loc_postfix="_new")
    layers = layers_of(net)
    for name in ("a_mbox_conf_mine", "b_mbox_loc_new"):
        param = layers[name].convolution_param
        assert (list(param.kernel_size), list(param.pad)) == ([3], [1])
        assert {f"{name}_perm", f"{name}_flat"} < layers.keys()
    assert list(layers_of(head()[0])["a_mbox_loc"].convolution_param.kernel_size) == [1]


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, "min_size: 8 variance: 0.1 clip: true offset: 0.5"),
        (
            dict(steps=[4, 0], clip=False, offset=0.25, prior_variance=[0.1, 0.1, 0.2, 0.2]),
            "min_size: 8 variance: [0.1, 0.1, 0.2, 0.2] clip: false offset: 0.25 step: 4",
        ),
        (
            dict(img_height=64, img_width=64),
            "min_size: 8 variance: 0.1 clip: true offset: 0.5 img_size: 64",
        ),
        (
            dict(img_height=64, img_width=48, aspect_ratios=[2, 2], flip=False, max_sizes=[12, 20]),
            "min_size: 8 max_size: 12 aspect_ratio: 2 flip: false variance: 0.1 clip: true"
            " offset: 0.5 img_h: 64 img_w: 48",
        ),
        (dict(img_height=64), "min_size: 8 variance: 0.1 clip: true offset: 0.5"),
    ],
)
def test_prior_boxes(options: dict[str, object], fields: str) -> None:
    layers = layers_of(head(**options)[0])
    want = layer(f'name: "p" type: "PriorBox" prior_box_param {{ {fields} }}')
    assert layers["a_mbox_priorbox"].prior_box_param == want.prior_box_param
    assert not layers["b_mbox_priorbox"].prior_box_param.HasField("step")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_classes=0), "num_classes must be 1 or more, got 0"),
        (dict(min_sizes=[]), "min_sizes has 0 items for 2 from_layers"),
        (dict(max_sizes=[9]), "max_sizes has 1 items for 2 from_layers"),
        (dict(aspect_ratios=[2]), "aspect_ratios has 1 items"),
        (dict(normalizations=[2, 3, 4]), "normalizations has 3 items"),
        (dict(steps=[2]), "steps has 1 items"),
        (dict(inter_layer_depth=[2]), "inter_layer_depth has 1 items"),
        (dict(max_sizes=[[9, 10], []]), r"max_sizes has \[9, 10\] where min_sizes has \[8\]"),
    ],
)
def test_faults(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        head(**options)


def test_names_that_are_not_there() -> None:
    with pytest.raises(KeyError, match="image"):
        head(data_layer="image")
    with pytest.raises(TypeError, match="min_size"):
        head(min_size=[8, 16])
