from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from moka.report.records import Output, Record, SnapshotWritten

KINDS = [*get_args(Record), Output]


@pytest.mark.parametrize("kind", KINDS)
def test_records_are_plain_frozen_data(kind: type) -> None:
    assert dataclasses.is_dataclass(kind)
    values = {field.name: None for field in dataclasses.fields(kind)}
    record = kind(**values)
    assert dataclasses.asdict(record) == values
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, next(iter(values)), 1)


@pytest.mark.parametrize("kind", get_args(Record))
def test_every_record_says_when_it_happened(kind: type) -> None:
    assert "iteration" in {field.name for field in dataclasses.fields(kind)}


def test_equal_contents_are_equal_records() -> None:
    assert SnapshotWritten(1, "m", "s") == SnapshotWritten(1, "m", "s")
    assert SnapshotWritten(1, "m", "s") != SnapshotWritten(2, "m", "s")
