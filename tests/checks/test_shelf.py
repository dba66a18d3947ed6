from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from tests.checks.shelf import CROP, DEPLOY, PARAMETERS, TRAIN, only, save, write

import moka
from moka.errors import UsageError
from moka.models import zoo_folder
from moka.net import build_net

pytestmark = pytest.mark.usefixtures("folder")


def test_a_net_and_its_weights() -> None:
    write("zoo/deploy.prototxt", DEPLOY)
    save("zoo/deploy.prototxt", "zoo/small.caffemodel")
    found = only("zoo")
    assert found.loads
    assert found.obstacle is None
    assert (found.file, found.weights) == ("zoo/deploy.prototxt", "zoo/small.caffemodel")
    assert (found.kind, found.name, found.phases) == ("net", "small", ("TEST",))
    assert (found.layers, found.parameters) == (5, PARAMETERS)
    assert found.multiply_adds == 2 * (36 * 4 * 27 + 5 * 4 * 36)
    assert dict(found.inputs) == {"data": (2, 3, 8, 8)}
    assert found.forks == {"SSD": ("Permute",)}
    assert [found.types[t].fork for t in ("ReLU", "Permute")] == ["BVLC Caffe", "SSD"]
    assert found.fit == (("conv", "ip"), (), ())
    assert (found.engine, found.by_themselves) == ("onnxruntime", ())
    assert found.notes == ()
    assert json.loads(json.dumps(found.as_json()))["fit"]["matching"] == ["conv", "ip"]


def test_hdf5_weights_and_a_net_without() -> None:
    write("zoo/a.prototxt", DEPLOY)
    write("zoo/alone.prototxt", DEPLOY.replace('"conv"', '"c1"').replace('"ip"', '"i1"'))
    save("zoo/a.prototxt", "zoo/a_iter_5.caffemodel.h5")
    with_weights, without = moka.check("zoo")
    assert (with_weights.weights, with_weights.loads) == ("zoo/a_iter_5.caffemodel.h5", True)
    assert with_weights.fit == (("conv", "ip"), (), ())
    assert (without.weights, without.fit, without.loads) == (None, None, True)


def test_no_memory_for_parameters() -> None:
    """A net with 580 GB of parameters is checked."""
    write("big.prototxt", DEPLOY.replace("num_output: 5", "num_output: 1000000000"))
    assert only("big.prototxt").parameters == 4 * 27 + 4 + 1_000_000_000 * (4 * 36 + 1)


