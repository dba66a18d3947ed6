"""Layers without bottoms that need no file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import DataError, NetError
from moka.layers.source import MemoryData, Source, given_source
from moka.schema import caffe_pb2, parse_text
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

    from moka.types import Shape


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
    assert made.entry.source == "caller"
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


def memory_layer(make_layer: LayerMaker, more: str = "", batch: int = 2) -> MemoryData:
    sizes = f"memory_data_param {{ batch_size: {batch} channels: 1 height: 1 width: 2 }}"
    made = make_layer(with_tops("MemoryData", "a b", f"{sizes} {more}"))
    assert isinstance(made, MemoryData)
    return made


ITEMS = np.arange(8, dtype=np.float32).reshape(4, 1, 1, 2)


def test_memory_data_hands_out_batch_after_batch(make_layer: LayerMaker) -> None:
    made = memory_layer(make_layer)
    assert made.top_shapes() == [(2, 1, 1, 2), (2,)]
    made.set_arrays(ITEMS, np.arange(4.0))
    for first in (0, 2, 0):
        data, labels = made()
        np.testing.assert_array_equal(data, ITEMS[first : first + 2])
        assert labels.shape == (2, 1, 1, 1)
        assert labels.flatten().tolist() == [first, first + 1]
    assert made.top_shapes() == [(2, 1, 1, 2), (2, 1, 1, 1)]
    made.set_arrays(-ITEMS[:2], np.zeros((2, 1, 1, 1)))
    np.testing.assert_array_equal(made()[0], -ITEMS[:2])


def test_memory_data_does_not_copy(make_layer: LayerMaker) -> None:
    made, items = memory_layer(make_layer), ITEMS.copy()
    made.set_arrays(items, np.arange(4.0))
    items[0] = 9
    assert made()[0][0].flatten().tolist() == [9, 9]


def test_memory_data_goes_on_from_a_state(make_layer: LayerMaker) -> None:
    first, second = (memory_layer(make_layer) for _ in range(2))
    for made in (first, second):
        made.set_arrays(ITEMS, np.arange(4.0))
    first()
    second.load_state(first.state())
    assert second()[1].flatten().tolist() == [2, 3]


def test_memory_data_of_records_is_transformed(make_layer: LayerMaker) -> None:
    made = memory_layer(make_layer, "transform_param { scale: 0.5 mean_value: 1 }", batch=1)
    made.add_datums([caffe_pb2.Datum(channels=1, height=1, width=2, data=bytes([3, 5]), label=7)])
    data, labels = made()
    assert data.flatten().tolist() == [1, 2]
    assert labels.flatten().tolist() == [7]


@pytest.mark.parametrize(
    ("data", "labels", "message"),
    [
        (ITEMS[:3], np.zeros(3), "3 items are not a multiple of the batch size, 2"),
        (ITEMS[:0], np.zeros(0), "0 items are not a multiple"),
        (ITEMS, np.zeros(3), "4 items need as many labels, found 3"),
        (ITEMS.reshape(4, 2, 1, 1), np.zeros(4), r"items have shape \(2, 1, 1\), not \(1, 1, 2\)"),
    ],
)
def test_memory_data_refuses(
    make_layer: LayerMaker, data: Array, labels: Array, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        memory_layer(make_layer).set_arrays(data, labels)


def test_an_input_stands_for_a_source_whose_data_is_given() -> None:
    config = parse_text(
        'name: "db" type: "Data" top: "a" top: "b" data_param { source: "no/such/database" }',
        caffe_pb2.LayerParameter,
    )
    made = given_source(config, [(2, 3), ()])
    assert made.top_shapes() == [(2, 3), ()]
    assert made.config.name == "db"
    with pytest.raises(NetError, match=r"no data given for a, b\. Pass a tensor for each of a, b"):
        made()


def test_memory_data_without_data(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match=r"has no data yet\. Give it arrays first"):
        memory_layer(make_layer)()
    with pytest.raises(NetError, match="channels is missing"):
        make_layer(with_tops("MemoryData", "a b", "memory_data_param { batch_size: 1 }"))


def test_memory_data_without_labels(make_layer: LayerMaker) -> None:
    sizes = "batch_size: 2 channels: 1 height: 1 width: 2 label_type: NONE"
    made = make_layer(with_tops("MemoryData", "a", f"memory_data_param {{ {sizes} }}"))
    assert isinstance(made, MemoryData)
    assert made.top_shapes() == [(2, 1, 1, 2)]
    made.set_arrays(ITEMS, np.arange(4.0))
    (data,) = made()
    np.testing.assert_array_equal(data.numpy(), ITEMS[:2])
