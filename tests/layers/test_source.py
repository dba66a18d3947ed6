"""Layers without bottoms that need no file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moka.errors import NetError
from moka.layers.source import Source

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Shape


@pytest.mark.parametrize(
    ("fields", "tops", "shapes"),
    [
        ("shape { dim: 2 dim: 3 }", "a", [(2, 3)]),
        ("shape { dim: 2 dim: 3 }", "a b", [(2, 3), (2, 3)]),
        ("shape { dim: 2 } shape { dim: 3 dim: 1 }", "a b", [(2,), (3, 1)]),
        ("shape { }", "a", [()]),
    ],
)
def test_input(make_layer: LayerMaker, fields: str, tops: str, shapes: list[Shape]) -> None:
    made = make_layer(with_tops("Input", tops, f"input_param {{ {fields} }}"))
    assert made.top_shapes() == shapes


def with_tops(kind: str, tops: str, more: str) -> str:
    return f'type: "{kind}" {" ".join(f"""top: "{t}" """ for t in tops.split())} {more}'


def test_input_makes_no_data(make_layer: LayerMaker) -> None:
    made = make_layer(with_tops("Input", "a b", "input_param { shape { dim: 1 } }"))
    with pytest.raises(NetError, match=r"no data given for a, b\. Pass a tensor for each"):
        made()


DUMMY = "dummy_data_param"


@pytest.mark.parametrize(
    ("fields", "tops", "shapes"),
    [
        ("shape { dim: 2 dim: 3 }", "a b", [(2, 3), (2, 3)]),
        ("shape { dim: 2 } shape { dim: 3 }", "a b", [(2,), (3,)]),
        ("num: 2 channels: 3 height: 4 width: 5", "a b", [(2, 3, 4, 5)] * 2),
        (
            "num: 2 num: 7 channels: 3 height: 4 height: 6 width: 5",
            "a b",
            [(2, 3, 4, 5), (7, 3, 6, 5)],
        ),
    ],
)
def test_dummy_data_shapes(
    make_layer: LayerMaker, fields: str, tops: str, shapes: list[Shape]
) -> None:
    made = make_layer(with_tops("DummyData", tops, f"{DUMMY} {{ {fields} }}"))
    assert made.top_shapes() == shapes
    assert [tuple(top.shape) for top in made()] == shapes
    assert not any(top.any() for top in made())


def test_dummy_data_constants_are_made_once_random_numbers_each_time(
    make_layer: LayerMaker,
) -> None:
    fillers = 'data_filler { value: 3 } data_filler { type: "gaussian" }'
    made = make_layer(with_tops("DummyData", "a b", f"{DUMMY} {{ shape {{ dim: 9 }} {fillers} }}"))
    (a, b), (c, d) = made(), made()
    assert a.tolist() == [3] * 9
    assert a.data_ptr() == c.data_ptr()
    assert b.tolist() != d.tolist()


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("Input", "input_param { }", "Must specify 'shape' once, or once per top blob: 0 for 2"),
        (
            "Input",
            "input_param { shape { } shape { } shape { } }",
            "'shape' once, or once per top blob: 3 for 2 tops",
        ),
        ("DummyData", "dummy_data_param { }", "give shape, or num, channels, height and width"),
        (
            "DummyData",
            "dummy_data_param { num: 1 channels: 1 height: 1 }",
            "give shape, or num, channels, height and width",
        ),
        (
            "DummyData",
            "dummy_data_param { shape { } shape { } shape { } }",
            "'shape' once, or once per top blob: 3 for 2 tops",
        ),
        (
            "DummyData",
            "dummy_data_param { shape { } data_filler { } data_filler { } data_filler { } }",
            "'data_filler' once, or once per top blob: 3 for 2 tops",
        ),
    ],
)
def test_refused(make_layer: LayerMaker, kind: str, more: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(with_tops(kind, "a b", more))


def test_layers_that_make_data_say_so(make_layer: LayerMaker) -> None:
    made = make_layer(with_tops("Input", "a", "input_param { shape { } }"))
    assert isinstance(made, Source)
    assert made.is_source
    assert made.state() is None


@pytest.mark.parametrize(
    ("fields", "shape"), [("shape { dim: 2 dim: 3 }", (2, 3)), ("shape { }", ()), ("", ())]
)
def test_parameter_is_a_blob_of_its_own(make_layer: LayerMaker, fields: str, shape: Shape) -> None:
    made = make_layer(with_tops("Parameter", "a", f"parameter_param {{ {fields} }}"))
    assert made.top_shapes() == [shape]
    assert made.blob_shapes == [shape]
    (top,) = made()
    assert top.data_ptr() == made.weights[0].data_ptr()
    assert not top.any()
    (3 * top).sum().backward()
    assert made.weights[0].grad is not None
    assert (made.weights[0].grad == 3).all()
