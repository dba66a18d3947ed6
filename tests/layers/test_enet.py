from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

LAYER = """type: "Python" python_param {
    module: "spatial_dropout" layer: "SpatialDropoutLayer" param_str: "%s" }"""
X = torch.full((20, 30, 2, 3), 3.0)


def test_whole_channels_go(make_layer: LayerMaker) -> None:
    layer = make_layer(LAYER % r"{\'phase\': \'TRAIN\', \'p\': \'0.25\'}", tuple(X.shape))
    torch.manual_seed(1)
    (top,) = [layer(X)]
    kept = top[:, :, 0, 0] > 0
    assert (top == torch.where(kept, 4.0, 0.0)[..., None, None]).all()  # 3 / 0.75
    assert 0.7 < kept.double().mean() < 0.8


def test_elsewhere_all_channels_are_scaled(make_layer: LayerMaker) -> None:
    layer = make_layer(LAYER % "{'phase': 'TEST', 'p': 0.25}", tuple(X.shape), training=True)
    assert (layer(X) == 4).all()


@pytest.mark.parametrize(
    "params", ["", "{'p': 0.5}", "{'phase': 'TRAIN', 'p': 'x'}", "[1]", "{[1]: 2}", "(" * 999]
)
def test_unreadable_params(make_layer: LayerMaker, params: str) -> None:
    with pytest.raises(NetError, match="param_str must be"):
        make_layer(LAYER % params, (1, 2, 3, 4))


def test_p_is_a_probability(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="p must be between 0 and 1, got 1"):
        make_layer(LAYER % "{'phase': 'TRAIN', 'p': 1}", (1, 2, 3, 4))
