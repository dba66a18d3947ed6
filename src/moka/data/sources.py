"""What the `source` of a layer that reads images may be beside Caffe's databases and lists."""

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
    """What a layer that reads images has as its source."""

    def __len__(self) -> int:
        """How many there are; counting them may mean reading all."""

    def notes(self) -> list[str]:
        """What the log says of them, line by line."""

    def later_files(self) -> list[str]:
        """Files that batches will need and that nobody has seen yet."""


def open_images(
    source: str, decode: Decode, *, root_folder: str = "", shuffle: bool = False
) -> Images | None:
    """A folder of classes, or tar shards; None: the source is neither, so it is the layer's own.

    Args:
        source: a folder that is no database; tar files, see moka/data/shards.py.
        decode: what is made of the bytes of an image.
        root_folder: put before the source as it is.
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
