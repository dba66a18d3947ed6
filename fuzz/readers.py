"""Every reader of files that come from outside: how it is called, and what it is given.

Readers are imported when they are called, so that a process has the modules of its own reader only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import seeds
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


def call(place: str, *more: Any, as_text: bool = False, **named: Any) -> Callable[[Path], object]:
    """Calls a function, `module:name`, with the file and further arguments.

    Args:
        as_text: give it the file's name as a string.
    """
    module, _, name = place.partition(":")

    def read(file: Path) -> object:
        function = getattr(import_module(f"moka.{module}"), name)
        return function(str(file) if as_text else file, *more, **named)

    return read


WIRE: tuple[Mutate, ...] = (mutate_wire, mutate_wire, mutate_bytes)
TEXT: tuple[Mutate, ...] = (mutate_text,)
PAGES: tuple[Mutate, ...] = (mutate_numbers, mutate_numbers, mutate_bytes)


class OneRecord:
    """A store of a single record: the bytes of a file."""

    backend = "lmdb"

    def __init__(self, file: Path) -> None:
        self.path = file
        self._record = (b"key", file.read_bytes())

    def __len__(self) -> int:
        return 1

    def read(self, start: int = 0, step: int = 1) -> Iterator[tuple[bytes, bytes]]:
        yield self._record

    def pick(self, numbers: Iterable[int]) -> Iterator[tuple[bytes, bytes]]:
        for _ in numbers:
            yield self._record


def read_record(place: str) -> Callable[[Path], object]:
    """Reads a record by the class at this place, `module:name`."""
    module, _, name = place.partition(":")

    def read(file: Path) -> None:
        from moka.data.decode import Decoder

        store = OneRecord(file)
        records = getattr(import_module(f"moka.data.{module}"), name)
        records(store, Decoder(color=True)).load(list(store.read()))

    return read


def read_net(file: Path) -> None:
    from moka.checks.files import recognize_file
    from moka.schema import caffe_pb2, read_text
    from moka.schema.upgrade import upgrade_net

    upgrade_net(read_text(file, caffe_pb2.NetParameter), file)
    recognize_file(str(file))


def read_solver(file: Path) -> None:
    from moka.schema import caffe_pb2, read_text
    from moka.schema.upgrade import upgrade_solver

    upgrade_solver(read_text(file, caffe_pb2.SolverParameter), file)


@cache
def _net() -> Any:
    from moka.net import build_net

    file = seeds.scratch("net.prototxt", seeds.NET.encode())
    return build_net(file)


def read_weights(file: Path) -> None:
    from moka.checks.files import recognize_file
    from moka.weights import load_weights, read_model
    from moka.weights.shapes import stored_shapes

    recognize_file(str(file))
    stored_shapes(file)
    read_model(file)
    load_weights(_net(), file, say_what_is_missing=False)


def read_hdf5_weights(file: Path) -> None:
    from moka.checks.files import recognize_file
    from moka.weights import load_weights
    from moka.weights.shapes import stored_shapes

    recognize_file(str(file))
    stored_shapes(file)
    load_weights(_net(), file, say_what_is_missing=False)


def read_hdf5_rows(file: Path) -> None:
    from moka.data.hdf5 import read_datasets

    read_datasets(file, ["data", "label"])


def read_lmdb(file: Path) -> None:
    from moka.data.lmdb import LmdbStore

    store = LmdbStore(file)
    for _, value in store.read():
        len(value)
    list(store.pick(range(min(3, len(store)))))


def leveldb_with(name: str) -> Callable[[Path], object]:
    """Reads a database whose file of this kind is the input."""

    def read(file: Path) -> None:
        from moka.data.leveldb import LevelDbStore

        folder = file.parent / f"db{name}"
        files = seeds.leveldb_files()
        if not folder.exists():
            folder.mkdir()
            for own, data in files.items():
                (folder / own).write_bytes(data)
        (changed,) = [own for own, data in files.items() if name in own and data]
        (folder / changed).write_bytes(file.read_bytes())
        for _, value in LevelDbStore(folder).read():
            len(value)

    return read


def read_any_image(file: Path) -> None:
    from moka.data.images import read_image
    from moka.web.uploads import read_upload

    data = file.read_bytes()
    for color in (None, True, False):
        read_image(file, color=color, size=(5, 7) if color else None)
    read_upload(data)


def read_shards(file: Path) -> None:
    from moka.data.decode import Decoder
    from moka.data.shards import TarShards

    shards = TarShards(str(file), Decoder(color=True))
    for k in range(min(4, len(shards))):
        shards.load([shards._record(k)])


def read_any_log(file: Path) -> None:
    from moka.report.log_file import read_log
    from moka.tools.parse_log import parse_log
    from moka.web.jobs.logs import LogFile, looks_like_a_log

    looks_like_a_log(file)
    LogFile(file).update()
    read_log(file)
    parse_log(file)


def read_onnx_file(file: Path) -> None:
    from moka.importer.onnx_file import read_onnx

    for node in read_onnx(file).nodes:
        str(node)


def read_param_str(file: Path) -> None:
    from moka.layers.detection.param_str import parse_param_str

    parse_param_str(file.read_text("utf-8", "replace"))


def paste(file: Path) -> None:
    from moka.checks.pasted import check_text

    check_text(file.read_text("utf-8", "replace"))


def read_job_file(file: Path) -> None:
    from moka.web.jobs.job import read_job

    (file.parent / "job.json").write_bytes(file.read_bytes())
    read_job(file.parent)


def build_net(file: Path) -> None:
    import nets

    nets.build(file)


def build_solver(file: Path) -> None:
    import nets

    nets.build_solver(file)


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
    Reader("prototxt", read_net, seeds.prototxts, TEXT, ".prototxt"),
    Reader("solver prototxt", read_solver, seeds.texts(seeds.SOLVER), TEXT, ".prototxt"),
    Reader("pasted net", paste, seeds.texts(seeds.NET, seeds.V1_NET), TEXT, share=0.3),
    Reader("caffemodel", read_weights, seeds.caffemodels, WIRE, ".caffemodel"),
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
    Reader("caffemodel.h5", read_hdf5_weights, seeds.hdf5_models, PAGES, ".caffemodel.h5"),
    Reader(
        "solverstate.h5",
        call("solver.snapshots.state_file:read_state"),
        seeds.hdf5_states,
        PAGES,
        ".solverstate.h5",
    ),
    Reader("HDF5 rows", read_hdf5_rows, seeds.hdf5_rows, PAGES, ".h5"),
    Reader("LMDB", read_lmdb, seeds.lmdbs, PAGES, ".mdb"),
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
    Reader("image", read_any_image, seeds.images, PAGES, ".img", may_print=True),
    Reader("tar shard", read_shards, seeds.tars, PAGES, ".tar", may_print=True),
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
        read_param_str,
        seeds.texts("'a': 16\n'b': !!python/tuple [4, 8]", "{'x': {'y': 1}, z: yes}"),
        TEXT,
    ),
    Reader("labels", call("predict.labels:read_labels", None), seeds.texts(LABELS), TEXT),
    Reader("log", read_any_log, seeds.texts(seeds.GLOG, seeds.RECORDS), TEXT, ".log"),
    Reader("job", read_job_file, seeds.texts(JOB), TEXT),
    Reader(
        "flag file",
        call("command.flags:read_flag_file", as_text=True),
        seeds.texts("--a=1\n# b\n-c 2\n"),
        TEXT,
    ),
    Reader("ONNX file", read_onnx_file, seeds.onnx_files, WIRE, ".onnx"),
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
        build_net,
        net_seeds,
        (change_message("NetParameter"),),
        ".prototxt",
        share=0.3,
        is_guided=False,
        address_space=600 << 20,
    ),
    Reader(
        "solver that is built",
        build_solver,
        solver_seeds,
        (change_message("SolverParameter"),),
        ".prototxt",
        share=0.1,
        is_guided=False,
        address_space=600 << 20,
    ),
)
BY_NAME = {reader.name: reader for reader in READERS}
