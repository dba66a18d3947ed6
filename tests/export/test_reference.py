from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.conftest import NetMaker

from moka.errors import DataError
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


def test_a_pass_that_fails_leaves_the_state_too(make_net: NetMaker) -> None:
    net = make_net(f"""{NET}
layer {{ name: "word" type: "Input" top: "word" input_param {{ shape {{ dim: 1 }} }} }}
layer {{ name: "table" type: "Embed" bottom: "word" top: "z"
        embed_param {{ num_output: 2 input_dim: 3 }} }}""")
    good = {"cont": np.ones((2, 3), np.float32)}
    first = reference(net, good, ["y"])["y"]
    with pytest.raises(DataError, match="index 3"):
        reference(net, {**good, "word": np.array([3])}, ["y", "z"])
    np.testing.assert_array_equal(reference(net, good, ["y"])["y"], first)


def test_a_parameter_may_be_an_output(make_net: NetMaker) -> None:
    net = make_net("""
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 3 } } }
""")
    net.layers[1].weights[0].data.fill_(2)
    np.testing.assert_array_equal(reference(net, {}, ["p"])["p"], [2, 2, 2])
