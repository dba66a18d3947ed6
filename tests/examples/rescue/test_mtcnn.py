from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch

import moka

if TYPE_CHECKING:
    from tests.examples.conftest import CopyExamples, LoadScript

SQUARES = (
    (26, 26, 53),
    (93, 75, 38),
)  # left, top, side, where windows of the pyramid lie around them
# A net that likes a red square in the middle two thirds of its window.
NET = """
input: "data" input_shape { dim: 1 dim: 3 dim: %(side)d dim: %(side)d }
layer { name: "see" type: "Convolution" bottom: "data" top: "see"
  convolution_param { num_output: 2 kernel_size: %(side)d stride: 2 } }
layer { name: "prob" type: "Softmax" bottom: "see" top: "any_name" }
layer { name: "move" type: "Convolution" bottom: "data" top: "move"
  convolution_param { num_output: 4 kernel_size: %(side)d stride: 2 } }
"""
POINTS = """
layer { name: "points" type: "InnerProduct" bottom: "data" top: "points"
  inner_product_param { num_output: 10 } }
"""


@pytest.fixture
def mtcnn(copy_examples: CopyExamples, load_script: LoadScript) -> ModuleType:
    copy_examples("rescue")
    return load_script("rescue/mtcnn.py")


@pytest.fixture
def image() -> np.ndarray:
    picture = np.full((150, 200, 3), 128, np.uint8)
    for left, top, side in SQUARES:
        picture[top : top + side, left : left + side] = (0, 0, 255)  # BGR: red
    return picture


def liking(side: int) -> torch.Tensor:
    """Weights (3, side, side): the mean of what is redder than green and blue in the middle, less
    that of the rim."""
    rim = side // 6
    middle = torch.zeros(side, side)
    middle[rim:-rim, rim:-rim] = 1
    rest = 1 - middle
    seen = middle / middle.sum() - 1.5 * rest / rest.sum()
    return torch.stack([seen, -seen / 2, -seen / 2])


def make_nets(folder: Path) -> None:
    """det1, det2 and det3 of 12, 24 and 48 pixels, in files."""
    folder.mkdir()
    for name, side in (("det1", 12), ("det2", 24), ("det3", 48)):
        text = NET % {"side": side} + (POINTS if side == 48 else "")
        (folder / f"{name}.prototxt").write_text(text)
        net = moka.load(folder / f"{name}.prototxt")
        state = net.state_dict()
        for value in state.values():
            value.zero_()
        state["see.weight"][1] = 20 * liking(side)
        state["see.bias"][1] = -15.0
        if side == 48:  # all sides but the lower one move to the square
            state["move.bias"][:] = torch.tensor([1, 1, -1, 0]) / 6
            state["points.bias"][:] = torch.tensor(
                [0.3, 0.7, 0.5, 0.3, 0.7, 0.3, 0.4, 0.5, 0.7, 0.7]  # x, then y
            )
        net.load_state_dict(state)
        moka.save_weights(net, folder / f"{name}.caffemodel")


@pytest.mark.parametrize("transposed", [True, False])
def test_squares_are_found(
    mtcnn: ModuleType, image: np.ndarray, tmp_path: Path, transposed: bool
) -> None:
    make_nets(tmp_path / "nets")
    nets = mtcnn.load(tmp_path / "nets", transposed=transposed)
    found = mtcnn.find_faces(nets, image)
    assert len(found.boxes) == len(SQUARES) == len(found.scores) == len(found.points)
    for left, top, side in SQUARES:
        wanted = np.array([left, top, left + side, top + 1.25 * side])
        nearest = np.abs(found.boxes - wanted).max(1).argmin()
        assert np.abs(found.boxes[nearest] - wanted).max() < side / 8
        # The points are shares of the window, which reaches a quarter of the square beyond it.
        shares = [(0.3, 0.3), (0.7, 0.4), (0.5, 0.5), (0.3, 0.7), (0.7, 0.7)]
        points = wanted[:2] - side / 4 + 1.5 * side * np.array(shares)
        assert np.abs(found.points[nearest] - points).max() < side / 8
    assert (np.diff(found.scores) <= 0).all()


def test_the_program_prints_faces_and_no_log(
    copy_examples: CopyExamples, image: np.ndarray, tmp_path: Path
) -> None:
    script = copy_examples("rescue") / "mtcnn.py"
    make_nets(tmp_path / "nets")
    cv2.imwrite(str(tmp_path / "in.png"), image)
    done = subprocess.run(
        [sys.executable, script, "nets", "in.png"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith("GLOG_")},
        capture_output=True,
        text=True,
        check=True,
    )
    *faces, last = done.stdout.splitlines()
    assert all(line.startswith("face, score ") for line in faces)
    assert last == f"{len(SQUARES)} found: faces.png"
    assert done.stderr == ""
    assert (tmp_path / "faces.png").exists()
