from __future__ import annotations

import numpy as np
import torch
from tests.conftest import NetMaker

from moka.export.reference import reference

NET = """
layer { name: "x" type: "Input" top: "x" top: "cont"
        input_param { shape { dim: [2, 3, 4] } shape { dim: [2, 3] } } }
layer { name: "rnn" type: "RNN" bottom: "x" bottom: "cont" top: "y"
        recurrent_param { num_output: 2 weight_filler { type: "xavier" }
                          bias_filler { type: "gaussian" } } }
"""


def test_the_state_of_layers_stays_as_it_was(make_net: NetMaker) -> None:
    net = make_net(NET)
    ones = np.ones((2, 3), np.float32)
    first = reference(net, {"cont": ones}, ["y"])
    assert list(first) == ["y"]
    np.testing.assert_array_equal(reference(net, {"cont": ones}, ["y"])["y"], first["y"])
    zeros = torch.zeros(2, 3, 4)
    with torch.no_grad():
        wanted = net.propagate({"x": zeros, "cont": torch.from_numpy(ones)})["y"]
        later = net.propagate({"x": zeros, "cont": torch.from_numpy(ones)})["y"]
    np.testing.assert_array_equal(first["y"], wanted)
    assert not torch.equal(later, wanted)
