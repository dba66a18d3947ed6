from __future__ import annotations

import os
from pathlib import Path

import h5py
import pytest

import moka
from moka.checks.files import HEAD, find_beside, find_files, recognize_file
from moka.errors import UsageError
from moka.schema import caffe_pb2

NET = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }'
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 3'
STATE = caffe_pb2.SolverState(iter=5, history=[caffe_pb2.BlobProto(data=[1.0])])
MEAN = caffe_pb2.BlobProto(num=1, channels=1, height=1, width=2, data=[1.0, 2.0])


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model() -> bytes:
    layer = caffe_pb2.LayerParameter(name="ip", type="InnerProduct")
    layer.blobs.add(data=[1.0, 2.0]).shape.dim.extend([2])
    return caffe_pb2.NetParameter(name="n", layer=[layer]).SerializeToString()


def kind(name: str, data: str | bytes) -> tuple[str, str, bool]:
    Path(name).write_bytes(data.encode() if isinstance(data, str) else data)
    found = recognize_file(name)
    return found.kind, found.fact, found.is_fault


@pytest.mark.parametrize(
    "text",
    [
        NET,
        f"# a comment\n\nname: 'n'\nforce_backward: true\n{NET}",
        'layers { name: "d" type: DATA top: "x" }',
        'input: "data" input_dim: 1 input_dim: 3',
        f"# {'x' * 70_000}\n{NET}"[-69_000:],
        "\ufeff" + NET,
        f'name: "n" # {"long " * 20_000}',  # cut where it is looked at
        'layerz { name: "x" }',  # the reader of nets tells what is wrong
        "",
    ],
)
def test_nets(text: str) -> None:
    assert kind("a.prototxt", text)[0] == "net"


def test_nets_in_utf16() -> None:
    assert kind("a.prototxt", NET.encode("utf-16"))[0] == "net"


def test_other_texts(model: bytes) -> None:
    assert kind("s.prototxt", SOLVER)[0] == "solver"
    assert kind("labels.prototxt", 'item { name: "none" label: 0 }') == (
        "other",
        "this is a label map",
        False,
    )
    assert kind("deploy.txt", NET)[0] == "net"
    assert kind("notes.txt", "input: what we need\nname: x")[0] == "other"
    assert kind("train.log", "I1129 16:00:00.000 1 x.py:1] layer { }")[0] == "other"
    assert kind("readme.md", "# LeNet\n\nlayer { } is how layers are written")[0] == "other"


@pytest.mark.parametrize("name", ["a.prototxt", "a.caffemodel"])
@pytest.mark.parametrize(
    ("data", "fact"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        ("\n<!DOCTYPE html><html>", "a web page"),
        (b"PK\x03\x04", "a zip archive"),
    ],
)
def test_what_was_saved_in_place_of_a_model(name: str, data: str | bytes, fact: str) -> None:
    found, said, is_fault = kind(name, data)
    assert (found, is_fault) == ("other", True)
    assert fact in said
    assert not kind("page.html", data)[2]


def test_binary_files(model: bytes) -> None:
    assert kind("a.caffemodel", model)[0] == "weights"
    assert kind("no_suffix", model)[0] == "weights"
    assert kind("a.caffemodel", model[:20])[0] == "weights"  # whose reader says: truncated
    assert kind("a.solverstate", STATE.SerializeToString()) == (
        "other",
        "this is a solver's state of iteration 5, not a model",
        False,
    )
    assert kind("mean.binaryproto", MEAN.SerializeToString())[0] == "other"
    large = bytes(caffe_pb2.BlobProto(data=[1.0] * HEAD).SerializeToString())
    assert kind("mean.binaryproto", large)[1] == "this is one blob, as a mean image, not a model"
    state = caffe_pb2.SolverState(iter=7, learned_net="a", history=[MEAN])
    state.history[0].data.extend([1.0] * HEAD)  # more than is read
    assert kind("b.solverstate", state.SerializeToString())[1] == (
        "this is a solver's state of iteration 7, not a model"
    )
    assert kind("noise.prototxt", bytes(range(256)))[2]


def test_hdf5_files() -> None:
    with h5py.File("a.caffemodel.h5", "w") as file:
        file.create_dataset("data/ip/0", data=[1.0])
    with h5py.File("data.h5", "w") as file:
        file["data"], file["label"] = [1.0], [0]
    with h5py.File("s.solverstate.h5", "w") as file:
        file["iter"] = 3
        file.create_group("history")
    Path("cut.h5").write_bytes(Path("data.h5").read_bytes()[:600])
    assert recognize_file("a.caffemodel.h5").kind == "weights"
    assert recognize_file("data.h5").fact == "this HDF5 file is no model: it holds data, label"
    assert recognize_file("s.solverstate.h5").fact == "this is a solver's state"
    assert "cannot be read" in recognize_file("cut.h5").fact


def test_a_file_that_cannot_be_read() -> None:
    Path("gone.prototxt").symlink_to("nowhere")
    assert recognize_file("gone.prototxt").is_fault
    assert "cannot be read: No such file" in recognize_file("gone.prototxt").fact


def test_a_folder_to_its_bottom(model: bytes) -> None:
    for name, data in {
        "zoo/a/deploy.prototxt": NET.encode(),
        "zoo/a/a.caffemodel": model,
        "zoo/a/photo.jpg": b"\xff\xd8",
        "zoo/a/readme.md": b"# net",
        "zoo/a/words.txt": b"cat\ndog\n",
        "zoo/a/deploy.txt": NET.encode(),
        "zoo/b/solver.prototxt": SOLVER.encode(),
        "zoo/.git/x.prototxt": NET.encode(),
        "zoo/b/mean.binaryproto": MEAN.SerializeToString(),
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)
    found = [(os.path.relpath(f.path, "zoo"), f.kind) for f in find_files(["zoo", "zoo/a"])]
    assert found == [
        ("a/a.caffemodel", "weights"),
        ("a/deploy.prototxt", "net"),
        ("a/deploy.txt", "net"),
        ("b/mean.binaryproto", "other"),
        ("b/solver.prototxt", "solver"),
    ]
    assert [f.kind for f in find_files(["zoo/a/readme.md"])] == ["other"]  # since it is named
    beside = [os.path.basename(f.path) for f in find_beside("zoo/a/deploy.prototxt")]
    assert beside == ["a.caffemodel", "deploy.prototxt", "deploy.txt"]


def test_what_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"gone: No such file or directory\."):
        list(find_files(["gone"]))


def test_saved_models_are_weights() -> None:
    Path("n.prototxt").write_text(
        NET
        + 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"'
        + " inner_product_param { num_output: 2 } }"
    )
    moka.save_weights(moka.load("n.prototxt"), "saved")
    assert recognize_file("saved").kind == "weights"
