"""Every reader of files that come from outside: how it is called, and what it is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import calls
import seeds
from calls import call, leveldb_with, read_record
from mutate import Mutate, mutate_bytes, mutate_numbers, mutate_text, mutate_wire


@dataclass(frozen=True)
class Reader:
    """A reader.

    Attributes:
        name: of the kind of file.
        read: given a file, reads all of it.
        seeds: makes valid inputs.
        mutate: the ways to change one, by turns.
        suffix: of the file's name.
        most_bytes: how long an input may become.
        share: of the inputs of a run that it gets; less where one takes long.
        is_guided: whether coverage guides its inputs.
        address_space: bytes that it may take beyond what its process has at the start; if they are
            few, large arrays are refused, whose filling takes long.
        may_print: whether libjpeg, libpng and their like may say what is wrong with an image.
    """

    name: str
    read: Callable[[Path], object]
    seeds: Callable[[], list[bytes]]
    mutate: tuple[Mutate, ...] = (mutate_bytes,)
    suffix: str = ""
    most_bytes: int = 1 << 16
    share: float = 1.0
    is_guided: bool = True
    may_print: bool = False
    address_space: int = 6 << 30


WIRE: tuple[Mutate, ...] = (mutate_wire, mutate_wire, mutate_bytes)
TEXT: tuple[Mutate, ...] = (mutate_text,)
PAGES: tuple[Mutate, ...] = (mutate_numbers, mutate_numbers, mutate_bytes)


def change_message(kind: str) -> Mutate:
    """The mutation of prototxts by their types."""

    def change(data: bytes, rng: Random) -> bytes:
        import nets

        return nets.mutate(data, rng, kind)

    return change


def net_seeds() -> list[bytes]:
    import nets

    return nets.seeds()


def solver_seeds() -> list[bytes]:
    import nets

    return nets.solver_seeds()


JOB = json.dumps({"title": "a", "created_s": 1.5, "start": ["--snapshot=auto"], "epoch": [3, 4]})
LABELS = "n01440764 tench, Tinca tinca\nn01443537 goldfish\ncat\n"
ROIDB = json.dumps(
    [{"image": "a.jpg", "boxes": [[1, 2, 3, 4]], "gt_classes": [1], "flipped": False}]
)

READERS = (
    Reader("prototxt", calls.read_net, seeds.prototxts, TEXT, ".prototxt"),
    Reader("solver prototxt", calls.read_solver, seeds.texts(seeds.SOLVER), TEXT, ".prototxt"),
    Reader("pasted net", calls.paste, seeds.texts(seeds.NET, seeds.V1_NET), TEXT, share=0.3),
    Reader("caffemodel", calls.read_weights, seeds.caffemodels, WIRE, ".caffemodel"),
    Reader(
        "solverstate",
        call("solver.snapshots.state_file:read_state"),
        seeds.solverstates,
        WIRE,
        ".solverstate",
    ),
    Reader(
        "binaryproto",
        call("data.transform:read_mean_image", as_text=True),
        seeds.binaryprotos,
        WIRE,
    ),
    Reader("caffemodel.h5", calls.read_hdf5_weights, seeds.hdf5_models, PAGES, ".caffemodel.h5"),
    Reader(
        "solverstate.h5",
        call("solver.snapshots.state_file:read_state"),
        seeds.hdf5_states,
        PAGES,
        ".solverstate.h5",
    ),
    Reader("HDF5 rows", calls.read_hdf5_rows, seeds.hdf5_rows, PAGES, ".h5"),
    Reader("LMDB", calls.read_lmdb, seeds.lmdbs, PAGES, ".mdb"),
    Reader("LevelDB table", leveldb_with(".ldb"), seeds.leveldb_file(".ldb"), PAGES, share=0.5),
    Reader("LevelDB log", leveldb_with(".log"), seeds.leveldb_file(".log"), PAGES),
    Reader("LevelDB manifest", leveldb_with("MANIFEST"), seeds.leveldb_file("MANIFEST"), PAGES),
    Reader("LevelDB CURRENT", leveldb_with("CURRENT"), seeds.leveldb_file("CURRENT"), TEXT),
    Reader("Datum", read_record("records:DatumRecords"), seeds.datums, WIRE, may_print=True),
    Reader(
        "AnnotatedDatum",
        read_record("annotated:AnnotatedRecords"),
        seeds.annotated_datums,
        WIRE,
        may_print=True,
    ),
    Reader(
        "Datum with boxes",
        read_record("box_records:BoxRecords"),
        seeds.box_datums,
        WIRE,
        may_print=True,
    ),
    Reader("image", calls.read_any_image, seeds.images, PAGES, ".img", may_print=True),
    Reader("video", calls.read_video, seeds.videos, PAGES, ".avi", share=0.3, may_print=True),
    Reader("tar shard", calls.read_shards, seeds.tars, PAGES, ".tar", may_print=True),
    Reader(
        "list of images",
        call("data.images:read_image_list"),
        seeds.texts("a b.jpg 3\nc\\d.png -1\n\n"),
        TEXT,
    ),
    Reader(
        "list of HDF5 files", call("data.hdf5:read_file_list"), seeds.texts("a.h5\nb/c.h5\n"), TEXT
    ),
    Reader(
        "list of pairs",
        call("data.label_maps:read_pairs"),
        seeds.texts("a.jpg b.png\nc.jpg d.png\n"),
        TEXT,
    ),
    Reader(
        "list of videos",
        call("data.segments:read_videos"),
        seeds.texts("v/a 120 3\nv/b 9 0\n"),
        TEXT,
    ),
    Reader(
        "list of clips", call("data.videos:read_clips"), seeds.texts("v/a.avi 1 3\nv/b 0\n"), TEXT
    ),
    Reader("window file", call("data.windows:read_windows"), seeds.texts(seeds.WINDOWS), TEXT),
    Reader(
        "object list",
        call("data.object_lists:read_object_list", with_difficult=False),
        seeds.texts(seeds.OBJECTS),
        TEXT,
    ),
    Reader(
        "names and sizes",
        call("layers.detection.sizes:read_name_sizes", as_text=True),
        seeds.texts("a 3 4\nb 5 6"),
        TEXT,
    ),
    Reader(
        "class tree",
        call("layers.detection.class_tree:read_tree", 3, as_text=True),
        seeds.texts("a -1\nb -1\nc 0\n"),
        TEXT,
    ),
    Reader(
        "class map",
        call("layers.detection.yolo_loss:read_class_map", 3, as_text=True),
        seeds.texts("0\n2\n1 x\n"),
        TEXT,
    ),
    Reader(
        "roidb", call("layers.detection.roi_data:_read", as_text=True), seeds.texts(ROIDB), TEXT
    ),
    Reader(
        "param_str",
        calls.read_param_str,
        seeds.texts("'a': 16\n'b': !!python/tuple [4, 8]", "{'x': {'y': 1}, z: yes}"),
        TEXT,
    ),
    Reader("labels", call("predict.labels:read_labels", None), seeds.texts(LABELS), TEXT),
    Reader("log", calls.read_any_log, seeds.texts(seeds.GLOG, seeds.RECORDS), TEXT, ".log"),
    Reader("job", calls.read_job_file, seeds.texts(JOB), TEXT),
    Reader(
        "flag file",
        call("command.flags:read_flag_file", as_text=True),
        seeds.texts("--a=1\n# b\n-c 2\n"),
        TEXT,
    ),
    Reader("ONNX file", calls.read_onnx_file, seeds.onnx_files, WIRE, ".onnx"),
    Reader(
        "ONNX import",
        call("importer.onnx_net:import_onnx"),
        seeds.onnx_files,
        WIRE,
        ".onnx",
        share=0.05,
    ),
    Reader("MNIST file", call("tools.convert_mnist:read_idx"), seeds.idx_files, PAGES),
    Reader("CIFAR file", call("tools.convert_cifar:read_cifar_file"), seeds.cifar_files),
    Reader("replay", call("solver.faults.replay:read_replay"), seeds.npz_files, PAGES, ".replay"),
    Reader(
        "torch file",
        call("importer.named_weights:read_tensors"),
        seeds.torch_files,
        PAGES,
        ".pt",
        share=0.5,
    ),
    Reader(
        "safetensors",
        call("importer.named_weights:read_tensors"),
        seeds.safetensors_files,
        PAGES,
        ".safetensors",
    ),
    Reader(
        "map of names",
        call("importer.named_weights:read_map"),
        seeds.texts("conv1 features.0\n'a b'.bias \"c\"  # x\n"),
        TEXT,
    ),
    Reader(
        "net that is built",
        calls.build_net,
        net_seeds,
        (change_message("NetParameter"),),
        ".prototxt",
        share=0.3,
        is_guided=False,
        address_space=600 << 20,
    ),
    Reader(
        "solver that is built",
        calls.build_solver,
        solver_seeds,
        (change_message("SolverParameter"),),
        ".prototxt",
        share=0.1,
        is_guided=False,
        address_space=600 << 20,
    ),
)
BY_NAME = {reader.name: reader for reader in READERS}
