"""Bad inputs of every kind, and what is said of each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import lmdb
import numpy as np

from moka.schema import blobproto, caffe_pb2, read_binary, write_binary

if TYPE_CHECKING:
    pass

TRAIN = "train -solver solver.prototxt"

FINETUNE = f"{TRAIN} -weights good.caffemodel"

RESUME = f"{TRAIN} -snapshot snap_iter_2.solverstate"

SCORE = "test -model net.prototxt -weights good.caffemodel -iterations 1"

TIME = "time -model net.prototxt -iterations 1"


class BadInput(NamedTuple):
    """One thing that is wrong.

    Attributes:
        spoil: makes the good folder a bad one.
        command: what is run in it.
        says: what the message contains.
        leaves: files that may be new afterwards.
    """

    spoil: Callable[[], object]
    command: str
    says: tuple[str, ...]
    leaves: tuple[str, ...] = ()


def edit(file: str, old: str, new: str) -> Callable[[], None]:
    def spoil() -> None:
        text = Path(file).read_text()
        assert old in text
        Path(file).write_text(text.replace(old, new))

    return spoil


def remove(path: str) -> Callable[[], None]:
    return lambda: shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def write(file: str, content: bytes) -> Callable[[], object]:
    return lambda: Path(file).write_bytes(content)


def truncate(file: str, fraction: float) -> Callable[[], None]:
    def spoil() -> None:
        content = Path(file).read_bytes()
        Path(file).write_bytes(content[: int(len(content) * fraction)])

    return spoil


def put_record(key: bytes, value: bytes) -> Callable[[], None]:
    def spoil() -> None:
        with lmdb.open("train_lmdb") as environment, environment.begin(write=True) as transaction:
            transaction.put(key, value)
        Path("train_lmdb/lock.mdb").unlink()

    return spoil


def empty_database() -> None:
    shutil.rmtree("train_lmdb")
    lmdb.open("train_lmdb").close()
    Path("train_lmdb/lock.mdb").unlink()


def level_db() -> None:
    shutil.rmtree("train_lmdb")
    Path("train_lmdb").mkdir()
    Path("train_lmdb/CURRENT").write_text("MANIFEST-000002\n")


def smaller_mean() -> None:
    write_binary("mean.binaryproto", blobproto.from_array(np.zeros((1, 1, 5, 5), np.float32)))


def two_mean_images() -> None:
    write_binary("mean.binaryproto", blobproto.from_array(np.zeros((2, 1, 6, 6), np.float32)))


def state_without_model() -> None:
    write_binary("snap_iter_2.solverstate", caffe_pb2.SolverState(iter=2, learned_net="gone.cm"))


def state_of_other_net() -> None:
    state = caffe_pb2.SolverState(iter=2, learned_net="good.caffemodel")
    write_binary("snap_iter_2.solverstate", state)


def weights_with_a_blob_less() -> None:
    model = read_binary("good.caffemodel", caffe_pb2.NetParameter)
    del next(layer for layer in model.layer if layer.name == "ip").blobs[1]
    write_binary("good.caffemodel", model)


DATA_LAYER = ("net.prototxt", 'layer "data" (Data)')

CASES = {
    "missing solver": BadInput(
        remove("solver.prototxt"), TRAIN, ("File not found: solver.prototxt",)
    ),
    "missing net": BadInput(remove("net.prototxt"), TRAIN, ("File not found: net.prototxt",)),
    "missing model of test": BadInput(
        remove("net.prototxt"), SCORE, ("File not found: net.prototxt",)
    ),
    "missing database": BadInput(
        remove("train_lmdb"),
        TRAIN,
        ("train_lmdb: ", 'layer "data" (Data)', "No such file or directory"),
    ),
    "missing mean file": BadInput(
        remove("mean.binaryproto"),
        TRAIN,
        (*DATA_LAYER, "File not found: mean.binaryproto"),
    ),
    "missing weights": BadInput(
        remove("good.caffemodel"), FINETUNE, ("File not found: good.caffemodel",)
    ),
    "missing state": BadInput(lambda: None, RESUME, ("File not found: snap_iter_2.solverstate",)),
    "missing test net": BadInput(
        edit("solver.prototxt", "test_iter", 'test_net: "gone.prototxt" test_iter'),
        TRAIN,
        ("File not found: gone.prototxt",),
    ),
    "misspelt solver field": BadInput(
        edit("solver.prototxt", "display", "dispaly"),
        TRAIN,
        ("solver.prototxt:7:1:", '"dispaly"', 'Did you mean "display"?'),
    ),
    "misspelt net field": BadInput(
        edit("net.prototxt", "num_output: 2", "num_outptu: 2"),
        TRAIN,
        ("net.prototxt:10:23:", '"num_outptu"', 'Did you mean "num_output"?'),
    ),
    "unknown value": BadInput(
        edit("net.prototxt", "LMDB", "LMBD"),
        TRAIN,
        ("net.prototxt:5:60:", "no value named LMBD", 'Did you mean "LMDB"?'),
    ),
    "a brace too few": BadInput(
        edit("net.prototxt", "scale: 0.01 }", "scale: 0.01"), TRAIN, ("net.prototxt:",)
    ),
    "a model given as a net": BadInput(
        lambda: shutil.copy("good.caffemodel", "net.prototxt"),
        TRAIN,
        ("net.prototxt", "it is not text", ".prototxt"),
    ),
    "unknown layer type": BadInput(
        edit("net.prototxt", '"ReLU"', '"Relu"'),
        TRAIN,
        ("net.prototxt", 'layer "relu"', "Unknown layer type: Relu", 'Did you mean "ReLU"?'),
    ),
    "unknown filler": BadInput(
        edit("net.prototxt", "xavier", "xaver"),
        TRAIN,
        ("net.prototxt", 'layer "conv" (Convolution)', "xaver", '"xavier"'),
    ),
    "unknown solver type": BadInput(
        edit("solver.prototxt", "base_lr", 'type: "SDG" base_lr'),
        TRAIN,
        ("solver.prototxt", "Unknown solver type: SDG", 'Did you mean "SGD"?'),
    ),
    "unknown learning rate policy": BadInput(
        edit("solver.prototxt", '"fixed"', '"fxied"'),
        TRAIN,
        ("solver.prototxt", "Unknown learning rate policy: fxied", 'Did you mean "fixed"?'),
    ),
    "no learning rate policy": BadInput(
        edit("solver.prototxt", 'lr_policy: "fixed"', ""),
        TRAIN,
        ("solver.prototxt", "Unknown learning rate policy: (none)", "fixed"),
    ),
    "a bottom nobody makes": BadInput(
        edit("net.prototxt", 'bottom: "conv" top: "ip"', 'bottom: "cnov" top: "ip"'),
        TRAIN,
        ("net.prototxt", "layer 'ip'", "blob 'cnov'", 'Did you mean "conv"?'),
    ),
    "a cycle": BadInput(
        edit("net.prototxt", 'bottom: "data" top: "conv"', 'bottom: "ip" top: "conv"'),
        TRAIN,
        ("net.prototxt", "layer 'conv'", "Unknown bottom blob 'ip'", 'by layer "ip"', "cycle"),
    ),
    "a top made twice": BadInput(
        edit("net.prototxt", 'top: "loss"', 'top: "data"'),
        TRAIN,
        ("net.prototxt", 'layer "loss" (SoftmaxWithLoss)', "'data'", "Rename this top"),
    ),
    "a bottom too few": BadInput(
        edit("net.prototxt", 'bottom: "label" top: "loss"', 'top: "loss"'),
        TRAIN,
        ("net.prototxt", 'layer "loss" (SoftmaxWithLoss)', "takes 2", "got 1"),
    ),
    "a top too many": BadInput(
        edit("net.prototxt", 'top: "ip"', 'top: "ip" top: "pi"'),
        TRAIN,
        ("net.prototxt", 'layer "ip" (InnerProduct)', "takes 1 top", "got 2"),
    ),
    "kernel larger than the image": BadInput(
        edit("net.prototxt", "kernel_size: 3", "kernel_size: 7"),
        TRAIN,
        ("net.prototxt", 'layer "conv" (Convolution)', "7"),
    ),
    "no batch size": BadInput(
        edit("net.prototxt", "batch_size: 4", ""),
        TRAIN,
        (*DATA_LAYER, "batch_size is missing"),
    ),
    "labels outside of the classes": BadInput(
        edit("net.prototxt", "num_output: 3", "num_output: 2"),
        TRAIN,
        ("net.prototxt", 'layer "loss" (SoftmaxWithLoss)', "label 2", "2 classes", "num_output"),
    ),
    "labels outside of the classes, scoring": BadInput(
        edit("net.prototxt", "num_output: 3", "num_output: 2"),
        "time -model net.prototxt -iterations 1 -phase TEST",
        ("net.prototxt", "label 2", "2 classes"),
    ),
    "truncated weights": BadInput(
        truncate("good.caffemodel", 0.5), FINETUNE, ("good.caffemodel: ", "truncated")
    ),
    "foreign weights": BadInput(
        write("good.caffemodel", b"PK\x03\x04 a zip archive"),
        FINETUNE,
        ("good.caffemodel: ", "a zip archive"),
    ),
    "empty weights": BadInput(
        write("good.caffemodel", b""), FINETUNE, ("good.caffemodel: ", "the file is empty")
    ),
    "weights of another shape": BadInput(
        edit("net.prototxt", "num_output: 3", "num_output: 5"),
        FINETUNE,
        ("good.caffemodel: ", "layer 'ip'", "3 32 (96)", "5 32 (160)", "rename the layer"),
    ),
    "weights of another shape, scoring": BadInput(
        edit("net.prototxt", "num_output: 3", "num_output: 5"),
        SCORE,
        ("good.caffemodel: ", "layer 'ip'", "3 32 (96)", "5 32 (160)"),
    ),
    "weights with a blob less": BadInput(
        weights_with_a_blob_less, FINETUNE, ("good.caffemodel: ", "layer ip", "has 1", "net 2")
    ),
    "truncated state": BadInput(
        write("snap_iter_2.solverstate", b"\x08\x02\x12\xff"),
        RESUME,
        ("snap_iter_2.solverstate: ", "SolverState", "truncated"),
    ),
    "a model given as a state": BadInput(
        lambda: shutil.copy("good.caffemodel", "snap_iter_2.solverstate"),
        RESUME,
        ("snap_iter_2.solverstate: ",),
    ),
    "a state without its model": BadInput(
        state_without_model, RESUME, ("File not found: gone.cm",)
    ),
    "a state of another net": BadInput(
        state_of_other_net, RESUME, ("snap_iter_2.solverstate: ", "has 0", "solver 4")
    ),
    "a record that is no Datum": BadInput(
        put_record(b"00000000", b"\xff\xff not a datum"),
        TRAIN,
        ("train_lmdb: ", 'layer "data" (Data)', 'record "00000000"', "not a Datum"),
    ),
    "a later record that is no Datum": BadInput(
        put_record(b"00000006", b"\xff\xff not a datum"),
        TRAIN,
        ("train_lmdb: ", 'layer "data" (Data)', 'record "00000006"', "not a Datum"),
    ),
    "a record with too few pixels": BadInput(
        put_record(
            b"00000006",
            caffe_pb2.Datum(channels=1, height=6, width=6, data=b"xyz").SerializeToString(),
        ),
        TRAIN,
        ("train_lmdb: ", 'layer "data" (Data)', 'record "00000006"', "3 values", "(1, 6, 6)"),
    ),
    "an image that cannot be decoded": BadInput(
        put_record(b"00000005", caffe_pb2.Datum(encoded=True, data=b"JFIF").SerializeToString()),
        TRAIN,
        ("train_lmdb: ", 'layer "data" (Data)', 'record "00000005"', "cannot be decoded"),
    ),
    "an empty database": BadInput(
        empty_database, TRAIN, ("train_lmdb: ", 'layer "data" (Data)', "empty")
    ),
    "a database that is junk": BadInput(
        write("train_lmdb/data.mdb", b"junk" * 2048),
        TRAIN,
        ("train_lmdb: ", 'layer "data" (Data)', "not an LMDB database"),
    ),
    "a LevelDB database without its manifest": BadInput(
        level_db,
        TRAIN,
        ("train_lmdb/MANIFEST-000002: ", 'layer "data" (Data)', "No such file or directory"),
    ),
    "a mean of another size": BadInput(
        smaller_mean,
        TRAIN,
        ('layer "data" (Data)', "mean.binaryproto", "(1, 5, 5)", "(1, 6, 6)"),
    ),
    "a mean file of two images": BadInput(
        two_mean_images, TRAIN, ("mean.binaryproto: ", 'layer "data" (Data)', "(2, 1, 6, 6)")
    ),
    "a mean file that is junk": BadInput(
        write("mean.binaryproto", b"\xff\xff\xff"),
        TRAIN,
        ("mean.binaryproto: ", 'layer "data" (Data)', "BlobProto"),
    ),
    "crop larger than the image": BadInput(
        edit("net.prototxt", "scale: 0.01", "crop_size: 7"),
        TRAIN,
        ('layer "data" (Data)', "crop_size 7", "6 x 6"),
    ),
    "snapshots below a file": BadInput(
        edit("solver.prototxt", '"snap"', '"solver.prototxt/snap"'),
        TRAIN,
        ("snapshot prefix 'solver.prototxt/snap'", "Not a directory"),
    ),
    "snapshots in a folder that is missing": BadInput(
        edit("solver.prototxt", '"snap"', '"gone/snap"'),
        TRAIN,
        ("snapshot prefix 'gone/snap'", "No such file or directory", "directory exists"),
    ),
    "loss is no number": BadInput(
        edit("solver.prototxt", "base_lr: 0.01", "base_lr: 1e30"),
        TRAIN,
        ("solver.prototxt: ", "loss is", "at iteration ", "base_lr"),
        leaves=("snap_iter_1.replay",),
    ),
    "loss is no number after a snapshot": BadInput(
        edit(
            "solver.prototxt",
            'base_lr: 0.01\nlr_policy: "fixed"',
            'base_lr: 1e-25 lr_policy: "exp" gamma: 1e25',
        ),
        TRAIN,
        ("solver.prototxt: ", "loss is", "at iteration ", "snapshot is snap_iter_2.caffemodel"),
        leaves=("snap_iter_2.caffemodel", "snap_iter_2.solverstate", "snap_iter_3.replay"),
    ),
    "nothing to train": BadInput(lambda: None, "train", ("Need a solver", "--solver=FILE")),
    "snapshot and weights": BadInput(
        lambda: None, f"{RESUME} -weights good.caffemodel", ("not both",)
    ),
    "unknown flag": BadInput(
        lambda: None, f"{TRAIN} -wieghts good.caffemodel", ("'wieghts'", '"weights"')
    ),
    "unknown signal effect": BadInput(
        lambda: None, f"{TRAIN} -sigint_effect quit", ('"quit"', "snapshot, stop, none")
    ),
    "a net where a solver belongs": BadInput(
        lambda: None, "train -solver net.prototxt", ("net.prototxt:2:1:", "SolverParameter")
    ),
    "no iterations to score": BadInput(
        lambda: None, SCORE.replace("-iterations 1", "-iterations 0"), ("> 0, got 0",)
    ),
    "no iterations to time": BadInput(
        lambda: None, TIME.replace("-iterations 1", "-iterations -3"), ("> 0, got -3",)
    ),
    "unknown phase": BadInput(
        lambda: None, f"{TIME} -phase VAL", ('"TRAIN" or "TEST", found VAL',)
    ),
}
