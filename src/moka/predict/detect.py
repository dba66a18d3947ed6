"""The outputs of a net for windows in image files, as R-CNN computes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from moka.errors import UsageError
from moka.predict.classify import Prepare, Score
from moka.predict.crops import Corners
from moka.predict.images import load_image
from moka.types import Array, Floats, PathLike

Cropper = Callable[[Array, Corners], Array]  # an image (H, W, K) and a window in it to a crop
ImageWindows = Iterable[tuple[str, Iterable[Corners] | Array]]  # files, each with its windows


class Detection(NamedTuple):
    """A net's output for one window (ymin, xmin, ymax, xmax) of an image file."""

    window: Corners
    prediction: Floats
    filename: str


def detect_windows(
    images_windows: ImageWindows, crop: Cropper, prepare: Prepare, score: Score
) -> list[Detection]:
    """Run a net over windows of image files.

    Args:
        images_windows: file names, each with its windows.
        crop: cuts a window out of an image (`moka.predict.crops`).
        prepare, score: as for `moka.predict.classify.classify`.

    Returns:
        A detection for each window, in their order.

    Raises:
        OSError, DataError: an image that cannot be read.
        UsageError: a window outside of its image; with the file's name.
    """
    found: list[tuple[Corners, str]] = []
    inputs = []
    for filename, windows in images_windows:
        image = load_image(filename)
        for window in windows:
            try:
                part = crop(image, window)
            except UsageError as error:
                raise error.at(file=filename) from None
            inputs.append(prepare(part))
            found.append((window, filename))
    if not inputs:
        return []
    scores = score(np.array(inputs))
    return [Detection(window, row, name) for (window, name), row in zip(found, scores, strict=True)]


def selective_search(files: Iterable[PathLike]) -> list[tuple[str, Array]]:
    """The windows that selective search proposes for image files, by absolute file name.

    It is a MATLAB program of its own, run by the module selective_search_ijcv_with_python.

    Raises:
        UsageError: that module is not installed.
    """
    try:
        import selective_search_ijcv_with_python as search
    except ImportError:
        raise UsageError(
            "selective search needs the module selective_search_ijcv_with_python and MATLAB,"
            " which are not installed.",
            advice="Give windows of your own to detect_windows (caffe detect: --crop_mode list).",
        ) from None
    paths = [os.path.abspath(name) for name in files]  # MATLAB has another current folder
    return list(zip(paths, search.get_windows(paths, cmd="selective_search_rcnn"), strict=True))
