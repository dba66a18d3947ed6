from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

import moka
from moka.checks.finding import Finding
from moka.errors import UsageError
from moka.models import zoo_folder
from moka.net import build_net
from moka.weights import save_hdf5

DEPLOY = """
name: "small"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "perm" type: "Permute" bottom: "conv" top: "perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "ip" type: "InnerProduct" bottom: "perm" top: "ip"
  inner_product_param { num_output: 5 } }
"""
TRAIN = """
name: "small"
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "not_here_lmdb" batch_size: 7 } %s }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "acc" type: "Accuracy" bottom: "ip" bottom: "label" top: "acc"
  include { phase: TEST } }
"""
CROP = "transform_param { crop_size: 8 mean_value: 1 mean_value: 2 mean_value: 3 }"
PARAMETERS = 4 * 27 + 4 + 5 * 4 * 36 + 5


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, data: str | bytes) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(data.encode() if isinstance(data, str) else data)


def save(net: str, weights: str) -> None:
    made = moka.load(net)
    if weights.endswith(".h5"):
        save_hdf5(made, weights)
    else:
        moka.save_weights(made, weights)


def only(*paths: str, **more: Any) -> Finding:
    (found,) = moka.check(*paths, **more)
    return found


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
    assert found.engine == "autograd"
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


@pytest.mark.parametrize(
    ("options", "image", "told"),
    [
        (CROP, (7, 3, 8, 8), ()),
        ("transform_param { crop_size: 10 force_gray: true }", (7, 1, 10, 10), ()),
        (
            "transform_param { crop_size: 10 }",
            (7, 3, 10, 10),
            ("Its images are taken to be 3 x 10 x 10.",),
        ),
        (
            "",
            (7, 3, 224, 224),
            ("Nothing tells the size of its images: the numbers are those for 3 x 224 x 224.",),
        ),
    ],
)
def test_data_that_is_not_there(
    options: str, image: tuple[int, ...], told: tuple[str, ...]
) -> None:
    write("train_val.prototxt", TRAIN % options)
    found = only("train_val.prototxt")
    assert found.loads
    assert found.phases == ("TEST", "TRAIN")
    assert dict(found.inputs) == {"data": image, "label": (7,)}
    assert found.notes[0] == (
        'Data is missing: not_here_lmdb: layer "data" (Data): No such file or directory.'
    )
    assert found.notes[1:] == told


def test_the_weights_tell_the_size_of_images() -> None:
    """As of MNIST's: one channel, 28 x 28, which the text does not say."""
    write(
        "lenet.prototxt",
        DEPLOY.replace("dim: 2 dim: 3 dim: 8 dim: 8", "dim: 1 dim: 1 dim: 28 dim: 28"),
    )
    save("lenet.prototxt", "lenet.caffemodel")
    write("lenet_train.prototxt", TRAIN % "")
    train = next(f for f in moka.check(".") if f.file.endswith("train.prototxt"))
    assert train.inputs["data"] == (7, 1, 28, 28)
    assert train.fit == (("conv", "ip"), (), ())


@pytest.mark.parametrize("named", [".", "lenet_train.prototxt"])
def test_a_net_beside_tells_the_size_of_images(named: str) -> None:
    size = "dim: 1 dim: 1 dim: 28 dim: 28"
    write("lenet.prototxt", DEPLOY.replace("dim: 2 dim: 3 dim: 8 dim: 8", size))
    write("vgg.prototxt", DEPLOY)
    write("lenet_train.prototxt", TRAIN % "")
    train = next(f for f in moka.check(named) if f.file.endswith("train.prototxt"))
    assert train.inputs["data"] == (7, 1, 28, 28)
    assert train.notes[1:] == ("Its images are taken to be 1 x 28 x 28.",)


HDF5 = """
layer { name: "d" type: "HDF5Data" top: "x" top: "y"
  hdf5_data_param { source: "gone.txt" batch_size: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 3 } }
%s
"""
LOSS = 'layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "%s" top: "l" }'


def test_labels_of_any_shape_may_be_missing() -> None:
    write("n.prototxt", HDF5 % (LOSS % "y"))
    found = only("n.prototxt")
    assert found.loads
    assert found.inputs["y"] == (2, 3)
    assert "gone.txt" in found.notes[0]
    assert found.notes[-1] == "As the layers that read it ask for: y is taken to be 2 x 3."


def test_nobody_knows_the_shapes() -> None:
    """No data makes a row of 4 numbers as long as one of 3."""
    other = """
    layer { name: "ip2" type: "InnerProduct" bottom: "y" top: "ip2"
      inner_product_param { num_output: 4 } }
    """
    write("n.prototxt", HDF5 % (other + LOSS % "ip2"))
    obstacle = only("n.prototxt").obstacle or ""
    assert "gone.txt" in obstacle
    assert "nobody knows the shapes" in obstacle


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


def test_weights_that_do_not_fit() -> None:
    write("n.prototxt", DEPLOY)
    save("n.prototxt", "n.caffemodel")
    write("n.prototxt", DEPLOY.replace("num_output: 5", "num_output: 6"))
    found = only(".")
    assert not found.loads
    assert "n.caffemodel: Cannot copy param 0 weights from layer 'ip'" in (found.obstacle or "")
    assert found.parameters is not None


def test_weights_for_images_of_a_size_that_nobody_knows() -> None:
    """Without the data they cannot be called wrong."""
    size = "dim: 1 dim: 5 dim: 9 dim: 11"
    write("n.prototxt", DEPLOY.replace("dim: 2 dim: 3 dim: 8 dim: 8", size))
    save("n.prototxt", "n.caffemodel")
    write("n.prototxt", TRAIN % "")
    found = only(".")
    assert found.loads
    assert found.fit is None
    assert "nobody knows without its data: Cannot copy param 0 weights" in found.notes[-1]


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


DETECTOR = """
layer { name: "d" type: "AnnotatedData" top: "x" top: "boxes"
  data_param { source: "gone_lmdb" batch_size: 6 }
  transform_param { mean_value: 1 mean_value: 1 mean_value: 1
                    resize_param { height: 30 width: 40 } } }
layer { name: "found" type: "Input" top: "found"
        input_param { shape { dim: 1 dim: 1 dim: 1 dim: 7 } } }
layer { name: "s" type: "Silence" bottom: "x" }
layer { name: "e" type: "DetectionEvaluate" bottom: "found" bottom: "boxes" top: "e"
        detection_evaluate_param { num_classes: 3 background_label_id: 0 } }
"""


def test_a_data_layer_knows_the_shapes_of_its_tops_without_data() -> None:
    write("n.prototxt", DETECTOR)
    found = only("n.prototxt")
    assert found.loads
    assert dict(found.inputs) == {
        "x": (6, 3, 30, 40), "boxes": (1, 1, 1, 8), "found": (1, 1, 1, 7)
    }  # fmt: skip
    assert len(found.notes) == 1


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
    assert says["b"].endswith("a Git LFS pointer, not the model. Fetch it: git lfs pull.")
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
