from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from moka.errors import MokaError
from moka.hdf5 import FAULTS, import_h5py, is_hdf5, numbers_of, write_hdf5


def fill(file: Any) -> None:
    file["a/b"] = [1.0, 2.0]


def test_a_file_is_written_and_recognized(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "any name", fill)
    assert is_hdf5(tmp_path / "any name")
    with h5py.File(tmp_path / "any name") as file:
        assert file["a/b"][()].tolist() == [1, 2]
    assert os.listdir(tmp_path) == ["any name"]


def test_other_files_are_not_recognized(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a")
    for name in ("a.h5", "gone", "."):
        assert not is_hdf5(tmp_path / name)


def test_after_an_error_the_old_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def fail(file: Any) -> None:
        fill(file)
        raise ValueError("bug")

    with pytest.raises(ValueError, match="bug"):
        write_hdf5(tmp_path / "a", fail)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_without_h5py(monkeypatch: pytest.MonkeyPatch) -> None:
    assert import_h5py() is h5py
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MokaError, match=r"HDF5 files need the package h5py\. pip install h5py"):
        import_h5py()


def test_numbers_of_a_dataset(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.array([1.5, 1e300])
        file["text"] = np.bytes_(b"a")
        file["truth"] = np.array([True])
        file.create_dataset("zeros", (1 << 25,), "f4", chunks=True, compression=9)[...] = 0
        file.create_dataset("claimed", (1 << 40,), "f4", chunks=(1 << 20,))
    with h5py.File(path) as file:
        assert numbers_of(file["a"]).tolist() == [1.5, np.inf]
        assert numbers_of(file["truth"], "b").tolist() == [1]
        assert not numbers_of(file["zeros"]).any()  # as small as gzip makes them
        for name, says in (
            ("text", "does not hold numbers"),
            ("truth", "does not hold numbers"),
            ("claimed", "the shape .1099511627776,., which no such file can hold"),
        ):
            with pytest.raises(FAULTS, match=says):
                numbers_of(file[name])
