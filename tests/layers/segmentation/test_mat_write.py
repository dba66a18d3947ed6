from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner


def data_of(path: Path) -> list[float]:
    """The numbers of a file that holds six doubles at its end."""
    return np.frombuffer(path.read_bytes()[-48:], np.float64).tolist()


def test_files_by_pass(tmp_path: Path, make_layer: LayerMaker, run: Runner) -> None:
    text = f'type: "MatWrite" mat_write_param {{ prefix: "{tmp_path}/x_" period: 2 }}'
    layer = make_layer(text, (1, 6), (2, 3, 1, 1))
    for k in range(3):
        one = np.arange(6.0).reshape(1, 6) + k
        run(layer, one, one.reshape(2, 3, 1, 1))
    names = [f"x_iter_{k}_blob_{i}.mat" for k in (0, 2) for i in (0, 1)]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert data_of(tmp_path / "x_iter_2_blob_1.mat") == [2, 3, 4, 5, 6, 7]


def test_names_from_a_list(tmp_path: Path, make_layer: LayerMaker, run: Runner) -> None:
    (tmp_path / "list.txt").write_text("one.jpg 3\ntwo.jpg\n")
    fields = f'prefix: "{tmp_path}/" source: "{tmp_path}/list.txt" strip: 4'
    layer = make_layer(f'type: "MatWrite" mat_write_param {{ {fields} }}', (1, 6))
    for k in range(2):
        run(layer, np.full((1, 6), k))
    assert data_of(tmp_path / "one_blob_0.mat") == [0] * 6
    assert data_of(tmp_path / "two_blob_0.mat") == [1] * 6
    with pytest.raises(DataError, match="names 2 files, and this is pass 3"):
        run(layer, np.ones((1, 6)))
    with pytest.raises(NetError, match=r"one\.jpg is too short to strip 7"):
        make_layer(f'type: "MatWrite" mat_write_param {{ {fields[:-1]}7 }}', (1, 6))


def test_bad_input(tmp_path: Path, make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="prefix is missing"):
        make_layer('type: "MatWrite"', (1, 6))
    with pytest.raises(NetError, match="cannot be written"):
        make_layer(f'type: "MatWrite" mat_write_param {{ prefix: "{tmp_path}/a/b" }}', (1, 6))
    with pytest.raises(NetError, match="at most 4 axes"):
        make_layer(f'type: "MatWrite" mat_write_param {{ prefix: "{tmp_path}/" }}', (1,) * 5)
