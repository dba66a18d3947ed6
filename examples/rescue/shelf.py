"""The net and the weights in a folder, whatever they are called."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import moka

Image = NDArray[np.uint8]  # (height, width, 3): BGR, as OpenCV reads files


def find(folder: str | Path) -> tuple[str, str]:
    """The net in a folder that can be loaded, and its weights. Ends the program if there is none.

    Of several nets with weights, as one to train and one to use, the first without data layers
    counts: it takes its images from the caller.
    """
    if not Path(folder).is_dir():
        sys.exit(f"{folder} is no folder.")
    found = [each for each in moka.check(folder) if each.kind == "net" and each.weights]
    usable = [each for each in found if each.loads]
    if not usable:
        reasons = [each.obstacle for each in moka.check(folder) if each.obstacle]
        sys.exit("\n".join(reasons) or f"{folder} has no net with weights: `caffe check {folder}`.")
    deployed = [each for each in usable if not any("Data" in name for name in each.types)]
    best = (deployed or usable)[0]
    assert best.weights is not None
    return best.file, best.weights


def read_image(file: str | Path) -> Image:
    """An image in BGR, (height, width, 3). Ends the program if there is none."""
    image = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if image is None:
        sys.exit(f"{file} is no image.")
    return image.astype(np.uint8, copy=False)
