"""A data set for training and testing, of a folder of classes, a list or a database:
`caffe make_data SOURCE FOLDER`."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from moka.command.run import run
from moka.data import datum
from moka.data.decode import decode_image
from moka.data.folder import ClassFolder, find_classes
from moka.data.images import read_image_list
from moka.data.lists import read_names
from moka.data.records import KeyValue
from moka.data.store import check_backend, is_database, make_store, open_store
from moka.errors import DataError, MokaError, UsageError
from moka.files import write_text_file
from moka.report.progress import progress
from moka.schema import caffe_pb2
from moka.tools.convert_imageset import convert_imageset
from moka.tools.image_mean import compute_image_mean
from moka.tools.image_records import (
    AS_IT_IS,
    SAY_EVERY,
    StoredForm,
    check_resize_mode,
    encode_image,
)
from moka.types import PathLike

log = logging.getLogger("moka")
detail = logging.getLogger("moka.detail")

SUMMARY, LABELS, MEAN = "data.json", "labels.txt", "mean.binaryproto"
PHASES = ("train", "test")


@dataclass
class Made:
    """What a data set holds; its data.json.

    Attributes:
        source, kind: what it was made of: "folder", "list" or "database".
        records: how many, by phase.
        counts: by phase, how many of each label.
        left_out: how many images could not be read.
        classes: their names by label; empty where the source has none.
        mean: whether there is a mean image.
    """

    source: str
    kind: str
    records: dict[str, int] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    left_out: int = 0
    classes: list[str] = field(default_factory=list)
    mean: bool = False


def kind_of_source(source: PathLike) -> str:
    """ "database", "folder" or "list". Raises DataError if there is nothing."""
    if not os.path.exists(source):
        raise DataError("No such file or directory.", file=source)
    if os.path.isdir(source):
        return "database" if is_database(source) else "folder"
    return "list"


def class_names(source: PathLike) -> list[str]:
    """The names of the classes of a folder of classes, or of a data set or database that
    `make_data` has made; empty where nothing tells them."""
    place = Path(source)
    is_base = place.is_dir() and is_database(place)
    for listed in (place / LABELS, *([place.parent / LABELS] if is_base else [])):
        if listed.is_file():
            return read_names(listed)
    try:
        return [] if is_base or not place.is_dir() else find_classes(place)
    except DataError:
        return []


def write_class_names(folder: Path, names: Sequence[str]) -> None:
    """Keep names of classes where `class_names` finds them, a line for each: line breaks in a name
    become blanks, and a name of blanks alone becomes the class's number."""
    lines = [" ".join(name.split()) or str(label) for label, name in enumerate(names)]
    text = "".join(f"{line}\n" for line in lines)
    write_text_file(folder / LABELS, text)


def make_data(
    source: PathLike,
    folder: PathLike,
    *,
    root: str = "",
    form: StoredForm = AS_IT_IS,
    backend: str = "lmdb",
    test_percent: float = 20.0,
    seed: int = 0,
    with_mean: bool = True,
) -> Made:
    """Make databases for training and testing in a new folder, in a random order.

    Args:
        source: a folder of classes, a list, or a database.
        root: before each path of a list, with a slash between; "": the list's folder.
        form: how images are stored. A database's records stay as they are if nothing is asked for.
        test_percent: of each label, held out for testing; at least one stays for training.
        seed: of the order and of the division; the same one makes the same data set.
        with_mean: write the mean image, unless images differ in size.

    Raises:
        DataError: nothing to make it of, a folder that is there already; see `convert_imageset`.
        UsageError: a percentage out of range.
    """
    if not 0 <= test_percent < 100:
        raise UsageError(f"-test has to be from 0 to below 100, got {test_percent:g}.")
    kind = kind_of_source(source)
    target = Path(folder)
    if target.exists():
        raise DataError("is there already.", file=target, advice="Choose another name.")
    make = _of_database if kind == "database" else _of_files
    target.mkdir(parents=True)
    made = Made(os.fspath(source), kind)
    try:
        make(made, target, root, form, backend, _Division(test_percent, seed))
        if with_mean:
            made.mean = _write_mean(target, backend)
        text = json.dumps(asdict(made), indent=1)
        (target / SUMMARY).write_text(text + "\n")
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    log.info("Made %s: %s", target, ", ".join(f"{n} {p}" for p, n in made.records.items()))
    return made


class _Division:
    """Divides examples among training and testing, label by label."""

    def __init__(self, percent: float, seed: int) -> None:
        self._part = percent / 100
        self._seed = seed

    def of(self, labels: Sequence[int]) -> dict[str, list[int]]:
        """The numbers of the examples of each phase, in a random order; a phase without any is
        left out."""
        rng = np.random.default_rng(self._seed)
        by_label: dict[int, list[int]] = defaultdict(list)
        for number in rng.permutation(len(labels)).tolist():
            by_label[labels[number]].append(number)
        tests: set[int] = set()
        for numbers in by_label.values():
            tests.update(numbers[: min(len(numbers) - 1, round(len(numbers) * self._part))])
        order = rng.permutation(len(labels)).tolist()
        divided = {
            "train": [n for n in order if n not in tests],
            "test": [n for n in order if n in tests],
        }
        return {phase: numbers for phase, numbers in divided.items() if numbers}


