from __future__ import annotations

import pytest

from moka.schema import caffe_pb2, parse_text
from moka.schema.forks import (
    ENGINE_OPTIONS,
    FIRST_COUNTS,
    FIRST_FORK_NUMBER,
    UNDESCRIBED,
    UNQUOTED_STRINGS,
)

MESSAGES = caffe_pb2.DESCRIPTOR.message_types_by_name


@pytest.mark.parametrize("message", sorted(ENGINE_OPTIONS))
def test_engine_options_are_fields_of_forks(message: str) -> None:
    fields = MESSAGES[message].fields_by_name
    for name in ENGINE_OPTIONS[message]:
        assert fields[name].number >= FIRST_FORK_NUMBER


def test_messages_exist() -> None:
    assert set(MESSAGES) >= UNDESCRIBED | UNQUOTED_STRINGS
    for name in FIRST_COUNTS:
        _, message, field = name.split(".")
        assert field in MESSAGES[message].fields_by_name


def test_strings_of_solvers_without_quotes_end_at_space() -> None:
    text = "type: ADAM\ncustom_trainer_properties: A=1;;File=C:\\x~y.bin;\nbase_lr: 1, gamma: 2"
    solver = parse_text(text, caffe_pb2.SolverParameter)
    assert solver.type == "ADAM"
    assert solver.custom_trainer_properties == "A=1;;File=C:\\x~y.bin"
    assert (solver.base_lr, solver.gamma) == (1, 2)


def test_texts_of_intel_and_mycaffe() -> None:
    text = """
    layer { name: "c" type: "Convolution" quantization_param { scale_in: 2 scale_params: 1.5
            scale_params: 2.5 } }
    layer { type: "Data" data_param { backend: IMAGEDB images_per_blob: 2 } transform_param {
            color_order: BGR mask_param { boundary_left: 0 option { active: False } } } }
    """
    conv, data = parse_text(text, caffe_pb2.NetParameter).layer
    assert list(conv.quantization_param.scale_params) == [1.5, 2.5]
    assert data.data_param.images_per_blob == 2
