"""Changed inputs: other bytes, equal for equal seeds, and mostly still of their form."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from mutate import (
    MOST_BYTES,
    Mutate,
    mutate_bytes,
    mutate_numbers,
    mutate_text,
    mutate_wire,
)
from nets import mutate
from seeds import NET, binaryprotos, datums, lmdbs

from moka.errors import MokaError
from moka.schema import caffe_pb2, parse_text


def no_bytes() -> bytes:
    return b""


@pytest.mark.parametrize("data", [no_bytes, lambda: datums()[0], lambda: lmdbs()[0], NET.encode])
@pytest.mark.parametrize("change", [mutate_bytes, mutate_wire, mutate_text, mutate_numbers])
def test_any_bytes_are_changed(change: Mutate, data: Callable[[], bytes]) -> None:
    given = data()
    made = [change(given, Random(seed)) for seed in range(60)]
    assert made == [change(given, Random(seed)) for seed in range(60)]
    assert len({given, *made}) > (5 if not given else 30)
    assert max(map(len, made)) < 4 * MOST_BYTES


def test_messages_stay_messages() -> None:
    whole = 0
    for seed in range(300):
        blob = caffe_pb2.BlobProto()
        try:
            blob.ParseFromString(mutate_wire(binaryprotos()[seed % 3], Random(seed)))
        except Exception:  # noqa: BLE001 - protobuf's DecodeError, whichever implementation
            continue
        whole += 1
    assert 100 < whole < 300


def test_prototxts_stay_prototxts() -> None:
    whole = changed = 0
    before = parse_text(NET, caffe_pb2.NetParameter)
    for seed in range(300):
        text = mutate(NET.encode(), Random(seed), "NetParameter").decode("utf-8", "replace")
        try:
            net = parse_text(text, caffe_pb2.NetParameter)
        except MokaError:
            continue
        whole += 1
        changed += net != before
    assert 200 < whole < 300
    assert changed > 200
