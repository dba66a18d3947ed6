from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError
from moka.predict.score import class_count, input_shape, score

if TYPE_CHECKING:
    from tests.conftest import NetMaker

NET = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 4 dim: 3 dim: 2 dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "out" type: "Reshape" bottom: "ip" top: "out"
  reshape_param { shape { dim: 4 dim: 5 dim: 1 } } }
"""
IMAGES = np.random.default_rng(1).random((9, 3, 2, 2), np.float32)


def test_any_number_of_images(make_net: NetMaker) -> None:
    """In batches of four, which alone the Reshape layer takes; the last is filled up."""
    net = make_net(NET)
    assert (input_shape(net), class_count(net)) == ((4, 3, 2, 2), 5)
    weight, bias = (blob.detach().cpu().numpy() for blob in net.layers[1].weights)
    for count in (1, 4, 9):
        got = score(net, IMAGES[:count])
        want = IMAGES[:count].reshape(count, -1) @ weight.T + bias
        np.testing.assert_allclose(got[..., 0], want, rtol=1e-4, atol=1e-6)


def test_outputs_that_are_not_rows(make_net: NetMaker) -> None:
    net = make_net(NET.replace("dim: 4 dim: 5 dim: 1", "dim: 5 dim: 4"))
    with pytest.raises(NetError, match=r'output "out" has shape \(5, 4\), not a row for each'):
        score(net, IMAGES)


def test_a_net_that_reads_its_own_data(make_net: NetMaker) -> None:
    net = make_net(
        'layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 } } }'
    )
    with pytest.raises(NetError, match=r"the net reads its own data, but .* deploy\.prototxt"):
        input_shape(net)
