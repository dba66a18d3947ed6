"""Recognizes files of old models by how they begin: nets, solvers, weights, or something else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from google.protobuf.message import DecodeError

from moka.errors import MokaError, UsageError
from moka.files import decode_text, local_path
from moka.hdf5 import FAULTS, import_h5py, is_hdf5
from moka.schema import caffe_pb2
from moka.schema.beginnings import known_beginning
from moka.schema.fields import descriptor_of
from moka.schema.tokens import TextError, Tokens
from moka.schema.wire import LAYER_NUMBERS, wire_fields
from moka.types import PathLike
from moka.weights.recognize import recognize

Kind = Literal["net", "solver", "weights", "other"]
HEAD = 1 << 16  # bytes that tell what a file is
TEXT_SUFFIXES = (".prototxt", ".pbtxt", ".pt")
WEIGHT_SUFFIXES = (".caffemodel", ".h5", ".hdf5")
MODEL_SUFFIXES = (*TEXT_SUFFIXES, *WEIGHT_SUFFIXES, ".solverstate", ".binaryproto")
# What should be a net or weights: if it is anything else, something has gone wrong.
PROMISING = re.compile(r"\.(prototxt|caffemodel)(\.txt|\.h5)?$", re.IGNORECASE)
_NET_FIELDS = frozenset({"layer", "layers", "input", "input_dim", "input_shape"})
_LAYERS = frozenset({"layer", "layers"})
_ONLY_SOLVERS = frozenset(descriptor_of(caffe_pb2.SolverParameter).fields_by_name) - frozenset(
    descriptor_of(caffe_pb2.NetParameter).fields_by_name
)


class File(NamedTuple):
    """A file and what it is.

    Attributes:
        fact: in words, for what is neither net nor weights; "" otherwise.
        is_fault: it cannot be what its name promises.
        advice: what to do about a fault.
    """

    path: str
    kind: Kind
    fact: str = ""
    is_fault: bool = False
    advice: str = ""


def find_files(paths: Iterable[PathLike]) -> Iterator[File]:
    """The files that are named, and those in named folders that belong to models, in order.

    Raises:
        UsageError: a path does not exist.
    """
    seen: set[str] = set()
    for given in paths:
        path = os.fspath(given)
        place = local_path(path)
        if not os.path.exists(place):
            raise UsageError(f"{path}: No such file or directory.")
        found = _models_in(_walk(place)) if os.path.isdir(place) else [recognize_file(place)]
        for file in found:
            if file.path not in seen:
                seen.add(file.path)
                yield file


def find_beside(path: str) -> list[File]:
    """The nets and weights in a file's folder."""
    folder = os.path.dirname(path)
    found = _models_in(os.path.join(folder, name) for name in sorted(os.listdir(folder or ".")))
    return [file for file in found if file.kind in ("net", "weights")]


def _models_in(paths: Iterable[str]) -> Iterator[File]:
    """Classify paths, leaving out files that do not belong to models."""
    for path in paths:
        if _may_belong(path):
            file = recognize_file(path)
            if file.kind != "other" or file.is_fault or _has_suffix(path):
                yield file


def _walk(folder: str) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(place, name) for name in sorted(names) if name[:1] != ".")


def _has_suffix(path: str) -> bool:
    return path.lower().endswith(MODEL_SUFFIXES) or bool(PROMISING.search(path))


def _may_belong(path: str) -> bool:
    """Whether a file's suffix (or the lack of one, or .txt) suggests that it belongs to a model."""
    suffix = os.path.splitext(path)[1]
    return (_has_suffix(path) or suffix in ("", ".txt")) and os.path.isfile(path)


def recognize_file(path: str) -> File:
    """Tell the kind of a file from how it begins. A file that cannot be read is a result, not an
    error."""
    try:
        with open(path, "rb") as opened:
            head = opened.read(HEAD)
    except OSError as error:
        return File(path, "other", f"it cannot be read: {error.strerror}", True)
    promising = bool(PROMISING.search(path))
    if is_hdf5(path):
        kind = _kind_of_hdf5(path)
        return File(path, "weights") if kind is None else File(path, "other", kind, promising)
    if known := known_beginning(head):
        return File(path, "other", known.fact, promising, known.advice)
    if path.lower().endswith(".caffemodel"):
        return File(path, "weights")  # whose reader says best what is wrong
    names = _names_in_text(head)
    if b"\0" in head and not names:
        model = not path.lower().endswith((".solverstate", ".binaryproto")) and _is_model(head)
        return File(path, "weights") if model else _other(path, head, promising)
    if found := _kind_of_text(names, promising):
        return File(path, found)
    if names[:1] in (["item"], ["entry"]):
        return File(path, "other", "this is a label map")
    # In a file that should be a net, the reader of nets names what is wrong.
    return File(path, "net") if promising else _other(path, head, promising)


def _other(path: str, head: bytes, promising: bool) -> File:
    return File(path, "other", recognize(head, parsed=False).fact, promising)


def _kind_of_text(names: list[str], promising: bool) -> Kind | None:
    if not (_NET_FIELDS if promising else _LAYERS).isdisjoint(names):
        return "net"
    return "solver" if not _ONLY_SOLVERS.isdisjoint(names) else None


def _names_in_text(head: bytes) -> list[str]:
    """The names of fields at the top of a prototxt, as far as its beginning has any; none in other
    text."""
    text = decode_text(head)
    if "\0" in text:
        return []
    names: list[str] = []
    tokens = Tokens(text.encode("utf-8", "surrogateescape").decode("latin-1"))
    try:
        while tokens.next.kind == "word":
            name = tokens.advance().text
            if tokens.next.text not in (":", "{", "<"):
                return []
            names.append(name)
            tokens.skip_value()
            if not tokens.skip(";"):
                tokens.skip(",")
    except TextError:
        pass  # the end of what was read, or a fault that reading the net will name
    return names


def _is_model(head: bytes) -> bool:
    """Whether bytes begin as a binary net does: with its name and its layers."""
    try:
        return any(
            field.number in LAYER_NUMBERS and field.wire_type == 2
            for field in wire_fields(head)
            if field.end <= len(head) or field.number in LAYER_NUMBERS
        )
    except DecodeError:
        return False


def _kind_of_hdf5(path: str) -> str | None:
    """A sentence about an HDF5 file that is no model; None for a model."""
    try:
        h5py = import_h5py()
        with h5py.File(path, "r") as opened:
            if isinstance(opened.get("data"), h5py.Group):
                return None
            if {"iter", "history"} <= {*opened}:
                return "this is a solver's state"
            names = ", ".join(map(str, list(opened)[:5])) or "nothing"
            return f"this HDF5 file is no model: it holds {names}"
    except (MokaError, *FAULTS) as error:
        return f"this HDF5 file cannot be read: {error}"
