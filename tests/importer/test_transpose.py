from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
from tests.importer.onnx_models import imported, types

from moka.errors import NetError
from moka.importer.transpose import MOST_PARTS, _factors


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_any_order(order: tuple[int, ...], tmp_path: Path) -> None:
    """With BVLC's layers alone, and with SSD's."""
    node = ("Transpose", "x", "y", {"perm": list(order)})
    plain = types(imported(tmp_path, [node], shape=(2, 4, 3, 5)))
    assert "Permute" not in plain
    short = types(imported(tmp_path, [node], shape=(2, 4, 3, 5), extra_layers=True))
    assert short == ("" if order == (0, 1, 2, 3) else "Permute") or plain == short


@pytest.mark.parametrize("shape", [(2, 96, 10, 9), (2, 72, 8, 9), (1, 90, 1, 77)])
def test_large_blocks_in_several_steps(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Channels to the end and back: blocks larger than may be cut at once are cut by factors."""
    for order in ([0, 2, 3, 1], [0, 3, 1, 2]):
        found = imported(tmp_path, [("Transpose", "x", "y", {"perm": order})], shape=shape)
        assert "Permute" not in types(found)
        assert max(len(layer.top) for layer in found.net.layer) <= MOST_PARTS


def test_factors() -> None:
    assert _factors(6) == (6,)
    assert _factors(96) == (8, 12) or sum(_factors(96) or ()) <= 20
    assert _factors(67) is None  # a prime
    assert _factors(2 * 67) is None


def test_what_cannot_be_cut(tmp_path: Path) -> None:
    node = ("Transpose", "x", "y", {"perm": [0, 2, 1]})
    with pytest.raises(NetError) as error:
        imported(tmp_path, [node], shape=(1, 67, 71))
    assert str(error.value).endswith(
        'node "node_y" (Transpose, opset 17) has no form in Caffe: it needs the layer Permute,'
        " which only forks of Caffe have. Allow such layers with --extra_layers."
    )
    assert types(imported(tmp_path, [node], extra_layers=True, shape=(1, 67, 71))) == "Permute"
