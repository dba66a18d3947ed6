from __future__ import annotations

from typing import Any

import pytest

from moka.net import build_net
from moka.net.cost import multiply_adds
from moka.net.spec import layers as L
from moka.net.spec import to_proto


def image(n: int = 2) -> Any:
    return L.Input(shape=dict(dim=[n, 4, 9, 8]))


@pytest.mark.parametrize(
    ("top", "count"),
    [
        # 5x3 places of a padded, strided 3x4 window over 4 / 2 channels, for 6 kernels of 2 images
        (
            L.Convolution(image(), num_output=6, group=2, kernel_size=[3, 4], pad=1, stride=[2, 3]),
            2 * (5 * 3) * 6 * (2 * 3 * 4),
        ),
        (L.Deconvolution(image(), num_output=6, kernel_size=2, stride=2), 2 * 72 * 4 * (6 * 4)),
        (L.InnerProduct(image(), num_output=5), 2 * 5 * 4 * 72),
        (L.InnerProduct(image(), num_output=5, transpose=True), 2 * 5 * 4 * 72),
        (L.InnerProduct(image(), num_output=5, axis=2), 2 * 4 * 5 * 72),
        (L.Convolution(image(1), image(1), num_output=3, kernel_size=1, ntop=2)[1], 2 * 72 * 3 * 4),
        (L.ReLU(image()), 0),
    ],
)
def test_multiply_adds(top: Any, count: int) -> None:
    assert multiply_adds(build_net(to_proto(top))) == count
