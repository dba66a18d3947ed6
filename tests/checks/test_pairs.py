from __future__ import annotations

import pytest

from moka.checks.pairs import own_name, pair


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("x/deploy.prototxt", ()),
        ("train_val.prototxt", ()),
        ("VGG_ILSVRC_16_layers_deploy.prototxt", ("vgg", "ilsvrc", "16", "layers")),
        ("vgg-ilsvrc-16-layers.caffemodel", ("vgg", "ilsvrc", "16", "layers")),
        ("lenet_train_test.prototxt", ("lenet",)),
        ("lenet_iter_10000.caffemodel", ("lenet",)),
        ("lenet_iter_10000.caffemodel.h5", ("lenet",)),
        ("deploy.prototxt.txt", ()),
        ("det1.prototxt", ("det1",)),
    ],
)
def test_own_names(file: str, words: tuple[str, ...]) -> None:
    assert own_name(file) == words


def pairs(nets: dict[str, str], weights: dict[str, str]) -> dict[str, list[str]]:
    """Each file with its layers' names, as one string of letters."""
    layers = nets | weights
    return pair(list(nets), list(weights), lambda file: set(layers[file]))


def test_one_net_and_one_file() -> None:
    for net, file in (("deploy", "res10"), ("vgg", "vgg_16_iter_5"), ("vgg", "res10")):
        assert pairs({f"{net}.prototxt": "abc"}, {f"{file}.caffemodel": "abx"}) == {
            f"{file}.caffemodel": [f"{net}.prototxt"]
        }


def test_weights_of_one_name_are_the_nets_whatever_they_hold() -> None:
    for layers in ("xy", ""):  # of a broken file nobody knows them
        assert pairs({"vgg.prototxt": "ab"}, {"vgg_iter_9.caffemodel": layers}) == {
            "vgg_iter_9.caffemodel": ["vgg.prototxt"]
        }
    assert pairs({"deploy.prototxt": "ab"}, {"res10.caffemodel": ""}) == {
        "res10.caffemodel": ["deploy.prototxt"]
    }


@pytest.mark.parametrize(("net", "file", "layers"),
                         [("deploy", "res10", "xy"), ("lenet", "res10", "axyz")])  # fmt: skip
def test_the_only_weights_may_be_another_models(net: str, file: str, layers: str) -> None:
    assert pairs({f"{net}.prototxt": "ab"}, {f"{file}.caffemodel": layers}) == {
        f"{file}.caffemodel": []
    }


def test_equal_names() -> None:
    """Weights belong to the nets for training and for use, whatever other nets hold."""
    assert pairs(
        {"det1.prototxt": "ab", "det2.prototxt": "ab", "det2_train.prototxt": "abc"},
        {"det1.caffemodel": "ab", "det2_iter_5.caffemodel": "ab", "det2_iter_9.caffemodel": "ab"},
    ) == {
        "det1.caffemodel": ["det1.prototxt"],
        "det2_iter_5.caffemodel": ["det2.prototxt", "det2_train.prototxt"],
        "det2_iter_9.caffemodel": ["det2.prototxt", "det2_train.prototxt"],
    }


def test_nets_without_a_name() -> None:
    assert pairs(
        {"deploy.prototxt": "abc", "train_val.prototxt": "abcd", "other.prototxt": "xyz"},
        {"googlenet.caffemodel": "abcd"},
    ) == {"googlenet.caffemodel": ["deploy.prototxt", "train_val.prototxt"]}


def test_names_that_begin_alike() -> None:
    assert pairs(
        {"res_50.prototxt": "abc", "res_101.prototxt": "abcd", "vgg.prototxt": "abc"},
        {"res_50_best.caffemodel": "abc"},
    ) == {"res_50_best.caffemodel": ["res_50.prototxt"]}


def test_by_layers_alone() -> None:
    nets = {"small.prototxt": "abc", "big.prototxt": "abcdef", "third.prototxt": "uvw"}
    assert pairs(nets, {"x.caffemodel": "abc"})["x.caffemodel"] == ["small.prototxt"]
    assert pairs(nets, {"x.caffemodel": "abcdef"})["x.caffemodel"] == ["big.prototxt"]
    assert pairs(nets, {"x.caffemodel": "pq"})["x.caffemodel"] == []
    assert pairs(nets, {"broken.caffemodel": ""})["broken.caffemodel"] == []
