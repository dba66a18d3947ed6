"""Classify windows of images: `detect`, with the arguments of BVLC Caffe's detect.py (R-CNN)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from moka.command.run import run
from moka.data.lists import read_names
from moka.errors import DataError, UsageError
from moka.files import check_writable
from moka.net import Net
from moka.predict.crops import check_context, crop_with_context, cut_window
from moka.predict.detect import Cropper, ImageWindows, detect_windows, selective_search
from moka.predict.prepare import Preparation
from moka.predict.score import score
from moka.tools import preprocessing
from moka.tools.window_table import WindowTable, read_table, write_table
from moka.types import PathLike

TABLE_SUFFIXES = (".csv", ".h5", ".hdf5")


def read_image_names(source: PathLike) -> list[str]:
    """The names of images in a text file, one on each line.

    Raises:
        DataError: the file cannot be read, or names no image.
    """
    try:
        names = read_names(source)
    except OSError as error:
        raise DataError(f"{error.strerror}.", file=source) from None
    if not names:
        raise DataError("the file names no image.", file=source)
    return names


def detect(
    net: Net,
    preparation: Preparation,
    source: PathLike,
    *,
    context_pad: int = 0,
    search: bool = False,
) -> WindowTable:
    """Run a net over windows of images.

    Args:
        preparation: makes what the net takes of a crop.
        source: a table of windows (.csv or .h5, see `window_table`), or a text file with a name of
            an image on each line.
        context_pad: how many pixels of its surroundings a crop shows at each side of a window.
        search: find windows by selective search, instead of taking those in the table.

    Returns:
        The windows with the net's output for each.

    Raises:
        UsageError: windows are asked for that are not in the file; selective search is not
            installed.
        DataError, OSError: a file that cannot be read.
    """
    suffix = Path(source).suffix.lower()
    if suffix not in (".txt", *TABLE_SUFFIXES):
        raise UsageError(f"Unknown input file type: '{source}' does not end in .txt, .csv or .h5.")
    table = read_table(source) if suffix != ".txt" else None
    windows: ImageWindows
    if search:
        names = list(dict.fromkeys(table.filenames)) if table else read_image_names(source)
        windows = selective_search(names)
    elif table is None:
        raise UsageError(
            f"{source} names images alone, but --crop_mode list needs windows.",
            advice="Give a .csv with the columns filename, ymin, xmin, ymax, xmax.",
        )
    else:
        windows = table.by_image()
    crop = window_crop(preparation, context_pad)
    return WindowTable.of(detect_windows(windows, crop, preparation.prepare, partial(score, net)))


def window_crop(preparation: Preparation, context_pad: int) -> Cropper:
    """How a window is cut out of its image. Raises UsageError if the context is too large."""
    channels, height, width = preparation.shape
    check_context(context_pad, (height, width))
    if not context_pad:
        return cut_window
    return partial(
        crop_with_context,
        context_pad=context_pad,
        shape=(height, width, channels),
        fill=preparation.mean_image(),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """`detect INPUT_FILE OUTPUT_FILE [FLAGS]`."""
    return run("detect", _detect, argv)


def _detect(words: list[str], flags: dict[str, Any]) -> None:
    source, output = words
    modes = ("", "list", "selective_search")
    if flags["crop_mode"] not in modes:
        raise UsageError(f"--crop_mode is list or selective_search, found '{flags['crop_mode']}'.")
    if Path(output).suffix.lower() not in TABLE_SUFFIXES:
        raise UsageError(f"the output file ends in .csv or .h5, found '{output}'.")
    check_writable(output)
    search = (flags["crop_mode"] or ("list", "selective_search")[source.endswith(".txt")]) != "list"
    net, preparation = preprocessing.open_net_for_images(flags)
    context_pad = flags["context_pad"]
    check_context(context_pad, preparation.shape[1:])
    print("Loading input...", flush=True)
    start = time.time()
    found = detect(net, preparation, source, context_pad=context_pad, search=search)
    print(f"Processed {len(found.filenames)} windows in {time.time() - start:.3f} s.", flush=True)
    start = time.time()
    write_table(output, found)
    print(f"Saved to {output} in {time.time() - start:.3f} s.")
