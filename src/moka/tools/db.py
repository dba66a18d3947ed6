"""`caffe db`: what is in a database, its first records, and whether all of them can be read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import cv2

from moka.command.run import run
from moka.data import datum
from moka.data.ahead import map_ahead
from moka.data.annotated import rows_of
from moka.data.decode import Decode, Decoder
from moka.data.records import KeyValue
from moka.data.store import Store, known_count, open_store
from moka.draw.contact_sheet import Picture, contact_sheet
from moka.errors import DataError, MokaError, UsageError, did_you_mean
from moka.files import write_atomically
from moka.report.progress import progress
from moka.schema import caffe_pb2
from moka.types import PathLike, Shape

SAMPLE = 1000  # encoded records that are decoded to learn their size
LISTED = 20  # labels or shapes that are told one by one
BAR = 40  # characters


@dataclass
class Survey:
    """A summary of a database.

    Attributes:
        backend: "lmdb" or "leveldb".
        disk_bytes: of its files.
        entries: records.
        kinds: "raw", "float", "encoded" or "broken": how many records.
        shapes: (C, H, W) to how many records; of encoded ones only the first SAMPLE.
        labels: label to how many records; those without one are not in it.
        several: the most labels that a record has in `Datum.labels`; 0: one each, in `Datum.label`.
        annotated: AnnotatedDatum records, SSD's.
        boxes: label to how many boxes in them.
    """

    backend: str
    disk_bytes: int
    entries: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    shapes: Counter[Shape] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    several: int = 0
    annotated: int = 0
    boxes: Counter[int] = field(default_factory=Counter)


def survey(store: Store, each: Callable[[int, int | None, str], object] | None = None) -> Survey:
    """Read a database through.

    Args:
        each: called after each record with how many have been read, its label (None: it has none)
            and its kind (see `Survey`).
    """
    found = Survey(store.backend, _disk_bytes(store.path))
    decode = Decoder()
    with progress("records", known_count(store)) as show:
        for key, value in store.read():
            found.entries += 1
            show(found.entries)
            try:
                record, annotated = datum.parse_any(value)
                kind = kind_of(record)
                if kind != "encoded" or found.kinds[kind] < SAMPLE:
                    image = datum.decode(record, decode_encoded=decode, name=_name(key))
                    found.shapes[image.shape] += 1
            except MokaError:
                found.kinds["broken"] += 1
                if each is not None:
                    each(found.entries, None, "broken")
                continue
            found.kinds[kind] += 1
            if each is not None:
                each(found.entries, record.label if record.HasField("label") else None, kind)
            if record.HasField("label"):
                found.labels[record.label] += 1
            found.several = max(found.several, len(record.labels))
            if annotated is not None:
                found.annotated += 1
                groups = annotated.annotation_group
                found.boxes.update(g.group_label for g in groups for _ in g.annotation)
    return found


def kind_of(record: caffe_pb2.Datum) -> str:
    """How an image is stored."""
    return "encoded" if record.encoded else "raw" if record.data else "float"


def broken_records(store: Store) -> Iterator[tuple[str, str]]:
    """Key and fault of each record that a data layer could not read, decoding all of them."""
    decode = Decoder()
    faults = map_ahead(lambda record: _fault(record, decode), store.read(), ahead=64)
    with progress("records", known_count(store)) as show:
        for done, (key, fault) in enumerate(faults, 1):
            show(done)
            if fault:
                yield key, fault


def _fault(record: KeyValue, decode: Decode) -> tuple[str, str]:
    key, value = record
    try:
        datum.decode(datum.parse_any(value).datum, decode_encoded=decode, name=_name(key))
    except MokaError as error:
        return _text(key), str(error)
    return _text(key), ""


def _disk_bytes(path: PathLike) -> int:
    """Bytes on the disk that the database's files take; LMDB's files can be sparse."""
    if os.path.isfile(path):
        return os.stat(path).st_blocks * 512
    return sum(entry.stat().st_blocks * 512 for entry in os.scandir(path) if entry.is_file())


def _text(key: bytes) -> str:
    return key.decode(errors="replace")


def _name(key: bytes) -> str:
    """The name of a record in a warning."""
    return f'record "{_text(key)}"'


# --- the command --------------------------------------------------------------------------


def info(database: str, flags: dict[str, Any]) -> None:
    """Print what a database holds. Raises DataError if a record is broken."""
    found = survey(open_store(database))
    kinds = ", ".join(f"{count} {kind}" for kind, count in found.kinds.most_common())
    print(f"{database}: {found.backend}, {_size(found.disk_bytes)} on disk")
    print(f"entries  {found.entries} ({kinds})")
    sampled = found.kinds["encoded"] > SAMPLE
    print(f"shapes   (C, H, W){f', of the first {SAMPLE} encoded ones' if sampled else ''}")
    for shape, count in found.shapes.most_common(LISTED):
        print(f"{count:>10}  {' x '.join(map(str, shape))}")
    _more(len(found.shapes))
    broken = found.kinds["broken"]
    unlabeled = found.entries - broken - found.labels.total()
    without = f", {unlabeled} without" * bool(unlabeled)
    several = f"; of {found.several} a record the first is counted" * bool(found.several)
    if found.labels or not found.annotated:
        print(f"labels   {len(found.labels)} different{without}{several}")
        _histogram(found.labels)
    if found.annotated:
        total, different = found.boxes.total(), len(found.boxes)
        print(f"boxes    {total} in {found.annotated} AnnotatedDatum, {different} different labels")
        _histogram(found.boxes)
    if broken:
        raise _broken(broken, found.entries, database, f"`caffe db verify {database}` names them.")


def _histogram(labels: Counter[int]) -> None:
    """A line for each label, how often it is there, and a bar."""
    most = max(labels.values(), default=0)
    for label, count in sorted(labels.items())[:LISTED]:
        print(f"{count:>10}  {label:<6} {'#' * round(BAR * count / most)}")
    if _more(len(labels)):
        (often, high), *_, (seldom, low) = labels.most_common()
        print(f"{high:>10}  {often:<6} most\n{low:>10}  {seldom:<6} fewest")


def _broken(count: int, entries: int, database: str, advice: str | None = None) -> DataError:
    return DataError(f"{count} of {entries} records are broken.", file=database, advice=advice)


def _more(count: int) -> bool:
    if count > LISTED:
        print(f"{'...':>10}  and {count - LISTED} more")
    return count > LISTED


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


def head(database: str, flags: dict[str, Any]) -> None:
    """Print the first `-n` records; `-o` draws them. Raises DataError if one is broken."""
    if flags["n"] < 1:
        raise UsageError(f"-n has to be > 0, got {flags['n']}.")
    images, captions, boxes, broken = [], [], [], 0
    for key, value in islice(open_store(database).read(), flags["n"]):
        try:
            record, annotated = datum.parse_any(value)
            image = datum.decode(record, name=_name(key))
        except MokaError as error:
            print(f"{_text(key):<30} {error}")
            broken += 1
            continue
        label = _label(record, annotated)
        shape = " x ".join(map(str, image.shape))
        print(f"{_text(key):<30} {label:>8}  {shape:<15} {kind_of(record)}")
        images.append(image)
        captions.append(label)
        boxes.append(rows_of(annotated or caffe_pb2.AnnotatedDatum()))
    if flags["o"] and images:
        _draw(flags["o"], contact_sheet(images, captions, boxes))
    if broken:
        raise _broken(broken, broken + len(images), database)


def _label(record: caffe_pb2.Datum, annotated: caffe_pb2.AnnotatedDatum | None) -> str:
    if annotated is not None and not record.HasField("label"):
        count = sum(len(group.annotation) for group in annotated.annotation_group)
        return f"{count} box{'es' * (count != 1)}"
    if record.labels:
        return ", ".join(f"{label:g}" for label in record.labels)
    return str(record.label) if record.HasField("label") else "no label"


def _draw(file: str, sheet: Picture) -> None:
    try:
        _, data = cv2.imencode(os.path.splitext(file)[1], sheet)
    except cv2.error:
        raise UsageError(
            f"{file} cannot be drawn.", advice="Its name has to end with .png or .jpg."
        ) from None
    write_atomically(file, lambda out: out.write(data.tobytes()))
    print(f"drawn on {file}")


def verify(database: str, flags: dict[str, Any]) -> None:
    """Decode every record and name each that is broken. Raises DataError if one is."""
    store = open_store(database)
    count = 0
    for key, fault in broken_records(store):
        print(f"{key}: {fault}")
        count += 1
    if count:
        raise _broken(count, len(store), database)
    print(f"{database}: all {len(store)} records can be read.")


ACTIONS = {"info": info, "head": head, "verify": verify}


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe db info|head|verify DB [-n N] [-o FILE]`."""
    return run("db", _act, argv)


def _act(words: list[str], flags: dict[str, Any]) -> None:
    action, database = words
    if action not in ACTIONS:
        raise UsageError(
            f"Unknown action: {action}.",
            advice=did_you_mean(action, ACTIONS) or f"Known are {', '.join(ACTIONS)}.",
        )
    ACTIONS[action](database, flags)
