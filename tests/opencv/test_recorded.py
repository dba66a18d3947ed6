"""Programs see of a net through `moka.opencv` what they saw through `cv2.dnn` of OpenCV 4.14.

MOKA_OPENCV4 names the Python of an environment with opencv-python-headless<5; then both run side by
side, too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.opencv.observe import SEE, observe
from tests.opencv.record import RECORDED, observe_with, write_nets

import moka.opencv

CLOSE = 1e-5  # of the largest number: both add up float32 in another order


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("nets")
    write_nets(made)
    return made


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    with np.load(RECORDED) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", SEE)
def test_as_recorded(name: str, folder: Path, recorded: dict[str, Any]) -> None:
    seen = SEE[name](moka.opencv, folder)
    expected = {key.partition(": ")[2]: value for key, value in recorded.items()
                if key.startswith(f"{name}: ")}  # fmt: skip
    assert seen.keys() == expected.keys()
    for what, value in seen.items():
        same(value, expected[what], what)


def test_side_by_side(folder: Path) -> None:
    python = os.environ.get("MOKA_OPENCV4")
    if not python:
        pytest.skip("MOKA_OPENCV4 names no Python with opencv-python-headless<5")
    seen = observe(moka.opencv, folder)
    expected = observe_with(python, folder)
    assert seen.keys() == expected.keys()
    for what, value in seen.items():
        same(value, expected[what], what)


def same(value: Any, expected: Any, what: str) -> None:
    array = np.asarray(value)
    assert array.shape == expected.shape, what
    assert array.dtype.kind == expected.dtype.kind, what
    if array.dtype.kind == "f":
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(array, expected, rtol=0, atol=CLOSE * scale, err_msg=what)
    else:
        np.testing.assert_array_equal(array, expected, err_msg=what)
