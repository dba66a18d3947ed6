from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from moka.inference.cut import Piece, cut, fits, last_uses, varying_layers
from moka.inference.flow import flow_of
from moka.inference.folded import Folded
from moka.inference.program import run_layers
from moka.net import Net

if TYPE_CHECKING:
    from tests.conftest import NetMaker

# a -> b -> (c, in place) -> d, e beside; "out" joins all.
TEXT = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "a" type: "ReLU" bottom: "x" top: "a" }
layer { name: "b" type: "TanH" bottom: "a" top: "b" }
layer { name: "c" type: "Sigmoid" bottom: "b" top: "b" }
layer { name: "d" type: "TanH" bottom: "b" top: "d" }
layer { name: "e" type: "ReLU" bottom: "a" top: "e" }
layer { name: "out" type: "Eltwise" bottom: "d" bottom: "e" bottom: "a" top: "out" }
layer { name: "rest" type: "AbsVal" bottom: "e" top: "rest" }
"""


def as_names(net: Net, wanted: list[str], outside: set[str]) -> list[str]:
    """The steps as texts: "a+b" is a piece, "(c)" a layer by itself."""
    flow = flow_of(net)
    steps = cut(
        net, flow, [flow.final[name] for name in wanted], lambda p: p.node.name not in outside
    )
    return [
        "+".join(place.node.name for place in step.places)
        if isinstance(step, Piece)
        else f"({step.node.name})"
        for step in steps
    ]


def test_one_piece_if_all_fit(make_net: NetMaker) -> None:
    net = make_net(TEXT)
    assert as_names(net, ["out", "rest"], set()) == ["a+b+c+d+e+out+rest"]
    assert as_names(net, ["out"], set()) == ["a+b+c+d+e+out"]
    assert as_names(net, ["b"], set()) == ["a+b+c"]


def test_around_layers_that_do_not_fit(make_net: NetMaker) -> None:
    net = make_net(TEXT)
    assert as_names(net, ["out"], {"c"}) == ["a+b+e", "(c)", "d+out"]
    assert as_names(net, ["out"], {"b", "c"}) == ["a+e", "(b)", "(c)", "d+out"]
    assert as_names(net, ["out"], {"a"}) == ["(a)", "b+c+d+e+out"]
    assert as_names(net, ["out"], {"out"}) == ["a+b+c+d+e", "(out)"]


def test_pieces_give_what_others_take(make_net: NetMaker) -> None:
    net = make_net(TEXT)
    flow = flow_of(net)
    names = flow.names
    first, layer, second = cut(net, flow, [flow.final["out"]], lambda p: p.node.name != "c")
    assert isinstance(first, Piece)
    assert isinstance(second, Piece)
    assert [names[v] for v in first.inputs] == ["x"]
    assert sorted(names[v] for v in first.outputs) == ["a", "b", "e"]
    assert sorted(names[v] for v in second.inputs) == ["a", "b", "e"]
    assert first.outputs[1] != second.inputs[0]  # "b" before and after the layer in place
    freed = [sorted(names[v] for v in values) for values in last_uses([first, layer, second], flow)]
    assert freed == [["x"], ["b"], ["a", "b", "e"]]


def test_the_last_value_of_a_blob_is_the_blob(make_net: NetMaker) -> None:
    net, x = make_net(TEXT), torch.randn(2, 3)
    flow = flow_of(net)
    values = run_layers(net, flow, {"x": x}, flow.final.values())
    blobs = net.propagate({"x": x})
    for name, tensor in blobs.items():
        torch.testing.assert_close(values[flow.final[name]], tensor)
    few = run_layers(net, flow, {"x": x}, [flow.final["b"]])
    assert flow.final["d"] not in few


def test_layers_whose_shapes_depend_on_values(make_net: NetMaker) -> None:
    net = make_net(
        """
        layer { name: "in" type: "Input" top: "x" top: "s"
          input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
        layer { name: "before" type: "ReLU" bottom: "x" top: "a" }
        layer { name: "some" type: "Filter" bottom: "a" bottom: "s" top: "some" }
        layer { name: "after" type: "TanH" bottom: "some" top: "after" }
        """
    )
    varying = {net.places[i].node.name for i in varying_layers(net, flow_of(net))}
    assert varying == {"some", "after"}


def test_a_layer_fits_unless_it_has_labels_or_indices(make_net: NetMaker) -> None:
    """Interp may have a second bottom that takes no gradient."""
    net = make_net("""
    layer { name: "in" type: "Input" top: "x" top: "like"
      input_param { shape { dim: 1 dim: 2 dim: 4 dim: 5 } } }
    layer { name: "plain" type: "Interp" bottom: "x" top: "plain"
      interp_param { height: 8 width: 9 } }
    layer { name: "two" type: "Interp" bottom: "plain" bottom: "like" top: "two" }
    """)
    fitting = fits(net, flow_of(net), Folded())
    fits_in = {place.node.name: fitting(place) for place in net.places if place.node.bottoms}
    assert (fits_in["plain"], fits_in["two"]) == (True, False)
