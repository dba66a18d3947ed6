"""LevelDB's files: logs, the manifest, and tables, read as they lie on disk.

A database is a set of tables, sorted by key, and a log of what is not in a table yet. The manifest
is a log too; its records are edits of the list of tables. An entry carries a sequence number; of
the entries of one key the highest counts. Numbers are little-endian; a varint has seven bits a
byte, the lowest first. Checksums are not verified.

Format: doc/impl.md, doc/log_format.md and doc/table_format.md of https://github.com/google/leveldb
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from moka.errors import DataError
from moka.files import refuse_if_cut
from moka.types import PathLike
from moka.varint import read_varint

LOG_BLOCK = 32768  # bytes; a record's pieces do not cross the border of a block
LOG_HEADER = 7  # checksum (4), length (2), kind (1)
FULL, FIRST, MIDDLE, LAST = range(1, 5)  # kinds of pieces
FOOTER = 48  # of a table: two handles, filled up to 40 bytes, and the magic number
MAGIC = 0xDB4775248B80FB57
PLAIN, SNAPPY = 0, 1  # kinds of blocks in a table
DELETION, VALUE = 0, 1  # kinds of entries

# Fields of an edit in the manifest, by their tags.
COMPARATOR, LOG_NUMBER, NEXT_FILE, LAST_SEQUENCE = range(1, 5)
COMPACT_POINTER, DELETED_FILE, NEW_FILE = range(5, 8)
PREV_LOG_NUMBER = 9
BYTEWISE = b"leveldb.BytewiseComparator"


class KeyVersion(NamedTuple):
    """One version of a key; the value is None where the key was deleted."""

    key: bytes
    sequence: int
    value: bytes | None


class Table(NamedTuple):
    """A table in the manifest: its level, file number, and smallest key."""

    level: int
    number: int
    smallest: bytes


class Version(NamedTuple):
    """The contents of the database according to the manifest.

    Attributes:
        tables: in no order.
        log_number: logs from this number on count.
        prev_log_number: a log that counts too (0: none).
    """

    tables: list[Table]
    log_number: int
    prev_log_number: int


@contextlib.contextmanager
def _reading(path: PathLike) -> Iterator[None]:
    """Name the file in errors."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(
            f"cannot be read: {error.strerror}.",
            file=path,
            advice="If another process is changing this database, wait for its end; an LMDB"
            " database can be read meanwhile.",
        ) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}.", file=path) from None
    except (IndexError, ValueError, struct.error) as error:
        raise DataError(f"this LevelDB file is broken: {error}.", file=path) from None


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    """The bytes that follow their own length, and the position after them."""
    size, at = read_varint(data, at)
    if at + size > len(data):
        raise ValueError("it ends within a key or value")
    return data[at : at + size], at + size


def read_log_records(path: PathLike) -> Iterator[bytes]:
    """The records of a log. A last record that is incomplete is left out: its writer was stopped.

    Raises:
        DataError: the file cannot be read, or is broken.
    """
    with _reading(path):
        data = Path(path).read_bytes()
        pieces: list[bytes] = []
        for kind, piece in _pieces(data):
            if kind in (FULL, FIRST):
                pieces.clear()
            elif kind not in (MIDDLE, LAST) or not pieces:
                raise ValueError(f"a piece of kind {kind} of a record")
            pieces.append(piece)
            if kind in (FULL, LAST):
                yield b"".join(pieces)
                pieces.clear()


def _pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    for start in range(0, len(data), LOG_BLOCK):
        end = min(start + LOG_BLOCK, len(data))
        at = start
        while at + LOG_HEADER <= end:
            length, kind = struct.unpack_from("<HB", data, at + 4)
            at += LOG_HEADER
            if not kind and not length:  # space that was reserved and not used
                break
            if at + length > end:
                if end == len(data):
                    return
                raise ValueError("a record is longer than its block")
            yield kind, data[at : at + length]
            at += length


def read_batch(record: bytes) -> Iterator[KeyVersion]:
    """The entries in a record of a log: sequence number (8), count (4), and for each its kind, key,
    and, unless it is a deletion, value.

    Raises:
        ValueError, IndexError, struct.error: the record is broken.
    """
    first, count = struct.unpack_from("<QI", record)
    at = 12
    for sequence in range(first, first + count):
        kind = record[at]
        key, at = _text(record, at + 1)
        value = None
        if kind == VALUE:
            value, at = _text(record, at)
        elif kind != DELETION:
            raise ValueError(f"an entry of kind {kind}")
        yield KeyVersion(key, sequence, value)


