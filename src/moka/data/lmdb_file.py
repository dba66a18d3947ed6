"""LMDB's file, read as it lies on disk: a B+ tree of pages.

LMDB itself ends the process when it meets a damaged page. This reader raises an error instead; it
also lets threads and forked processes read at once, and writes nothing.

The first two pages are meta pages; the one with the higher transaction number counts. A branch page
holds the numbers of pages below it, a leaf page records in the order of their keys. A value that
is too long for a leaf lies in pages of its own. Numbers are little-endian.

Format: the comments of mdb.c in https://git.openldap.org/openldap/openldap (libraries/liblmdb).
"""

from __future__ import annotations

import mmap
import struct
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from moka.errors import DataError
from moka.files import refuse_if_cut
from moka.types import PathLike

MAGIC, VERSION = 0xBEEFC0DE, 1
PAGE_SIZES = {1 << bits for bits in range(8, 17)}
HEADER = struct.Struct("<QHHHH")  # number of the page, unused, flags, lower, upper
# Magic number, version, (address, size of the map), size of a page, (the rest of the free pages'
# tree), (unused), the main tree: flags, levels, pages of each kind, records, root; (last page),
# transaction.
META = struct.Struct("<II16xI44x4xHHQQQQQ8xQ")
NODE = struct.Struct("<HHHH")  # low and high half of the size, flags, size of the key
BRANCH, LEAF = 1, 2  # kinds of pages, in their flags
WRITING = 0x10  # a flag that means something only while a page is written
BIG, DUPLICATES = 1, 4  # flags of a node in a leaf
NO_PAGE = 2**64 - 1
DEEPEST = 32  # levels of a tree, as in LMDB

FETCH_AGAIN = "Compare its size or checksum with the original and fetch it again."


class Meta(NamedTuple):
    """A meta page: the size of a page in bytes, the pages in use, the number of records,
    the tree's levels and its root, and the transaction that wrote it."""

    page_size: int
    pages: int
    entries: int
    depth: int
    root: int
    transaction: int


