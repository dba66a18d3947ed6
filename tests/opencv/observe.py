"""All nets and programs that `cv2.dnn` and `moka.opencv` run, and what is seen of them.

Only cv2 and NumPy are needed, so that OpenCV 4 runs the same code, from the repository's root:
`python -m tests.opencv.observe FOLDER OUT` observes the nets that lie in FOLDER with `cv2.dnn`,
and writes the arrays to OUT.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tests.opencv import cases, program_nets, programs

NETS = cases.NETS | program_nets.NETS
SEE = cases.SEE | programs.SEE


def observe(dnn: Any, folder: Path) -> dict[str, Any]:
    """Everything that is seen of all nets, as arrays by `net: what`."""
    return {
        f"{name}: {what}": np.asarray(value)
        for name, see in SEE.items()
        for what, value in see(dnn, folder).items()
    }


if __name__ == "__main__":
    np.savez_compressed(sys.argv[2], **observe(cv2.dnn, Path(sys.argv[1])))
