from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat  # type: ignore[import-untyped]

from moka.data.mat_file import write_mat
from moka.types import Array


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.linspace(0, 1, 7),
        np.float64(3.5).reshape(()),
        np.zeros((2, 0), np.float32),
        np.arange(6.0).reshape(2, 3).T,  # not contiguous
    ],
)
def test_what_is_read_is_what_was_written(tmp_path: Path, array: Array) -> None:
    file = tmp_path / "a.mat"
    write_mat(file, {"x": array, "longer_name": array * 2})
    found = loadmat(file)
    for name, wanted in (("x", array), ("longer_name", array * 2)):
        shape = wanted.T.shape + (1,) * (2 - wanted.ndim)
        np.testing.assert_array_equal(found[name], wanted.T.reshape(shape))
        assert found[name].dtype == wanted.dtype
