from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import lmdb
import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

    from moka.layers import Layer

OBJECTS = [(3, 0, 0.25, 0.5, 0.2, 0.4), (1, 1, 0.9, 1.0, 0.1, 0.1)]


@pytest.fixture(autouse=True)
def _database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = np.full((40, 50, 3), 20, np.uint8)
    pixels[12:28, 7:18] = 240  # the first object
    write("db", [record(pixels, OBJECTS), record(pixels, [])])


def record(pixels: np.ndarray, objects: Sequence[tuple[float, ...]]) -> bytes:
    datum = caffe_pb2.Datum(encoded=True, data=cv2.imencode(".png", pixels)[1].tobytes())
    datum.float_data.extend(number for each in objects for number in each)
    return datum.SerializeToString()


def write(path: str, records: list[bytes]) -> None:
    with lmdb.open(path, map_size=1 << 22) as database, database.begin(write=True) as out:
        for k, value in enumerate(records):
            out.put(b"%08d" % k, value)


def box_data(make_layer: LayerMaker, fields: str = "", tops: int = 2, more: str = "",
             *, training: bool = False) -> Layer:  # fmt: skip
    names = " ".join(f'top: "t{k}"' for k in range(tops))
    return make_layer(
        f'type: "BoxData" {names} data_param {{ source: "db" batch_size: 2 {fields} }} {more}',
        training=training,
    )


def test_yolo_v1s_map(make_layer: LayerMaker) -> None:
    layer = box_data(make_layer)
    assert layer.first_top_shapes == [(2, 3, 40, 50), (2, 343)]
    labels = layer()[1]
    want = np.zeros((7, 49), np.float32)
    want[2] = -1
    for class_, difficult, x, y, w, h in OBJECTS:
        cell = 7 * min(int(y * 7), 6) + min(int(x * 7), 6)
        want[:3, cell] = difficult, 1, class_
        want[3:].reshape(-1)[4 * cell : 4 * cell + 4] = x, y, w, h
    np.testing.assert_array_equal(labels[0], want.ravel())
    assert labels[1].unique().tolist() == [-1, 0]


def test_yolo_v2s_list(make_layer: LayerMaker) -> None:
    labels = box_data(make_layer, "side: 13")()[1]
    assert labels.shape == (2, 150)
    want = [number for o in OBJECTS for number in (o[0], *o[2:])]
    np.testing.assert_allclose(labels[0, :10], want)
    assert not labels[0, 10:].any()
    assert not labels[1].any()


def test_a_top_for_each_side(make_layer: LayerMaker) -> None:
    shapes = [tuple(t.shape) for t in box_data(make_layer, "side: 7 side: 13 side: 3", 4)()]
    assert shapes == [(2, 3, 40, 50), (2, 343), (2, 150), (2, 63)]
    assert len(box_data(make_layer, "side: 7 side: 13", 1)()) == 1
    with pytest.raises(NetError, match="side num not equal to top size: 1 for 2"):
        box_data(make_layer, "side: 7", 3)


@pytest.mark.parametrize("mirror", ["", "transform_param { mirror: true }"])
def test_parts_of_images_in_training(make_layer: LayerMaker, mirror: str) -> None:
    layer = box_data(make_layer, "side: 13", more=mirror, training=True)
    seen = set()
    for _ in range(30):
        data, labels = layer()
        rows = labels[0].reshape(30, 5)
        rows = rows[rows[:, 3] > 0]
        assert len(rows)
        for class_, x, y, w, h in rows.tolist():
            if class_ != 3:
                continue
            down, across = np.nonzero((data[0, 0] > 130).numpy())
            low = [(x - w / 2) * 50, (y - h / 2) * 40]
            np.testing.assert_allclose(np.clip(low, 0, None), [across.min(), down.min()], atol=2.2)
            seen.add((round(x, 4), round(w, 4)))
    assert len(seen) > 15
    again = box_data(make_layer, "side: 13", more=mirror, training=True)
    again.load_state(layer.state())  # type: ignore[operator]
    for a, b in zip(layer(), again(), strict=True):
        assert torch.equal(a, b)


def test_refused(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="but not their boxes"):
        box_data(make_layer, more="transform_param { crop_size: 8 }")
    write("db", [record(np.zeros((4, 4, 3), np.uint8), [(1, 2, 3)])])
    with pytest.raises(DataError, match=r'record "00000000": an image and 6 numbers .* 3 numbers'):
        box_data(make_layer)
