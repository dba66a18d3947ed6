"""How the readers of files from outside are called: each function here reads all of a file.

Readers are imported when they are called, so that a process has the modules of its own reader only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import seeds


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


def read_video(file: Path) -> object:
    """The first frames of a video."""
    from moka.data.decode import Decoder
    from moka.data.videos import read_frames

    return read_frames(str(file), 1, 2, Decoder())


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
