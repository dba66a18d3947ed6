from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from scipy.io import loadmat  # type: ignore[import-untyped]

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.layers.conftest import LayerMaker, Spread

LAYER = 'type: "MatWrite" mat_write_param { prefix: "%s/fc8/" %s }'


def test_files_of_passes(make_layer: LayerMaker, spread: Spread, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("first.jpg\n\nsecond.jpg\nthird.jpg\n")
    text = LAYER % (tmp_path, f'source: "{tmp_path}/list" strip: 4 period: 2')
    layer = make_layer(text, (2, 3, 4, 5), (2, 7))
    blobs = [spread(2, 3, 4, 5).astype(np.float32), spread(2, 7).astype(np.float32)]
    for k in range(3):
        assert layer(*(torch.from_numpy(blob + k) for blob in blobs)) == []
    written = sorted(path.name for path in (tmp_path / "fc8").iterdir())
    assert written == [f"{n}_blob_{k}.mat" for n in ("first", "third") for k in (0, 1)]
    for name, k in (("first", 0), ("third", 2)):
        for j, blob in enumerate(blobs):
            found = loadmat(tmp_path / "fc8" / f"{name}_blob_{j}.mat")["data"]
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, (blob + k).T)
    layer(*map(torch.from_numpy, blobs))  # the fourth pass does not write, so it needs no name
    with pytest.raises(DataError, match="list has 3 names; this is pass 5"):
        layer(*map(torch.from_numpy, blobs))


def test_numbers_instead_of_names(make_layer: LayerMaker, tmp_path: Path) -> None:
    layer = make_layer(LAYER % (tmp_path, ""), (3,))
    for _ in range(2):
        layer(torch.arange(3.0, dtype=torch.float64))
    assert sorted(p.name for p in (tmp_path / "fc8").iterdir()) == ["0_blob_0.mat", "1_blob_0.mat"]
    assert loadmat(tmp_path / "fc8" / "1_blob_0.mat")["data"].ravel().tolist() == [0, 1, 2]


def test_a_prefix_is_needed(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="prefix is missing"):
        make_layer('type: "MatWrite"', (3,))
