"""The facts in each entry of the registry: its message, its options, its description."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.layers.one_layer import UNREAD

from moka.layers import REGISTRY, Layer, all_entries
from moka.layers.registry import layer
from moka.schema import caffe_pb2, read_text
from moka.schema.forks import FIRST_FORK_NUMBER


def own_message(kind: str) -> Any:
    field = REGISTRY[kind].message
    if field is None:
        return None
    return caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name[field].message_type


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_every_field_of_its_own_message_is_read(kind: str) -> None:
    message = own_message(kind)
    if message is None or message.name == "LossParameter":  # shared by all losses
        return
    read = {option.name for option in REGISTRY[kind].make.options if option.of is None}
    unread = {f.name for f in message.fields if f.number < FIRST_FORK_NUMBER} - read
    assert unread == set(UNREAD.get(kind, {}))


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_every_field_it_reads_exists(kind: str) -> None:
    for field in REGISTRY[kind].make.options:
        layer_fields: Any = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
        homes = REGISTRY[kind].messages if field.of is None else (field.of,)
        known = [layer_fields[home].message_type.fields_by_name for home in homes if home]
        assert any(field.name in fields for fields in known or [layer_fields]), field.name


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_every_type_is_described(kind: str) -> None:
    text = REGISTRY[kind].make.__doc__
    assert text
    assert text != Layer.__doc__


@pytest.mark.parametrize("kind", [entry.type for entry in all_entries() if entry.fork is None])
def test_every_type_has_a_recorded_case(kind: str) -> None:
    """Numbers of BVLC Caffe, in one layer's case or for files that are read."""
    cases = Path(__file__).parents[1] / "conformance"
    seen: set[str] = set()
    for case in (cases / "layers").glob("*.npz"):
        with np.load(case) as values:
            seen |= set(json.loads(str(values["layer_types"])))
    for text in (cases / "files").glob("*/work/read.prototxt"):
        seen |= {layer.type for layer in read_text(text, caffe_pb2.NetParameter).layer}
    assert kind in seen


def test_the_table_of_types_is_read_only() -> None:
    with pytest.raises(TypeError):
        REGISTRY["New"] = REGISTRY["ReLU"]  # type: ignore[index]


def test_a_second_registration_is_refused() -> None:
    with pytest.raises(ValueError, match="layer type ReLU is registered twice"):
        layer("ReLU", bottoms=1, tops=1)(Layer)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ReLU", "relu_param"),
        ("TanH", "tanh_param"),
        ("InnerProduct", "inner_product_param"),
        ("HDF5Data", "hdf5_data_param"),
        ("SoftmaxWithLoss", "softmax_param"),
        ("Split", None),
    ],
)
def test_the_message_that_configures_a_type(kind: str, expected: str | None) -> None:
    assert REGISTRY[kind].message == expected
