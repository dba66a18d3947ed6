from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moka.net.batch_size import batch_size

if TYPE_CHECKING:
    from tests.conftest import NetMaker


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        ("input_param { shape { dim: 7 dim: 3 } }", 7),
        ("input_param { shape { } }", 0),
    ],
)
def test_batch_size(make_net: NetMaker, layers: str, wanted: int) -> None:
    assert batch_size(make_net(f'layer {{ name: "x" type: "Input" top: "x" {layers} }}')) == wanted
