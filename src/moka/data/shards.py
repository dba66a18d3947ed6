"""Tar shards of labeled images, in the form of the library WebDataset.

In a shard the files whose paths agree up to the first dot of the name are the parts of one example:
`0001.jpg` is the image of example `0001`, `0001.cls` its label. A part `.cls` is text: one number,
or several with blanks between. Where there is none, a part `.json` holds an object with the number,
or a list of numbers, as "label" or "cls". Other parts are left aside.

A shard's headers are read once, to know where each part lies; then any example is read directly.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import json
import os
import re
import tarfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moka.data.ahead import map_ahead
from moka.data.batches import Loaded
from moka.data.decode import Decode, Image
from moka.data.images import IMAGE_SUFFIXES
from moka.data.order import example_indices
from moka.errors import DataError
from moka.types import PathLike

LABELS = ("cls", "json")  # parts that hold a label; the first one there counts
JSON_FIELDS = ("label", "cls")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")
SHOWN = 40  # bytes of a part that is no label
BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


class Span(NamedTuple):
    """Where a part lies in its shard, in bytes."""

    offset: int
    size: int


class Example(NamedTuple):
    """Where an example lies; `form` is the label's, one of LABELS."""

    shard: str
    key: str
    image: Span
    label: Span
    form: str


class Index(NamedTuple):
    """The examples of a shard, one entry of each array an example.

    Attributes:
        keys: in UTF-8.
        spans: (N, 4), offset and size of the image, offset and size of the label.
        forms: of the label, indices into LABELS.
    """

    keys: NDArray[np.bytes_]
    spans: NDArray[np.int64]
    forms: NDArray[np.int8]


def is_shards(source: str) -> bool:
    """Whether a name or pattern names tar files."""
    return source.lower().endswith((".tar", *COMPRESSED))


def find_shards(pattern: str) -> list[str]:
    """The files that a pattern names. Braces hold a range, {000..127}, or alternatives, {a,b}; each
    of these files has to exist. Then *, ? and [...] match existing files, sorted.

    Raises:
        DataError: nothing is there; a compressed file.
    """
    if os.path.exists(pattern):  # whatever signs it is made of
        return [_uncompressed(pattern)]
    found = []
    for name in dict.fromkeys(expand_braces(pattern)):
        files = [name] if os.path.exists(name) else sorted(glob.glob(name))
        if not files:
            raise DataError("there is no such tar file.", file=name)
        found += files
    return [_uncompressed(file) for file in found]


def expand_braces(pattern: str) -> list[str]:
    """{08..10} to 08, 09, 10 (as wide as written if with a leading 0), {a,b} to a, b."""
    braces = BRACES.search(pattern)
    if braces is None:
        return [pattern]
    first, last, alternatives = braces.groups()
    if alternatives is not None:
        texts = alternatives.split(",")
    else:
        padded = any(end.startswith("0") and len(end) > 1 for end in (first, last))
        width = max(len(first), len(last)) if padded else 0
        step = 1 if int(first) <= int(last) else -1
        texts = [f"{n:0{width}}" for n in range(int(first), int(last) + step, step)]
    head, tail = pattern[: braces.start()], pattern[braces.end() :]
    return [name for text in texts for name in expand_braces(head + text + tail)]


def _uncompressed(file: str) -> str:
    if file.lower().endswith(COMPRESSED):
        raise DataError(
            "a compressed tar file cannot be read at any place of it.",
            file=file,
            advice="Decompress it; images are compressed by themselves.",
        )
    return file


