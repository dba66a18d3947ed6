from __future__ import annotations

import pytest

from moka.schema import caffe_pb2
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