class LmdbFile:
    """An LMDB database file, open for reading.

    Raises:
        DataError: it cannot be read, is no LMDB database, or is truncated.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = path
        self._known: tuple[Meta, array[int]] | None = None
        self._data = self._map()
        meta = self.meta()
        expected = meta.pages * meta.page_size
        if len(self._data) < expected:
            raise DataError(
                f"this LMDB database is truncated: {len(self._data)} bytes of at least {expected}.",
                advice=FETCH_AGAIN,
            )

    def _map(self) -> mmap.mmap:
        try:
            with open(self.path, "rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise DataError("this is not an LMDB database: the file is empty.") from None
        except OSError as error:
            raise DataError(f"this LMDB database cannot be read: {error.strerror}.") from None

    def meta(self) -> Meta:
        """Read the newest valid meta page. Raises DataError if there is none."""
        if self._data.size() > len(self._data):
            self._data = self._map()  # somebody has added to the database
        try:
            refuse_if_cut(self._data)
            first = _read_meta(self._data, 0)
            second = _read_meta(self._data, first.page_size)
        except struct.error:
            raise DataError(
                f"this is not an LMDB database: {len(self._data)} bytes are less than a page."
            ) from None
        except ValueError as error:
            raise DataError(f"this is not an LMDB database ({error}).") from None
        return max(first, second, key=lambda meta: meta.transaction)

    def records(self, start: int = 0, step: int = 1) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of every `step`-th record from number `start` on, once through.

        Raises:
            DataError: a page is damaged; the record is named by its number.
        """
        meta = self.meta()
        data = self._data
        number = 0  # of the next leaf's first record
        wanted = start
        try:
            for page, nodes in _leaves(data, meta):
                page_end = page + meta.page_size
                for i in range(wanted - number, len(nodes), step):
                    refuse_if_cut(data)
                    node = page + nodes[i]
                    low, high, flags, key_size = NODE.unpack_from(data, node)
                    begin = node + NODE.size
                    key_end = begin + key_size
                    end = key_end + (low | high << 16)
                    if flags or end > page_end:
                        yield _special_record(data, node, page_end, meta.page_size)
                    else:
                        yield data[begin:key_end], data[key_end:end]
                    wanted += step
                number += len(nodes)
                if number > meta.entries:
                    break
            if number != meta.entries:
                raise ValueError(f"by its own count it holds {meta.entries}")
        except (ValueError, struct.error) as error:
            raise DataError(
                f"this LMDB database is damaged: record {wanted}, counted from 0, cannot be read"
                f" ({error}).",
                advice=FETCH_AGAIN,
            ) from None

    def pick(self, numbers: Iterable[int]) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of the records of these numbers, in this order.

        The first time all pages of keys are read, to know where each record lies.

        Raises:
            DataError: a page is damaged.
        """
        meta = self.meta()
        data, size, number = self._data, meta.page_size, 0
        try:
            nodes = self._nodes(meta)
            for number in numbers:
                refuse_if_cut(data)
                node = nodes[number]
                yield _special_record(data, node, node - node % size + size, size)
        except (ValueError, struct.error, IndexError) as error:
            raise DataError(
                f"this LMDB database is damaged: record {number}, counted from 0, cannot be read"
                f" ({error}).",
                advice=FETCH_AGAIN,
            ) from None

    def _nodes(self, meta: Meta) -> array[int]:
        """Where each record begins in the file."""
        if self._known is None or self._known[0] != meta:
            pages = _leaves(self._data, meta)
            found = array("Q", (page + node for page, nodes in pages for node in nodes))
            self._known = (meta, found)
        return self._known[1]


def _read_meta(data: mmap.mmap, page: int) -> Meta:
    """Read a meta page. Raises ValueError or struct.error if this is none."""
    magic, version, page_size, flags, depth, branches, leaves, long, entries, root, transaction = (
        META.unpack_from(data, page + HEADER.size)
    )
    if (magic, version) != (MAGIC, VERSION):
        raise ValueError("it does not begin as one does")
    if page_size not in PAGE_SIZES or depth > DEEPEST or flags & DUPLICATES:
        raise ValueError("its first pages make no sense")
    return Meta(page_size, 2 + branches + leaves + long, entries, depth, root, transaction)


def _leaves(data: mmap.mmap, meta: Meta) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Where each leaf page begins, and where its records begin in it; in order."""
    if meta.root == NO_PAGE:
        return
    if not meta.depth:
        raise ValueError("the tree has pages but no levels")
    path = [iter((meta.root,))]  # on each level down to here, the pages that are still to come
    while path:
        number = next(path[-1], None)
        if number is None:
            path.pop()
        elif len(path) == meta.depth:
            yield _read_page(data, number, LEAF, meta.page_size)
        else:
            page, nodes = _read_page(data, number, BRANCH, meta.page_size)
            path.append(iter([_page_below(data, page + node) for node in nodes]))


def _read_page(
    data: mmap.mmap, number: int, kind: int, page_size: int
) -> tuple[int, tuple[int, ...]]:
    """Where a page begins, and where its nodes begin in it. Raises ValueError unless it is of a
    kind."""
    refuse_if_cut(data)
    page = number * page_size
    if page + page_size > len(data):
        raise ValueError(f"the file ends before page {number}")
    own_number, _, flags, lower, _ = HEADER.unpack_from(data, page)
    if own_number != number or flags & ~WRITING != kind:
        raise ValueError(f"page {number} is no {'leaf' if kind == LEAF else 'branch'}")
    count = (lower - HEADER.size) // 2
    if not 0 < count <= page_size // NODE.size:
        raise ValueError(f"a page has {count} entries")
    return page, struct.unpack_from(f"<{count}H", data, page + HEADER.size)


def _page_below(data: mmap.mmap, node: int) -> int:
    """The number of the page that a node of a branch leads to."""
    low, middle, high, _ = NODE.unpack_from(data, node)
    return int(low | middle << 16 | high << 32)


def _special_record(
    data: mmap.mmap, node: int, page_end: int, page_size: int
) -> tuple[bytes, bytes]:
    """Key and value of a node in a leaf page whose value may lie in pages of its own."""
    low, high, flags, key_size = NODE.unpack_from(data, node)
    size = low | high << 16
    key_end = begin = node + NODE.size + key_size
    end = page_end
    if flags == BIG:
        (number,) = struct.unpack_from("<Q", data, key_end)
        begin, end = number * page_size + HEADER.size, len(data)
    elif flags & DUPLICATES:
        raise ValueError("it has several values for one key")
    if key_end > page_end or begin + size > end:
        raise ValueError("its key or value is longer than its place")
    return data[node + NODE.size : key_end], data[begin : begin + size]
