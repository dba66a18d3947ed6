from __future__ import annotations

from tests.caffe.model_libs.written import built, layers_of, on_images, shapes_of, weights_of

from caffe import params as P
from caffe.model_libs import InceptionTower, InceptionV3Body

# Of Keras' model without its end: weights of convolutions; biases, as many means and variances.
WEIGHTS, CHANNELS = 21_751_136, 17_216


def test_inception_v3() -> None:
    net = InceptionV3Body(on_images(299, 299), "data", output_pred=True)
    shapes = shapes_of(net)
    wanted = {
        "conv": (2, 32, 149, 149),
        "pool": (2, 64, 73, 73),
        "pool_1": (2, 192, 35, 35),
        "mixed/join": (2, 256, 35, 35),
        "mixed_2/join": (2, 288, 35, 35),
        "mixed_3/join": (2, 768, 17, 17),
        "mixed_7/join": (2, 768, 17, 17),
        "mixed_8/join": (2, 1280, 8, 8),
        "mixed_10/join": (2, 2048, 8, 8),
        "softmax_prob": (2, 1008),
    }
    assert {name: shapes[name] for name in wanted} == wanted
    layers = layers_of(net)
    kinds = {"Convolution": "", "BatchNorm": "_bn", "Bias": "_bias", "ReLU": "_relu"}
    convolutions = [each.name for each in layers.values() if each.type == "Convolution"]
    assert len(convolutions) == 94
    for kind, postfix in kinds.items():
        names = [each.name for each in layers.values() if each.type == kind]
        assert names == [f"{name}{postfix}" for name in convolutions]
    pools = [layers[f"mixed_{k}/tower_2/pool"].pooling_param.pool for k in (7, 9, 10)]
    assert pools == [P.Pooling.AVE, P.Pooling.AVE, P.Pooling.MAX]


def test_as_many_parameters_as_in_keras() -> None:
    net = InceptionV3Body(on_images(299, 299), "data")
    assert net.keys()[-1] == "mixed_10/join"
    weights = weights_of(built(net))
    convolutions = [shapes for name, shapes in weights.items() if f"{name}_bn" in weights]
    assert sum(o * i * h * w for ((o, i, h, w),) in convolutions) == WEIGHTS
    biases = [shapes for name, shapes in weights.items() if name.endswith("_bias")]
    assert sum(n for ((n,),) in biases) == CHANNELS


def test_the_towers_of_an_inception() -> None:
    layers = layers_of(InceptionV3Body(on_images(299, 299), "data", eps=0.5))
    joined = {name: list(layers[name].bottom) for name in layers if layers[name].type == "Concat"}
    assert joined["mixed_3/join"] == ["mixed_3/conv", "mixed_3/tower/conv_2", "mixed_3/pool"]
    assert joined["mixed_9/tower/mixed"] == [
        "mixed_9/tower/mixed/conv",
        "mixed_9/tower/mixed/conv_1",
    ]
    assert joined["mixed_9/join"] == [
        "mixed_9/conv",
        "mixed_9/tower/mixed",
        "mixed_9/tower_1/mixed",
        "mixed_9/tower_2/conv",
    ]
    row = layers["mixed_4/tower/conv_1"].convolution_param
    assert (row.kernel_h, row.kernel_w, row.pad_h, row.pad_w) == (1, 7, 0, 3)
    assert {e.batch_norm_param.eps for e in layers.values() if e.type == "BatchNorm"} == {0.5}


def test_a_tower() -> None:
    net = on_images(8, 8)
    given = [
        dict(name="pool", pool=P.Pooling.AVE, kernel_size=3, pad=1, stride=1),
        dict(name="conv", num_output=4, kernel_size=1, pad=0, stride=2),
    ]
    before = [dict(each) for each in given]
    top = InceptionTower(net, "data", "mixed/tower", given, eps=0.5)
    assert given == before
    assert top is net["mixed/tower/conv"]
    names = ["pool", "conv", "conv_bn", "conv_bias", "conv_relu"]
    assert net.keys() == ["data", *(f"mixed/tower/{name}" for name in names)]
    assert shapes_of(net)["mixed/tower/conv"] == (2, 4, 4, 4)
    assert layers_of(net)["mixed/tower/conv_bn"].batch_norm_param.eps == 0.5
