from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from moka.mat_file import write_mat


def elements(data: bytes) -> list[tuple[int, bytes]]:
    """Kind and content of each element, eight bytes of which are its head."""
    found, place = [], 0
    while place < len(data):
        kind, size = struct.unpack_from("<II", data, place)
        found.append((kind, data[place + 8 : place + 8 + size]))
        place += 8 + size + -size % 8
    return found


@pytest.mark.parametrize(("dtype", "kinds"), [(np.float32, (7, 7)), (np.float64, (6, 9))])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3,), (0, 2)])
def test_a_file_element_by_element(
    tmp_path: Path, dtype: type[np.floating], kinds: tuple[int, int], shape: tuple[int, ...]
) -> None:
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    path = tmp_path / "a.mat"
    write_mat(path, {"data": values, "other": values[:1]})
    data = path.read_bytes()
    assert data[:10] == b"MATLAB 5.0"
    assert data[124:128] == b"\x00\x01IM"
    (kind, first), (_, second) = elements(data[128:])
    assert kind == 14
    flags, axes, name, numbers = elements(first)
    assert struct.unpack("<II", flags[1]) == (kinds[0], 0)
    dims = np.frombuffer(axes[1], np.int32).tolist()
    assert dims == [*shape[::-1], 1][: max(2, len(shape))]
    assert name[1] == b"data"
    assert numbers[0] == kinds[1]
    have = np.frombuffer(numbers[1], dtype).reshape(dims, order="F").T
    np.testing.assert_array_equal(have.reshape(shape), values)
    assert elements(second)[2][1] == b"other"


def test_scipy_reads_it(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    values = np.random.default_rng(1).normal(size=(2, 3, 4, 5)).astype(np.float32)
    write_mat(tmp_path / "a.mat", {"data": values[:, ::2]})
    np.testing.assert_array_equal(io.loadmat(tmp_path / "a.mat")["data"].T, values[:, ::2])
