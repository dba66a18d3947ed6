"""What is in windows of images: `detect`, with the arguments of BVLC Caffe's detect.py (R-CNN)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import caffe
from moka.command.run import run
from moka.errors import DataError, UsageError
from moka.files import check_writable
from moka.tools import preprocessing
from moka.tools.window_table import WindowTable, read_table, write_table
from moka.types import PathLike

SUFFIXES = (".csv", ".h5", ".hdf5")


def read_names(source: PathLike) -> list[str]:
    """The names of images in a text file, one a line.

    Raises:
        DataError: it cannot be read, or names none.
    """
    try:
        lines = Path(source).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise DataError(f"{error.strerror}.", file=source) from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError("the file names no image.", file=source)
    return names


def detect(
    detector: caffe.Detector, source: PathLike, *, selective_search: bool = False
) -> WindowTable:
    """Run a net over windows of images.

    Args:
        source: a table of windows (.csv or .h5, see `window_table`), or a text file with a name of
            an image on each line.
        selective_search: find windows in the images, instead of taking those in the table.

    Returns:
        The windows with the net's output for each.

    Raises:
        UsageError: windows are asked for that are not in the file; selective search is not
            installed.
        DataError, OSError: a file that cannot be read.
    """
    suffix = Path(source).suffix.lower()
    if suffix not in (".txt", *SUFFIXES):
        raise UsageError(f"Unknown input file type: '{source}' does not end in .txt, .csv or .h5.")
    table = read_table(source) if suffix != ".txt" else None
    with preprocessing.errors_of_pycaffe():
        if selective_search:
            names = list(dict.fromkeys(table.filenames)) if table else read_names(source)
            found = detector.detect_selective_search(names)
        elif table is None:
            raise UsageError(
                f"{source} names images alone, but --crop_mode list needs windows.",
                advice="Give a .csv with the columns filename, ymin, xmin, ymax, xmax.",
            )
        else:
            found = detector.detect_windows(table.by_image())
    return WindowTable.of(found)


def main(argv: Sequence[str] | None = None) -> int:
    """`detect INPUT_FILE OUTPUT_FILE [FLAGS]`."""
    return run("detect", _detect, argv)


def _detect(words: list[str], flags: dict[str, Any]) -> None:
    source, output = words
    modes = ("", "list", "selective_search")
    if flags["crop_mode"] not in modes:
        raise UsageError(f"--crop_mode is list or selective_search, found '{flags['crop_mode']}'.")
    if Path(output).suffix.lower() not in SUFFIXES:
        raise UsageError(f"the output file ends in .csv or .h5, found '{output}'.")
    check_writable(output)
    search = (flags["crop_mode"] or ("list", "selective_search")[source.endswith(".txt")]) != "list"
    net = preprocessing.open_net(caffe.Detector, flags, context_pad=flags["context_pad"])
    print("Loading input...", flush=True)
    start = time.time()
    found = detect(net, source, selective_search=search)
    print(f"Processed {len(found.filenames)} windows in {time.time() - start:.3f} s.", flush=True)
    start = time.time()
    write_table(output, found)
    print(f"Saved to {output} in {time.time() - start:.3f} s.")
