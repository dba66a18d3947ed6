from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import WeightsError
from moka.net import Net
from moka.weights import share_weights

if TYPE_CHECKING:
    from tests.conftest import NetMaker

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 5 weight_filler { type: "gaussian" } } }
"""


@pytest.fixture
def net(make_net: NetMaker) -> Net:
    return make_net(NET)


def test_shared_weights_are_the_same_memory(net: Net, make_net: NetMaker) -> None:
    owner = make_net(NET)
    assert net.layer_blobs(1)[0].data is not None  # blobs made before have to be renewed
    share_weights(net, owner)
    for mine, theirs in zip(net.layer_blobs(1), owner.layer_blobs(1), strict=True):
        np.testing.assert_array_equal(mine.data, theirs.data)
    owner.layer_blobs(1)[0].data[...] = 3
    assert np.all(net.layer_blobs(1)[0].data == 3)
    assert net.layers[1].weights[0] is owner.layers[1].weights[0]
    assert net.shares_parameters
    assert owner.shares_parameters


def test_sharing_needs_equal_shapes(net: Net, make_net: NetMaker) -> None:
    owner = make_net(NET.replace("num_output: 5", "num_output: 6"))
    with pytest.raises(WeightsError, match="Cannot share weights of layer 'ip'"):
        share_weights(net, owner)
