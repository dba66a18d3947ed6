"""Nets from files, and their parameters to and from files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import caffe
from moka.errors import NetError, WeightsError
from moka.schema import caffe_pb2, parse_text
from moka.types import Array

if TYPE_CHECKING:
    from tests.caffe.conftest import NetOpener


def same_parameters(a: caffe.Net, b: caffe.Net) -> bool:
    return all(
        np.array_equal(x.data, y.data)
        for name in a.params
        for x, y in zip(a.params[name], b.params[name], strict=True)
    )


def test_save_and_copy_from(open_net: NetOpener) -> None:
    one, other = open_net(), open_net()
    assert not same_parameters(one, other)
    one.save("w.caffemodel")
    other.copy_from("w.caffemodel")
    assert same_parameters(one, other)
    assert same_parameters(one, open_net(weights="w.caffemodel"))
    one.params["ip1"][0].data[...] = 7
    assert not same_parameters(one, other)


def test_save_hdf5_and_load_it(open_net: NetOpener) -> None:
    one, other = open_net(), open_net()
    one.save_hdf5("w.h5")
    other.load_hdf5("w.h5")
    assert same_parameters(one, other)
    assert same_parameters(one, open_net(weights="w.h5"))
    with pytest.raises(RuntimeError, match=r"Could not open file gone\.h5"):
        other.load_hdf5("gone.h5")


def test_share_with(open_net: NetOpener, x: Array) -> None:
    one, other = open_net(), open_net()
    other.share_with(one)
    assert same_parameters(one, other)
    one.params["ip1"][0].data[...] = 0.5
    assert (other.params["ip1"][0].data == 0.5).all()
    np.testing.assert_array_equal(one.forward(x=x)["y"], other.forward(x=x)["y"])


@pytest.mark.parametrize("weights", [None, "gone.caffemodel"])
def test_files_that_are_missing(weights: str | None) -> None:
    file = "net.prototxt" if weights else "gone.prototxt"
    with pytest.raises(RuntimeError, match=r"Could not open file gone\."):
        caffe.Net(file, caffe.TEST, weights=weights)


def test_names_that_are_near() -> None:
    Path("snap_iter_2.solverstate").touch()
    with pytest.raises(RuntimeError, match=r'\.h5\. Did you mean "snap_iter_2\.solverstate"\?$'):
        caffe.SGDSolver("solver.prototxt").restore("snap_iter_2.solverstate.h5")
    Path("models").mkdir()
    Path("models/deploy.prototxt").touch()
    with pytest.raises(
        RuntimeError, match=r'depoly\.prototxt\. Did you mean "deploy\.prototxt"\?$'
    ):
        caffe.Net("models/depoly.prototxt", caffe.TEST)
    with pytest.raises(RuntimeError, match=r"Could not open file nowhere/x\.prototxt$"):
        caffe.Net("nowhere/x.prototxt", caffe.TEST)


def test_a_name_as_shells_know_it() -> None:
    with pytest.raises(
        RuntimeError, match=r"file ~/net\.prototxt\. Only a shell knows ~: write /\S+/net\.prototxt"
    ):
        caffe.Net("~/net.prototxt", caffe.TEST)


def test_a_null_character_in_the_name_of_a_file() -> None:
    with pytest.raises(RuntimeError, match=r"Could not open file a\\0b"):
        caffe.Net("a\0b", caffe.TEST)


def test_weights_that_do_not_fit(open_net: NetOpener) -> None:
    open_net().save("w.caffemodel")
    text = Path("net.prototxt").read_text()
    Path("net.prototxt").write_text(text.replace("num_output: 2", "num_output: 3"))
    with pytest.raises(WeightsError, match=r"w\.caffemodel: .*'ip2'.*2 4 \(8\).*3 4 \(12\)"):
        open_net(weights="w.caffemodel")


def test_phases_levels_and_stages() -> None:
    rules = ("phase: TRAIN", "phase: TEST", 'stage: "more"', "min_level: 2")
    layers = "\n".join(
        f'layer {{ name: "l{i}" type: "Silence" bottom: "x" include {{ {rule} }} }}'
        for i, rule in enumerate(rules)
    )
    text = Path("net.prototxt").read_text()
    Path("net.prototxt").write_text(text + layers)

    def chosen(*args: Any, **more: Any) -> list[str]:
        net = caffe.Net("net.prototxt", *args, **more)
        return [name for name in net.layer_dict if name.startswith("l")]

    assert chosen(caffe.TRAIN) == ["l0"]
    assert chosen(caffe.TEST) == ["l1"]
    assert chosen(caffe.TEST, stages=["more"]) == ["l1", "l2"]
    assert chosen(caffe.TEST, level=2) == ["l1", "l3"]
    Path("net.prototxt").write_text("state { level: 2 }" + text + layers)
    assert chosen(caffe.TEST) == ["l1"]  # the level of pycaffe's caller, 0, replaces the file's


def test_layer_type_list() -> None:
    types = caffe.layer_type_list()
    assert {"Convolution", "SoftmaxWithLoss", "Data"} <= set(types)
    assert list(types) == sorted(types)


def test_a_net_with_a_fault() -> None:
    Path("bad.prototxt").write_text('layer { name: "a" type: "ReLU" bottom: "b" top: "c" }')
    with pytest.raises(NetError, match=r"bad\.prototxt: Unknown bottom blob 'b'"):
        caffe.Net("bad.prototxt", caffe.TEST)


def test_set_random_seed(open_net: NetOpener) -> None:
    caffe.set_random_seed(5)
    one = open_net()
    caffe.set_random_seed(5)
    other = open_net()
    third = open_net()
    assert same_parameters(one, other)
    assert not same_parameters(one, third)


def test_the_oldest_form_of_the_constructor(open_net: NetOpener, tmp_path: Path) -> None:
    new = open_net()
    weights = tmp_path / "w.caffemodel"
    new.save(str(weights))
    old = caffe.Net("net.prototxt", str(weights), caffe.TEST)  # type: ignore[arg-type]
    for name, blobs in new.params.items():
        for a, b in zip(blobs, old.params[name], strict=True):
            np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize("kind", [Path, os.fsencode, np.str_])
def test_names_of_files_of_any_kind(open_net: NetOpener, kind: Callable[[str], Any]) -> None:
    one = open_net()
    one.save("w.caffemodel")
    net = caffe.Net(kind("net.prototxt"), caffe.TEST, weights=kind("w.caffemodel"))
    assert same_parameters(one, net)
    other = open_net()
    other.copy_from(kind("w.caffemodel"))
    assert same_parameters(one, other)
    assert same_parameters(one, caffe.Net(kind("net.prototxt"), kind("w.caffemodel"), caffe.TEST))


def test_a_message_in_place_of_a_file() -> None:
    message = parse_text(Path("net.prototxt").read_text(), caffe_pb2.NetParameter)
    assert caffe.Net(message, caffe.TEST).name == "small"
    with pytest.raises(NetError, match=r"^\(given message\): the phase is"):
        caffe.Net(message, 7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a file is given by its name, not as NetSpec"):
        caffe.Net(caffe.NetSpec(), caffe.TEST)


def test_arguments_in_the_place_of_others(open_net: NetOpener) -> None:
    open_net().save("w.caffemodel")
    with pytest.raises(TypeError, match=r"needs a phase, too: give caffe\.Net"):
        caffe.Net("net.prototxt", "w.caffemodel")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"give weights by name, weights='w\.caffemodel'"):
        caffe.Net("net.prototxt", caffe.TEST, "w.caffemodel")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="its name is wanted, and this is a text"):
        caffe.Net(Path("net.prototxt").read_text(), caffe.TEST)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("set_phase_test", r"caffe\.Net\(file, weights, caffe\.TEST\)\.$"),
        ("set_mode_gpu", r"since 2015\. Call caffe\.set_mode_gpu\(\)\.$"),
        ("set_raw_scale", r"prepared by a caffe\.io\.Transformer"),
    ],
)
def test_calls_of_2014(net: caffe.Net, name: str, instead: str) -> None:
    assert not hasattr(net, name)
    with pytest.raises(AttributeError, match=instead):
        getattr(net, name)
    with pytest.raises(AttributeError, match=r"^'Net' object has no attribute 'nothing'$"):
        _ = net.nothing  # type: ignore[attr-defined]


def test_a_layer_that_is_not_there(net: caffe.Net) -> None:
    with pytest.raises(NetError, match="no layer is named"):
        net.forward(start="nowhere")
