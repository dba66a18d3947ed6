"""Small valid files of every kind, made here: what the fuzzer changes."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import tarfile
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

from moka.data.datum import encode
from moka.schema import caffe_pb2, parse_text
from moka.schema.blobproto import from_array

NET = """name: "n"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 }
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" relu_param { negative_slope: 0.1 } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
  inner_product_param { num_output: 5 bias_filler { type: "constant" value: 0.5 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" include { phase: TEST } }
"""
V1_NET = """name: 'old' input: "data" input_dim: 1 input_dim: 3 input_dim: 6 input_dim: 6
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 1 weight_decay: 0
  convolution_param { num_output: 2 kernel_size: 3 } }  # a remark
layers < name: "d" type: DROPOUT bottom: "c" top: "c" dropout_param: { dropout_ratio: .5f } >
layers { layer { name: "ip" type: "innerproduct" num_output: 3 biasterm: true
  weight_filler { type: "gaussian" std: 1e-2 } } bottom: "c" top: "ip" }
state { phase: TRAIN level: 0x1F stage: ["a", "b\\n\\x41\\101"] }
"""
SOLVER = """net: "net.prototxt" test_iter: 3 test_interval: 10 base_lr: 0.01 lr_policy: "multistep"
stepvalue: [100, 200] gamma: 0.1 momentum: 0.9 weight_decay: 5e-4 max_iter: 300 type: "SGD"
snapshot_prefix: "s" display: 20 random_seed: 1701 solver_mode: CPU
net_param { layer { name: "a" type: "Input" top: "a" } } train_state { stage: 'x' }
"""
GLOG = """I0101 12:00:00.000001  4711 caffe.cpp:217] Starting Optimization
I0101 12:00:01.000001  4711 solver.cpp:272] Solving net
I0101 12:00:02.500000  4711 solver.cpp:330] Iteration 0, Testing net (#0)
I0101 12:00:03.500000  4711 solver.cpp:397]     Test net output #0: accuracy = 0.125
I0101 12:00:03.500000  4711 solver.cpp:397]     Test net output #1: loss = 2.30 (* 1 = 2.30 loss)
I0101 12:00:04.000000  4711 solver.cpp:218] Iteration 0 (0 iter/s, 0.1s/20 iters), loss = 2.30
I0101 12:00:04.100000  4711 solver.cpp:237]     Train net output #0: loss = 2.30 (* 1 = 2.30 loss)
I0101 12:00:04.200000  4711 sgd_solver.cpp:105] Iteration 0, lr = 0.01
I20240229 23:59:59.900000  4711 solver.cpp:447] Snapshotting to binary proto file s_iter_20.h5
I0101 00:00:04.000000  4711 solver.cpp:218] Iteration 20, loss = nan
I0101 00:00:05.000000  4711 solver.cpp:315] Optimization Done.
"""
RECORDS = "\n".join(
    json.dumps(record)
    for record in (
        {"record": "SolvingStarted", "time_s": 1.5, "iteration": 0, "net": "n", "policy": "fixed",
         "max_iter": 40},
        {"record": "TestStarted", "time_s": 1.6, "iteration": 0, "net": 0},
        {"record": "TestCompleted", "time_s": 2.0, "iteration": 0, "net": 0,
         "outputs": [{"name": "accuracy", "value": 0.25, "loss_weight": 0}]},
        {"record": "IterationCompleted", "time_s": 3.0, "iteration": 0, "displayed": True,
         "display_every": 20, "rate": 0.01, "loss": None,
         "outputs": [{"name": "loss", "value": 2.5, "loss_weight": 1}]},
        {"record": "FinalLoss", "time_s": 9.0, "iteration": 40, "loss": 1e-3},
        {"record": "SolvingCompleted", "time_s": 9.5, "iteration": 40},
    )
)  # fmt: skip
WINDOWS = "# 0\na.jpg\n3\n20\n30\n2\n1 0.7 2 3 10 12\n0 0.1 5 5 9 9\n# 1\nb.jpg\n3\n9\n9\n0\n"
OBJECTS = (
    "# 0\na.jpg\n3\n20\n30\n2\n1 0 2 3 10 12\n2 1 5 5 9 9\n1\n1 1 4 4\n# 1\nb.jpg\n3\n9\n9\n0\n0\n"
)


def texts(*each: str) -> Callable[[], list[bytes]]:
    return lambda: [text.encode() for text in each]


def prototxts() -> list[bytes]:
    """Nets of today and of 2013, and the reference nets of this repository."""
    models = Path(__file__).parents[1] / "models"
    files = [file.read_bytes() for file in sorted(models.rglob("*.prototxt"))]
    return [NET.encode(), V1_NET.encode(), *(text for text in files if len(text) < 5000)]


def caffemodels() -> list[bytes]:
    """Today's form, whole; with some blobs; the one of 2014; a fork's raw bytes."""
    from moka.net import build_net
    from moka.weights.binary import to_message

    whole = to_message(build_net(parse_text(NET, caffe_pb2.NetParameter)))
    weights = from_array(np.arange(4 * 3 * 3 * 3, dtype=np.float32).reshape(4, 3, 3, 3))
    net = parse_text(NET, caffe_pb2.NetParameter)
    net.layer[1].blobs.extend([weights, from_array(np.zeros(4, np.float32))])
    old = parse_text(V1_NET, caffe_pb2.NetParameter)
    legacy = caffe_pb2.BlobProto(num=1, channels=1, height=1, width=3, data=[1, 2, 3])
    old.layers[0].blobs.extend([legacy, caffe_pb2.BlobProto(double_data=[0.5])])
    raw = caffe_pb2.NetParameter()
    blob = raw.layer.add(name="conv", type="Convolution", bottom=["data"]).blobs.add()
    blob.shape.dim.extend([2, 2])
    blob.raw_data_type, blob.raw_data = caffe_pb2.FLOAT16, bytes(8)
    return [message.SerializeToString() for message in (whole, net, old, raw)]


def solverstates() -> list[bytes]:
    state = caffe_pb2.SolverState(iter=7, learned_net="s_iter_7.caffemodel", current_step=1)
    state.history.extend(
        [from_array(np.ones((2, 3), np.float32)), from_array(np.ones(1, np.float32))]
    )
    state.run_state.ParseFromString(b"")
    return [state.SerializeToString()]


def binaryprotos() -> list[bytes]:
    mean = caffe_pb2.BlobProto(num=1, channels=3, height=2, width=2, data=[1.5] * 12)
    shaped = from_array(np.ones((1, 3, 2, 2), np.float32))
    double = caffe_pb2.BlobProto(double_data=[1, 2])
    double.shape.dim.append(2)
    return [m.SerializeToString() for m in (mean, shaped, double)]


def datums() -> list[bytes]:
    pixels = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    raw, floats = encode(pixels, 3), encode(pixels.astype(np.float32), 4)
    encoded = caffe_pb2.Datum(encoded=True, label=1, data=images()[0])
    several = encode(pixels)
    several.labels.extend([1, 2.5])
    return [d.SerializeToString() for d in (raw, floats, encoded, several)]


def annotated_datums() -> list[bytes]:
    made = caffe_pb2.AnnotatedDatum(type=caffe_pb2.AnnotatedDatum.BBOX)
    made.datum.CopyFrom(encode(np.zeros((3, 8, 8), np.uint8), 1))
    group = made.annotation_group.add(group_label=2)
    one = group.annotation.add(instance_id=1)
    one.bbox.xmin, one.bbox.ymin, one.bbox.xmax, one.bbox.ymax = 0.1, 0.2, 0.7, 0.9
    return [made.SerializeToString()]


def box_datums() -> list[bytes]:
    made = encode(np.zeros((3, 8, 8), np.uint8), 1)
    made.float_data.extend([1, 0, 0.5, 0.5, 0.25, 0.25])
    return [made.SerializeToString()]


@cache
def videos() -> list[bytes]:
    """Three small frames as OpenCV writes them: Motion JPEG in AVI, MPEG-4 in MP4."""
    rng = np.random.default_rng(0)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for code, suffix in (("MJPG", "avi"), ("mp4v", "mp4")):
            path = os.path.join(folder, f"a.{suffix}")
            writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*code), 10, (24, 16))
            for _ in range(3):
                writer.write(rng.integers(0, 256, (16, 24, 3), np.uint8))
            writer.release()
            if os.path.exists(path):
                found.append(Path(path).read_bytes())
    return found


def images() -> list[bytes]:
    """A small picture in each format that OpenCV writes."""
    rng = np.random.default_rng(0)
    pixels = cv2.resize(rng.integers(0, 255, (4, 4, 3), np.uint8), (17, 13))
    found = []
    for suffix in ("jpg", "png", "bmp", "webp", "tiff", "ppm", "pgm", "gif", "hdr", "pam"):
        values = pixels[..., 0] if suffix == "pgm" else pixels
        values = values.astype(np.float32) if suffix == "hdr" else values
        try:
            good, data = cv2.imencode(f".{suffix}", values)
        except cv2.error:
            continue
        if good:
            found.append(data.tobytes())
    _, deep = cv2.imencode(".png", pixels.astype(np.uint16) * 257)
    _, progressive = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    cut = found[0][: len(found[0]) // 2]
    return [*found, deep.tobytes(), progressive.tobytes(), cut]


def tars() -> list[bytes]:
    """Shards with labels in both forms."""
    forms = {
        tarfile.USTAR_FORMAT: ("0002.cls", b"4", 20),
        tarfile.PAX_FORMAT: ("0002.json", b'{"cls": 7}', 60),
        tarfile.GNU_FORMAT: ("0002.json", b'{"label": [7, 2.5]}', 60),
    }
    found = []
    for form, (name, label, length) in forms.items():
        files = {"a/0001.png": images()[1], "a/0001.cls": b"3", "a/0002.png": images()[1]}
        files |= {f"a/{name}": label, "\u00e9" * length + ".txt": b"left aside"}
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
            for path, data in files.items():
                info = tarfile.TarInfo(path)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        found.append(stream.getvalue())
    return found


@cache
def lmdbs() -> list[bytes]:
    """Trees of one level and of three, and one whose values lie in pages of their own."""
    from moka.data.lmdb import LmdbWriter

    small = [value for value in datums() if len(value) < 1000]
    large = [caffe_pb2.Datum(data=bytes(5000)).SerializeToString()]
    found = []
    for count, values in ((3, small), (400, small), (6, large)):
        with tempfile.TemporaryDirectory() as folder:
            with LmdbWriter(f"{folder}/db") as writer:
                for k in range(count):
                    writer.put(b"%08d" % k, values[k % len(values)])
            found.append(Path(folder, "db", "data.mdb").read_bytes())
    return found


@cache
def leveldb_files() -> dict[str, bytes]:
    """The files of a database with a table and a log."""
    import plyvel

    with tempfile.TemporaryDirectory() as folder:
        database = plyvel.DB(folder, create_if_missing=True, write_buffer_size=1 << 16)
        for k in range(60):
            database.put(b"%05d" % k, datums()[k % 2] * (1 + k % 3))
        database.compact_range()
        database.put(b"99999", datums()[0])
        database.delete(b"00003")
        database.close()
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def leveldb_file(suffix: str) -> Callable[[], list[bytes]]:
    """Those of a kind: `.log`, `.ldb`, or `MANIFEST`."""
    return lambda: [data for name, data in leveldb_files().items() if suffix in name and data]


def _hdf5(fill: Callable[[Any], object]) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        fill(file)
    return stream.getvalue()


def hdf5_rows() -> list[bytes]:
    def plain(file: Any) -> None:
        file["data"] = np.arange(24, dtype=np.float32).reshape(6, 4)
        file["label"] = np.arange(6, dtype=np.int64)

    def packed(file: Any) -> None:
        file.create_dataset("data", data=np.ones((6, 4), np.float64), chunks=(2, 4), compression=4)
        file.create_dataset("label", data=np.ones(6, np.uint8), chunks=True, shuffle=True,
                            fletcher32=True)  # fmt: skip

    return [_hdf5(plain), _hdf5(packed)]


def hdf5_models() -> list[bytes]:
    def fill(file: Any) -> None:
        group = file.create_group("data")
        group["conv/0"] = np.ones((4, 3, 3, 3), np.float32)
        group["conv/1"] = np.ones(4, np.float64)
        group.create_group("a/b")
        group["ip/0"] = np.ones((5, 64), np.int32)
        group["ip/1"] = np.ones(5, np.float32)

    return [_hdf5(fill)]


def hdf5_states() -> list[bytes]:
    def fill(file: Any) -> None:
        file["iter"] = np.array([7], np.int32)
        file["current_step"] = np.array([1], np.int32)
        file["learned_net"] = np.bytes_(b"s_iter_7.caffemodel.h5")
        file["history/0"] = np.ones((2, 3), np.float32)
        file["run_state"] = np.frombuffer(b"\x08\x01", np.uint8)

    return [_hdf5(fill)]


def idx_files() -> list[bytes]:
    images_ = b"\0\0\x08\x03" + struct.pack(">3I", 2, 4, 4) + bytes(range(32))
    labels = b"\0\0\x08\x01" + struct.pack(">I", 2) + b"\x03\x04"
    return [images_, labels, gzip.compress(images_, mtime=0)]


def cifar_files() -> list[bytes]:
    return [b"".join(bytes([k]) + bytes(3072) for k in range(2))]


def npz_files() -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        arrays = {"batch/data": np.ones((2, 3), np.float32), "records/0": np.array(["a", "b"])}
        save(stream, iteration=7, rate=0.1, **arrays)  # type: ignore[arg-type]
        found.append(stream.getvalue())
    return found


def torch_files() -> list[bytes]:
    import torch

    found = []
    for modern in (True, False):
        stream = io.BytesIO()
        held = {"conv.weight": torch.ones(2, 3), "bias": torch.ones(2, dtype=torch.float16)}
        torch.save({"state_dict": held, "epoch": 3}, stream, _use_new_zipfile_serialization=modern)
        found.append(stream.getvalue())
    return found


def safetensors_files() -> list[bytes]:
    import torch
    from safetensors.torch import save

    return [save({"conv.weight": torch.ones(2, 3), "bias": torch.ones(2, dtype=torch.bfloat16)})]


def onnx_files() -> list[bytes]:
    """A small convolutional net, and one of arithmetic with shapes."""
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((2, 3, 3, 3), np.float32) / 27, "w")
    conv = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[3, 3], pads=[1] * 4),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Flatten", ["p"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    ints = numpy_helper.from_array(np.array([0, -1], np.int64), "shape")
    gemm = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "shape"], ["f"]),
            helper.make_node("Gemm", ["f", "m", "b"], ["g"], transB=1, alpha=0.5),
            helper.make_node("Softmax", ["g"], ["y"], axis=1),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [ints, numpy_helper.from_array(np.ones((3, 4), np.float32), "m"),
         numpy_helper.from_array(np.ones(3, np.float16).astype(np.float32), "b")],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 17)]
    return [helper.make_model(g, opset_imports=opset).SerializeToString() for g in (conv, gemm)]


def scratch(name: str, data: bytes) -> Path:
    """A file of this content that lasts as long as the process."""
    folder = Path(_folder().name)
    (folder / name).write_bytes(data)
    return folder / name


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()
