"""Kinds of `source` of image layers beside Caffe's databases and lists."""

from __future__ import annotations

import os
from typing import Any, Protocol

from moka.data.batches import Examples
from moka.data.decode import Decode
from moka.data.folder import ClassFolder
from moka.data.shards import TarShards, is_shards
from moka.data.store import is_database
from moka.files import local_path


class Images(Examples[Any], Protocol):
    """A source of labeled images for a layer."""

    def __len__(self) -> int:
        """How many there are; counting them may mean reading all."""

    def notes(self) -> list[str]:
        """Lines about them for the log."""

    def later_files(self) -> list[str]:
        """Files that batches will need and that nothing has checked yet."""


def open_images(
    source: str, decode: Decode, *, root_folder: str = "", shuffle: bool = False
) -> Images | None:
    """A folder of classes, or tar shards; None if the source is neither: then it is the kind that
    the layer itself reads.

    Args:
        source: a folder that is no database; tar files, see moka/data/shards.py.
        decode: makes an image of a file's bytes.
        root_folder: prefix of the source; no slash is added.
        shuffle: a new order in each epoch, by the seed.

    Raises:
        DataError: nothing is there, or no images.
    """
    source, path = local_path(source), local_path(root_folder + source)
    if is_shards(source):
        return TarShards(path, decode, shuffle=shuffle)
    is_folder = os.path.isdir(source) or (os.path.isdir(path) and not os.path.isfile(source))
    if is_folder and not is_database(path):
        return ClassFolder(path, decode, shuffle=shuffle)
    return None