def read_entries(log: PathLike) -> list[KeyVersion]:
    """All entries in a log of data, sorted. Raises DataError as `read_log_records` does."""
    with _reading(log):
        entries = [entry for record in read_log_records(log) for entry in read_batch(record)]
    return sorted(entries, key=in_order)


def in_order(entry: KeyVersion) -> tuple[bytes, int]:
    """Sort key of entries: by key, then the newest first."""
    return entry.key, -entry.sequence


def read_manifest(path: PathLike) -> Version:
    """Read the manifest of a database.

    Raises:
        DataError: the file cannot be read, or is broken; keys in an order of the user's own.
    """
    tables: dict[tuple[int, int], Table] = {}
    numbers: dict[int, int] = {}
    with _reading(path):
        for edit in read_log_records(path):
            _apply(edit, tables, numbers)
        if LOG_NUMBER not in numbers:
            raise ValueError("it is cut off, or no manifest")
    return Version(list(tables.values()), numbers[LOG_NUMBER], numbers.get(PREV_LOG_NUMBER, 0))


def _apply(edit: bytes, tables: dict[tuple[int, int], Table], numbers: dict[int, int]) -> None:
    """One edit: fields, each after its tag.

    Args:
        tables: by level and file number; changed.
        numbers: by tag; changed.
    """
    at = 0
    while at < len(edit):
        tag, at = read_varint(edit, at)
        if tag == COMPARATOR:
            name, at = _text(edit, at)
            if name != BYTEWISE:
                raise ValueError(f"its keys are sorted by {name.decode(errors='replace')}")
        elif tag in (LOG_NUMBER, NEXT_FILE, LAST_SEQUENCE, PREV_LOG_NUMBER):
            numbers[tag], at = read_varint(edit, at)
        elif tag == COMPACT_POINTER:  # where the next compaction of a level begins
            _, at = read_varint(edit, at)
            _, at = _text(edit, at)
        elif tag == DELETED_FILE:
            level, at = read_varint(edit, at)
            number, at = read_varint(edit, at)
            tables.pop((level, number), None)
        elif tag == NEW_FILE:
            level, at = read_varint(edit, at)
            number, at = read_varint(edit, at)
            _, at = read_varint(edit, at)  # size of the file
            smallest, at = _text(edit, at)
            _, at = _text(edit, at)
            tables[level, number] = Table(level, number, smallest[:-8])
        else:
            raise ValueError(f"an edit with tag {tag}")


def read_sorted_table(path: PathLike) -> Iterator[KeyVersion]:
    """The entries of a table, sorted.

    Raises:
        DataError: the file cannot be read, or is broken; a compression other than Snappy.
    """
    with (
        _reading(path),
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        footer = data[-FOOTER:]
        if len(footer) < FOOTER or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
            raise ValueError("it does not end as a table does")
        at = 0
        for _ in range(2):  # of the index of meta blocks
            _, at = read_varint(footer, at)
        for _, handle in _block_entries(_block(data, footer[at:])):
            for key, value in _block_entries(_block(data, handle)):
                tail = int.from_bytes(key[-8:], "little")
                deleted = tail & 255 == DELETION
                yield KeyVersion(key[:-8], tail >> 8, None if deleted else value)


def _block(data: mmap.mmap, handle: bytes) -> bytes:
    """A block by its handle (offset, size); its kind follows it in the file."""
    offset, at = read_varint(handle, 0)
    size, _ = read_varint(handle, at)
    refuse_if_cut(data)
    content, kind = data[offset : offset + size], data[offset + size]
    if kind == PLAIN:
        return content
    if kind == SNAPPY:
        return _decompress(content)
    raise ValueError(f"a block is compressed in a way that is not known here ({kind})")


def _decompress(content: bytes) -> bytes:
    try:
        import cramjam
    except ImportError:
        raise DataError(
            "reading a compressed LevelDB table needs the package cramjam.",
            advice="pip install cramjam",
        ) from None
    try:
        return bytes(cramjam.snappy.decompress_raw(content))
    except cramjam.DecompressionError as error:
        raise ValueError(f"a block cannot be decompressed ({error})") from None


def _block_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block. A key is stored as what differs from the one before it."""
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise ValueError("a block is shorter than it says")
    at, key = 0, b""
    while at < end:
        shared, at = read_varint(block, at)
        rest, at = read_varint(block, at)
        size, at = read_varint(block, at)
        key = key[:shared] + block[at : at + rest]
        at += rest
        value = block[at : at + size]
        at += size
        if at > end:
            raise ValueError("a block ends within an entry")
        yield key, value
