"""A folder with a subfolder of images for each class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

from moka.data.decode import Decode
from moka.data.images import IMAGE_SUFFIXES, ImageFiles, Labeled
from moka.errors import DataError
from moka.types import PathLike

CLASSES_NAMED = 20  # in the notes, at most


class ClassFolder(ImageFiles):
    """The images in a folder's subfolders, whose names are the classes: cat/a.jpg, dog/big/b.png.

    The classes have the labels 0, 1, ... in the order of their sorted names, as torchvision's
    ImageFolder numbers them; the images of a class follow each other by folder and name. An image
    is a file with one of IMAGE_SUFFIXES, at any depth; names that begin with a dot are left out.

    Args:
        path: the folder.
        decode, shuffle: see ImageFiles.

    Raises:
        DataError: a folder that cannot be read, one without subfolders, a class without images.
    """

    def __init__(self, path: PathLike, decode: Decode, *, shuffle: bool = False) -> None:
        self.classes = find_classes(path)
        root = os.path.join(path, "")
        files = [
            Labeled(image.removeprefix(root), label)
            for label, name in enumerate(self.classes)
            for image in find_images(root + name)
        ]
        super().__init__(path, files, decode, root_folder=root, shuffle=shuffle)

    def notes(self) -> list[str]:
        """How many images there are, and which number is which class."""
        counts = Counter(file.label for file in self.files)
        classes = [
            f'class {label} is "{name}": {counts[label]} images'
            for label, name in enumerate(self.classes)
        ]
        if len(classes) > CLASSES_NAMED:
            left_out = len(classes) - CLASSES_NAMED
            classes[CLASSES_NAMED - 1 : -1] = [f"... {left_out} more classes, by name ..."]
        order = "" if self.shuffle else ", one class after the other"
        return [f"{len(self)} images of {len(self.classes)} classes{order}.", *classes]

    def later_files(self) -> list[str]:
        """No files: all were there when the folder was read."""
        return []


def find_classes(folder: PathLike) -> list[str]:
    """Names of the subfolders, sorted. Raises DataError if there is none."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError as error:
        _refuse(error)
    classes = sorted(_visible(names))
    if not classes:
        raise DataError(
            "the folder holds neither a subfolder of images for each class nor a database"
            " (data.mdb of LMDB, CURRENT of LevelDB).",
            file=folder,
        )
    return classes


def find_images(folder: str) -> list[str]:
    """Paths of the images in a folder and below, sorted by folder, then name.

    Raises:
        DataError: there is none; a folder cannot be read.
    """
    found = []
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        folders[:] = _visible(folders)  # os.walk goes on with what is left
        found += [(place, name) for name in _visible(names) if _suffix(name) in IMAGE_SUFFIXES]
    if not found:
        raise DataError(
            "this subfolder, which would be a class, holds no image.",
            file=folder,
            advice=f"Images are known by their suffixes: {', '.join(sorted(IMAGE_SUFFIXES))}.",
        )
    return [os.path.join(place, name) for place, name in sorted(found)]


def _visible(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith(".")]


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1][1:].lower()


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"the folder cannot be read: {error.strerror}.", file=error.filename) from None