def test_the_log_stays_empty(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write("zoo/deploy.prototxt", DEPLOY)
    save("zoo/deploy.prototxt", "zoo/small.caffemodel")
    caplog.clear()
    moka.check("zoo")
    assert caplog.records == []


def test_a_fault_in_the_other_phase() -> None:
    write("n.prototxt", TRAIN % CROP + 'layer { name: "t" type: "Slice" bottom: "ip" top: "s1"'
          ' top: "s2" include { phase: TRAIN } }')  # fmt: skip
    found = only("n.prototxt")
    assert not found.loads
    assert 'layer "t" (Slice)' in (found.obstacle or "")
    assert found.parameters == PARAMETERS  # of the phase that can be built


def test_unknown_types() -> None:
    write(
        "n.prototxt",
        DEPLOY.replace("Permute", "MalisLoss").replace("InnerProduct", "Nope")
        + 'layer { name: "x" type: "Relu" bottom: "conv" top: "z" }',
    )
    found = only("n.prototxt")
    assert found.obstacle == (
        "n.prototxt: Unknown layer types: MalisLoss (of the OpenCL branch), Nope, Relu."
        ' Did you mean "ReLU"?'
    )
    assert not found.types["Relu"].is_known
    assert found.types["Convolution"].is_known


def test_a_single_unknown_type() -> None:
    write("n.prototxt", DEPLOY.replace("Permute", "Nope"))
    assert only("n.prototxt").obstacle == (
        "n.prototxt: Unknown layer type: Nope. Write it as a Python layer, or leave it out."
    )


def test_unknown_types_say_more_than_their_fields() -> None:
    write(
        "n.prototxt",
        DEPLOY.replace("Permute", "Nope").replace("num_output: 5", "num_output: 5 no_such: 3")
        + 'layer { name: "x" type: "Nada" bottom: "conv" top: "z" nada_param { a: 1 } }',
    )
    found = only("n.prototxt")
    assert found.obstacle == "n.prototxt: Unknown layer types: Nada, Nope."
    assert found.types["Nada"].count == 1
    assert found.notes == ()


def test_weights_that_do_not_fit() -> None:
    write("n.prototxt", DEPLOY)
    save("n.prototxt", "n.caffemodel")
    write("n.prototxt", DEPLOY.replace("num_output: 5", "num_output: 6"))
    found = only(".")
    assert not found.loads
    assert "n.caffemodel: Cannot copy param 0 weights from layer 'ip'" in (found.obstacle or "")
    assert found.parameters is not None


def test_layers_that_are_missing_or_left_over() -> None:
    write("n.prototxt", DEPLOY)
    save("n.prototxt", "n.caffemodel")
    write("n.prototxt", DEPLOY.replace('"ip"', '"other"'))
    found = only(".")
    assert found.loads
    assert found.fit == (("conv",), ("other",), ("ip",))
    assert found.notes == (
        "1 layer without weights in the file: other.",
        "1 layer of the file left over: ip.",
    )
    write("n.prototxt", DEPLOY.replace('"ip"', '"other"').replace('"conv"', '"c"'))
    assert "no parameters for any layer of this net" in (only(".").obstacle or "")


def test_another_models_weights_beside_a_net() -> None:
    """They are nobody's, unless the user names both."""
    write("n.prototxt", DEPLOY.replace('"ip"', '"other"').replace('"conv"', '"c"'))
    save("n.prototxt", "stranger.caffemodel")
    write("n.prototxt", DEPLOY)
    net, weights = sorted(moka.check("."), key=lambda found: found.kind)
    assert (net.loads, net.weights, net.notes) == (True, None, ())
    assert (weights.kind, weights.loads) == ("weights", True)
    assert "No net beside it has its layers" in weights.notes[0]
    (both,) = moka.check("n.prototxt", "stranger.caffemodel")
    assert "no parameters for any layer of this net" in (both.obstacle or "")


def test_weights_without_a_net() -> None:
    write("n.prototxt", DEPLOY)
    Path("w").mkdir()
    save("n.prototxt", "w/n.caffemodel")
    Path("n.prototxt").unlink()
    found = only("w")
    assert (found.kind, found.loads, found.parameters) == ("weights", True, PARAMETERS)
    write("w/cut.caffemodel", Path("w/n.caffemodel").read_bytes()[:-9])
    cut, whole = moka.check("w")
    assert whole.loads
    assert "truncated" in (cut.obstacle or "")


def test_weights_in_a_folder_below() -> None:
    write("zoo/deploy.prototxt", DEPLOY)
    Path("zoo/snapshots").mkdir()
    for n in (5, 10):
        save("zoo/deploy.prototxt", f"zoo/snapshots/s_iter_{n}.caffemodel")
    assert [(f.file, f.loads) for f in moka.check("zoo")] == [("zoo/deploy.prototxt", True)] * 2


def test_files_named_alone() -> None:
    for name in ("a", "b"):
        write(f"zoo/{name}.prototxt", DEPLOY)
        save(f"zoo/{name}.prototxt", f"zoo/{name}.caffemodel")
    write("elsewhere/n.prototxt", DEPLOY)
    pair = ("zoo/a.prototxt", "zoo/a.caffemodel")
    for named in (["zoo/a.prototxt"], ["zoo/a.caffemodel"], list(pair)):
        found = only(*named)
        assert (found.file, found.weights) == pair
    found = only("elsewhere/n.prototxt", "zoo/b.caffemodel")
    assert (found.file, found.weights) == ("elsewhere/n.prototxt", "zoo/b.caffemodel")
    with pytest.raises(UsageError, match="gone"):
        moka.check("gone")


def test_a_shelf_with_much_wrong_on_it() -> None:
    """Nothing ends the walk, and each file gets its sentence."""
    for name, data in {
        "a_page.prototxt": "<!DOCTYPE html>",
        "b_pointer.caffemodel": "version https://git-lfs.github.com/spec/v1",
        "c_open.prototxt": 'layer { name: "x',
        "d_empty.prototxt": "",
        "e_field.prototxt": 'layer { name: "x" tipe: "ReLU" }',
        "f_python.prototxt": 'layer { name: "x" type: "Python" top: "x"'
        ' python_param { module: "no_such_module" layer: "L" } }',
        "g_solver.prototxt": 'net: "z_good.prototxt" base_lr: 0.1 max_iter: 5 lr_policy: "fixed"',
        "h_solver.prototxt": 'net: "gone.prototxt" base_lr: 0.1 lr_policy: "nope"',
        "i_labels.prototxt": 'item { name: "cat" label: 1 }',
        "j_crash.prototxt": 'layer { name: "x" type: "Python" top: "x"'
        ' python_param { module: "crashing" layer: "L" } }',
        "z_good.prototxt": DEPLOY,
    }.items():
        write(f"zoo/{name}", data)
    write("crashing.py", "raise ZeroDivisionError('in a module of the user')")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(".")
        found = {Path(f.file).name[0]: f for f in moka.check("zoo")}
    assert "".join(found) == "abcdefghijz"
    says = {letter: f.obstacle or " ".join(f.notes) for letter, f in found.items()}
    assert "a web page" in says["a"]
    assert says["b"].endswith("a Git LFS pointer, not the file itself. Fetch it: git lfs pull.")
    assert "no closing quote" in says["c"]
    assert "no layers" in says["d"]
    assert 'Did you mean "type"?' in says["e"]
    assert "no_such_module" in says["f"]
    assert says["g"] == "Its net is z_good.prototxt."
    assert "nope" in says["h"]
    assert says["i"] == "This is a label map."
    assert "ZeroDivisionError: in a module of the user" in says["j"]
    assert "".join(letter for letter, f in found.items() if f.loads) == "giz"


def test_unknown_fields_as_warnings() -> None:
    write("n.prototxt", DEPLOY.replace("num_output: 5", "num_output: 5 no_such_thing: 3"))
    assert "no_such_thing" in (only("n.prototxt").obstacle or "")
    found = only("n.prototxt", unknown_fields="warn")
    assert found.loads
    assert "no_such_thing" in found.notes[0]


def test_a_layer_of_the_user() -> None:
    """It gets real arrays, and its shapes go on through the net."""
    write(
        "users_layer.py",
        "import caffe\nclass L(caffe.Layer):\n"
        "    def setup(self, bottom, top): assert float(bottom[0].data.sum()) == 0\n"
        "    def reshape(self, bottom, top): top[0].reshape(2, 3, 8, 8)\n",
    )
    text = DEPLOY.replace('bottom: "data"', 'bottom: "mine"').replace(
        'layer { name: "conv"',
        'layer { name: "l" type: "Python" bottom: "data" top: "mine"'
        ' python_param { module: "users_layer" layer: "L" } } layer { name: "conv"',
    )
    write("n.prototxt", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(".")
        found = only("n.prototxt")
    assert found.loads, found.obstacle
    assert found.parameters == PARAMETERS


def test_a_net_of_2014() -> None:
    write(
        "v1.prototxt",
        'input: "x" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8'
        ' layers { name: "ip" type: INNER_PRODUCT bottom: "x" top: "y" blobs_lr: 1'
        " inner_product_param { num_output: 2 } }",
    )
    found = only("v1.prototxt")
    assert (found.parameters, dict(found.inputs)) == (2 * 192 + 2, {"x": (1, 3, 8, 8)})
    assert "InnerProduct" in found.types


def test_the_same_as_loading() -> None:
    """What is said of a net is true of it when it is built."""
    write("n.prototxt", DEPLOY)
    found, net = only("n.prototxt"), build_net("n.prototxt")
    assert found.parameters == sum(p.numel() for p in net.parameters())
    assert {k: tuple(net.blobs[k].shape) for k in net.graph.inputs} == dict(found.inputs)
    assert net(torch.zeros(2, 3, 8, 8))["ip"].shape == (2, 5)


@pytest.mark.parametrize("name", ["bvlc_googlenet", "mobilenet_v2"])
def test_models_of_the_zoo(name: str) -> None:
    """Nets to train and to use, and solvers; without ImageNet and without weights."""
    found = moka.check(zoo_folder() / name)
    assert {each.kind for each in found} == {"net", "solver"}
    assert all(each.loads for each in found)
    sizes = [each.inputs["data"][1:] for each in found if each.kind == "net"]
    assert sizes == [(3, 224, 224)] * 2


def test_a_data_layer_of_a_fork_says_what_to_put_in_its_place() -> None:
    write("n.prototxt", 'layer { name: "d" type: "LaneData" top: "data" top: "boxes" }')
    obstacle = only("n.prototxt").obstacle
    assert obstacle is not None
    assert obstacle.startswith(
        "n.prototxt: Unknown layer type: LaneData (of YOLO on Caffe). Put an AnnotatedData layer"
    )
