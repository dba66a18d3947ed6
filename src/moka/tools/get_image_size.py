"""Name, height and width of the images in a list, which save_output_param asks for: a program of
SSD."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from moka.command.run import run
from moka.data.ahead import map_ahead
from moka.data.decode import Decoder
from moka.data.lists import read_names, whole_number
from moka.errors import DataError
from moka.files import check_writable, local_path, write_atomically
from moka.report.progress import progress
from moka.tools.convert_annoset import read_pairs
from moka.tools.image_records import SAY_EVERY, Line, UnreadableImageError, check_folder, load_image
from moka.types import PathLike

log = logging.getLogger("moka")
detail = logging.getLogger("moka.detail")


def get_image_size(
    root_folder: str, list_file: PathLike, output: PathLike, *, name_id_file: PathLike = ""
) -> int:
    """Write a line `name height width` for each image of a list; returns how many.

    The name is the file's without folder and extension. A net counts these lines as it
    counts the records of its database, so both have to be made of one list, unshuffled.

    Args:
        root_folder: before each path, with a slash between.
        list_file: see `convert_annoset`.
        name_id_file: a name and a number on each line; the number is written for the name.

    Raises:
        DataError: a list or an image that cannot be read, no image is there, a name with a blank in
            it or without a number. No file is written then.
        OSError: the file cannot be written.
    """
    lines = read_pairs(list_file)
    root = root_folder if root_folder.endswith("/") or not root_folder else f"{root_folder}/"
    check_folder(root, list_file)
    if lines and not any(os.path.exists(local_path(root + line.path)) for line in lines):
        raise DataError(
            f"none of the {len(lines)} images in it is there; the first would be"
            f" {root}{lines[0].path}.",
            file=list_file,
            advice="Is ROOTFOLDER right?",
        )
    log.info("A total of %d images.", len(lines))
    numbers = _read_numbers(name_id_file) if name_id_file else None
    names = []
    for line in lines:
        name = PurePath(local_path(root + line.path)).stem
        names.append(_written(name, line.number, list_file, numbers, name_id_file))
    check_writable(output)
    decode = Decoder(color=True)

    def size(line: Line) -> tuple[int, int]:
        try:
            _, image = load_image(root + line.path, decode)
        except UnreadableImageError as error:
            raise DataError(
                f"line {line.number}: {error.message}",
                file=list_file,
                advice="Take the image out of the list, and make the database of that list.",
            ) from None
        _, height, width = image.shape
        return height, width

    written = []
    with progress("images", len(lines)) as show:
        for name, (height, width) in zip(names, map_ahead(size, lines), strict=True):
            written.append(f"{name} {height} {width}\n")
            show(len(written))
            if len(written) % SAY_EVERY == 0:
                detail.info("Processed %d files.", len(written))
    text = "".join(written).encode("utf-8", "surrogateescape")
    write_atomically(output, lambda file: file.write(text))
    if len(written) % SAY_EVERY:
        log.info("Processed %d files.", len(written))
    return len(written)


def _read_numbers(file: PathLike) -> dict[str, int]:
    """The numbers of names, from a file with both on each line."""
    try:
        lines = read_names(file)
    except OSError as error:
        raise DataError(f"Failed to open name_id_file: {error.strerror}.", file=file) from None
    numbers: dict[str, int] = {}
    for line in lines:
        words = line.split()
        number = whole_number(words[1]) if len(words) == 2 else None
        if number is None or words[0] in numbers:
            raise DataError(
                f'"{line}" is not a name, which stands there once, and a number.', file=file
            )
        numbers[words[0]] = number
    return numbers


def _written(
    name: str, line: int, source: PathLike, numbers: dict[str, int] | None, name_id_file: PathLike
) -> str:
    """What stands for an image in the file."""
    if numbers is not None:
        if name not in numbers:
            raise DataError(
                f"there is no number for {name}, line {line} of {source}.",
                file=name_id_file,
            )
        return str(numbers[name])
    if len(name.split()) != 1:
        raise DataError(
            f'line {line}: the name "{name}" has a blank in it, so the file of sizes cannot'
            " hold it.",
            file=source,
            advice="Rename the image, or give -name_id_file.",
        )
    return name


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe get_image_size [FLAGS] ROOTFOLDER/ LISTFILE OUTFILE`."""
    return run("get_image_size", _write, argv)


def _write(words: list[str], flags: dict[str, Any]) -> None:
    get_image_size(*words, name_id_file=flags["name_id_file"])