@contextlib.contextmanager
def _reading(shard: str) -> Iterator[None]:
    """Name the shard in errors."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}.", file=shard) from None
    except tarfile.TarError as error:
        raise DataError(
            f"this is not a complete tar file ({error}).",
            file=shard,
            advice="It may be cut off, or compressed.",
        ) from None
    except DataError as error:
        raise error.at(file=shard) from None


def read_index(shard: str) -> Index:
    """Read the headers of a shard.

    Raises:
        DataError: it cannot be read, is broken or cut off, or holds no example; an example without
            an image or a label.
    """
    with _reading(shard), open(shard, "rb") as file:
        examples = [_example(key, parts, shard) for key, parts in _read_parts(file).items()]
    found = [example for example in examples if example is not None]
    if not found:
        raise DataError(
            "it holds no example: an image such as 0001.jpg with its label, 0001.cls.", file=shard
        )
    return Index(
        np.array([os.fsencode(example.key) for example in found]),
        np.array([example.image + example.label for example in found], np.int64),
        np.array([LABELS.index(example.form) for example in found], np.int8),
    )


def _read_parts(file: BinaryIO) -> dict[str, dict[str, Span]]:
    """The files of a tar by key, then suffix.

    Raises:
        DataError: two files of one name; no end mark.
        TarError: the file is broken.
    """
    found: dict[str, dict[str, Span]] = {}
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            folder, slash, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            if not stem or not member.isreg() or member.issparse():
                continue
            key, suffix = folder + slash + stem, suffix.lower()
            parts = found.setdefault(key, {})
            if suffix in parts:
                raise DataError(f'example "{key}" has two parts {suffix}.')
            parts[suffix] = Span(member.offset_data, member.size)
        file.seek(tar.offset)  # tarfile takes whatever it does not understand for the end
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"no file header and no end mark at byte {tar.offset}")
    return found


def _example(key: str, parts: dict[str, Span], shard: str) -> Example | None:
    """The example of some parts; None if they are neither images nor labels."""
    images = [suffix for suffix in parts if suffix in IMAGE_SUFFIXES]
    labels = [suffix for suffix in LABELS if suffix in parts]
    if not images and not labels:
        return None
    listed = ", ".join(parts)
    if len(images) != 1:
        count = "no image" if not images else f"{len(images)} images"
        raise DataError(f'example "{key}" has {count}; its parts are: {listed}.')
    if not labels:
        raise DataError(f'example "{key}" has no label, cls or json; its parts are: {listed}.')
    return Example(shard, key, parts[images[0]], parts[labels[0]], labels[0])


class TarShards:
    """The examples of tar shards, in an endless loop, as Data and ImageData layers read them.

    Args:
        pattern: see `find_shards`.
        decode: makes an image of a file's bytes.
        shuffle: a new order of all examples in each epoch, by the seed.

    Raises:
        DataError: as `find_shards` and `read_index`.
    """

    noun = "example"

    def __init__(self, pattern: str, decode: Decode, *, shuffle: bool = False) -> None:
        self.path: PathLike = pattern
        self.shards = find_shards(pattern)
        self.indices = list(map_ahead(read_index, self.shards))
        self.ends = list(itertools.accumulate(len(index.keys) for index in self.indices))
        self.decode = decode
        self.shuffle = shuffle

    def __len__(self) -> int:
        return self.ends[-1]

    def notes(self) -> list[str]:
        """How many examples there are."""
        return [f"{len(self)} images in {len(self.shards)} tar files."]

    def later_files(self) -> list[str]:
        """No files: all shards have been opened."""
        return []

    def name(self, record: Example) -> str:
        return f"{record.shard}/{record.key}"

    def records(self, start: int, seed: int | None, step: int = 1) -> Iterator[Example]:
        order = example_indices(len(self), start, step, shuffle=self.shuffle, seed=seed)
        return (self._record(i) for i in order)

    def _record(self, number: int) -> Example:
        shard = bisect_right(self.ends, number)
        index = self.indices[shard]
        at = number - self.ends[shard]  # from the shard's end, so negative
        span = index.spans[at].tolist()
        key = os.fsdecode(index.keys[at])
        form = LABELS[index.forms[at]]
        return Example(self.shards[shard], key, Span(*span[:2]), Span(*span[2:]), form)

    def load(self, records: Sequence[Example]) -> Loaded:
        images: list[Image] = []
        labels: list[NDArray[np.float32]] = []
        for shard, run in itertools.groupby(records, attrgetter("shard")):
            with _reading(shard), open(shard, "rb") as file:
                for record in run:
                    image, label = self._load(record, file)
                    if labels and label.shape != labels[0].shape:
                        raise DataError(
                            f'example "{record.key}" has {label.size} labels, but example'
                            f' "{records[0].key}" has {labels[0].size}.'
                        )
                    images.append(image)
                    labels.append(label)
        return Loaded(images, np.array(labels, np.float32))

    def _load(self, record: Example, shard: BinaryIO) -> tuple[Image, NDArray[np.float32]]:
        try:
            image = self.decode(_read(shard, record.image), self.name(record))
            return image, parse_label(_read(shard, record.label), record.form)
        except DataError as error:
            error.message = f'example "{record.key}": {error.message}'
            raise


def _read(shard: BinaryIO, span: Span) -> bytes:
    shard.seek(span.offset)
    data = shard.read(span.size)
    if len(data) < span.size:
        raise DataError("the shard ends within it.")
    return data


def parse_label(data: bytes, form: str) -> NDArray[np.float32]:
    """A label, (), or several, (n,).

    Args:
        data: a part of an example.
        form: which part, one of LABELS.

    Raises:
        DataError: there is no number in it.
    """
    try:
        if form == "json":
            label = np.array(_json_label(data))
        else:
            label = np.array([float(word) for word in data.split()])
    except (ValueError, OverflowError, RecursionError):
        label = np.array([])
    is_number = label.dtype.kind in "iuf" and label.ndim <= 1 and label.size
    if not is_number or not (abs(label) <= np.finfo(np.float32).max).all():
        text = data[:SHOWN].decode(errors="replace")
        wanted = "an object with a number as label" if form == "json" else "a number, or several"
        raise DataError(f"its part {form}, {text!r}, is not {wanted}.")
    return label.astype(np.float32).reshape(() if label.size == 1 else -1)


def _json_label(data: bytes) -> object:
    """The label in a JSON object. Raises ValueError if it has none."""
    value = json.loads(data)
    for field in JSON_FIELDS:
        if isinstance(value, dict) and field in value:
            return value[field]
    raise ValueError("no label")
