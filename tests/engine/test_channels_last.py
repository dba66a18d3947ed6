from __future__ import annotations

import numpy as np
import pytest
import torch

from moka.engine.channels_last import as_they_are, channels_last


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 4, 5), (1, 1, 1, 1)])
def test_channels_last_keeps_values_and_shape(shape: tuple[int, ...]) -> None:
    x = torch.arange(float(np.prod(shape))).reshape(shape)
    y = channels_last(x)
    assert y.shape == x.shape
    assert y.tolist() == x.tolist()
    channel, row, column = y.stride()[1:]
    assert (channel, column, row) == (1, shape[1], shape[1] * shape[3])


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4, 5, 6)])
def test_channels_last_is_for_images(shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape)
    assert channels_last(x) is x


def test_images_may_stay_as_they_are() -> None:
    x = torch.zeros(2, 3, 4, 5)
    assert as_they_are(x) is x