def _of_files(
    made: Made, target: Path, root: str, form: StoredForm, backend: str, division: _Division
) -> None:
    if made.kind == "folder":
        images = ClassFolder(made.source, decode_image)
        made.classes, files = images.classes, images.files
        root = os.path.join(made.source, "")
        write_class_names(target, made.classes)
    else:
        files = read_image_list(made.source)
        root = os.path.join(root or os.path.dirname(made.source) or ".", "")
    split = division.of([file.label for file in files])
    _say(split)
    for phase, numbers in split.items():
        chosen = [files[i] for i in numbers]
        listed = target / f"{phase}.txt"
        lines = "".join(f"{file.path} {file.label}\n" for file in chosen)
        write_text_file(listed, lines)
        done = convert_imageset(
            root, listed, target / f"{phase}_{backend}", form=form, backend=backend
        )
        made.records[phase] = done.records
        made.left_out += done.left_out
        made.counts[phase] = _counted(file.label for file in chosen)


def _of_database(
    made: Made, target: Path, root: str, form: StoredForm, backend: str, division: _Division
) -> None:
    store = open_store(made.source)
    labels = [_label(value, form, made.source) for _, value in store.read()]
    split = division.of(labels)
    _say(split)
    phase_of = {n: phase for phase, numbers in split.items() for n in numbers}
    place = {n: i for numbers in split.values() for i, n in enumerate(numbers)}
    writers = {phase: make_store(target / f"{phase}_{backend}", backend) for phase in split}
    counts: dict[str, Counter[int]] = {phase: Counter() for phase in split}
    for writer in writers.values():
        writer.__enter__()
    fault: BaseException | None = None
    try:
        with progress("records", len(labels)) as show:
            for number, record in enumerate(store.read()):
                phase = phase_of[number]
                stored = _stored(record, form)
                show(number + 1)
                if (number + 1) % SAY_EVERY == 0:
                    detail.info("Processed %d files.", number + 1)
                if stored is None:
                    made.left_out += 1
                    continue
                writers[phase].put(b"%08d" % place[number], stored)
                counts[phase][labels[number]] += 1
    except BaseException as error:
        fault = error
        raise
    finally:
        for writer in writers.values():
            writer.__exit__(type(fault) if fault else None, fault, None)
    made.records = {phase: counter.total() for phase, counter in counts.items()}
    made.counts = {phase: _counted(counter.elements()) for phase, counter in counts.items()}


def _label(value: bytes, form: StoredForm, source: PathLike) -> int:
    """The label of a record. Raises DataError for boxes that the form would move."""
    record, annotated = datum.parse_any(value)
    if annotated is not None and form.asks_for_size and form.resize_mode != "squash":
        raise DataError(
            "its images have boxes, which stay in place by -resize_mode=squash alone.", file=source
        )
    return record.label


def _stored(record: KeyValue, form: StoredForm) -> bytes | None:
    """A record in its new form, with its boxes if it has any; None if its image cannot be read."""
    key, value = record
    name = key.decode(errors="replace")
    try:
        old, annotated = datum.parse_any(value)
        image = datum.decode(old, name=name)
        if form == AS_IT_IS:
            return value
        image = form.converted(image)
        label = old.label if annotated is None or old.HasField("label") else datum.NO_LABEL
        if form.encode_type:
            data = encode_image(image, form.encode_type, name)
            new = caffe_pb2.Datum(data=data, label=label, encoded=True)
        else:
            new = datum.encode(image, label)
        if annotated is None:
            return new.SerializeToString()
        annotated.datum.CopyFrom(new)
        return annotated.SerializeToString()
    except MokaError as error:
        log.error("%s", error)
        return None


def _say(split: Mapping[str, Sequence[int]]) -> None:
    """The line from which a reader of the log knows how much there is to do."""
    told = ", ".join(f"{len(numbers)} for {phase}" for phase, numbers in split.items())
    log.info("Dividing %d images: %s.", sum(map(len, split.values())), told)


def _counted(labels: Iterable[int]) -> dict[str, int]:
    return {str(label): count for label, count in sorted(Counter(labels).items())}


def _write_mean(target: Path, backend: str) -> bool:
    try:
        compute_image_mean(target / f"train_{backend}", target / MEAN)
    except DataError as error:
        log.warning("There is no mean image: %s", error)
        return False
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe make_data [FLAGS] SOURCE FOLDER`."""
    return run("make_data", _make, argv)


def _make(words: list[str], flags: dict[str, Any]) -> None:
    check_backend(flags["backend"])
    check_resize_mode(flags["resize_mode"])
    if bool(flags["resize_height"]) != bool(flags["resize_width"]):
        raise UsageError("-resize_height and -resize_width go together.")
    form = StoredForm(
        color=not flags["gray"],
        height=flags["resize_height"],
        width=flags["resize_width"],
        encoded=bool(flags["encode_type"]),
        encode_type=flags["encode_type"],
        resize_mode=flags["resize_mode"],
    )
    made = make_data(
        *words,
        root=flags["root"],
        form=form,
        backend=flags["backend"].lower(),
        test_percent=flags["test"],
        seed=flags["seed"],
        with_mean=flags["mean"],
    )
    if made.left_out:
        log.warning("%d images are left out, since they cannot be read.", made.left_out)
