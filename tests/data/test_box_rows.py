from __future__ import annotations

import numpy as np
import pytest

from moka.data.box_rows import YOLO_BOXES, cut_rows, mirror_rows, ssd_table, yolo_table
from moka.schema import caffe_pb2, parse_text
from moka.types import Floats


def row(x1: float, y1: float, x2: float, y2: float, label: int = 1) -> list[float]:
    return [label, 0, x1, y1, x2, y2, 0]


def rows(*each: list[float]) -> Floats:
    return np.array(each, np.float32).reshape(-1, 7)


PART = np.array([0.5, 0.25, 1.0, 0.75], np.float32)
INSIDE, ACROSS = row(0.6, 0.3, 0.7, 0.5), row(0.2, 0.3, 0.6, 0.5, label=2)
BESIDE, TOUCHING = row(0, 0, 0.4, 0.2, label=3), row(0, 0, 0.5, 1, label=4)


def test_a_cut_moves_and_clips_what_reaches_into_it() -> None:
    kept = cut_rows(rows(INSIDE, ACROSS, BESIDE, TOUCHING), PART, None)
    want = rows(row(0.2, 0.1, 0.4, 0.5), row(0, 0.1, 0.2, 0.5, label=2))
    np.testing.assert_allclose(kept, want, atol=1e-6)


@pytest.mark.parametrize(
    ("constraint", "labels"),
    [
        ("emit_type: CENTER", [1]),
        ("emit_type: MIN_OVERLAP emit_overlap: 0.2", [1, 2]),
        ("emit_type: MIN_OVERLAP emit_overlap: 0.3", [1]),
    ],
)
def test_the_constraint_keeps(constraint: str, labels: list[int]) -> None:
    """A quarter of ACROSS lies in the part, its center does not."""
    param = parse_text(constraint, caffe_pb2.EmitConstraint)
    kept = cut_rows(rows(INSIDE, ACROSS, BESIDE, TOUCHING), PART, param)
    assert kept[:, 0].tolist() == labels


def test_a_part_beyond_the_image_shrinks_boxes() -> None:
    kept = cut_rows(rows(row(0, 0, 1, 1)), np.array([-1, -0.5, 3, 1.5], np.float32), None)
    np.testing.assert_allclose(kept, rows(row(0.25, 0.25, 0.5, 0.75)))


def test_mirrored_twice_is_as_before() -> None:
    once = mirror_rows(rows(ACROSS))
    np.testing.assert_allclose(once, rows(row(0.4, 0.3, 0.8, 0.5, label=2)), atol=1e-6)
    np.testing.assert_allclose(mirror_rows(once), rows(ACROSS), atol=1e-6)


def test_the_table_of_ssd() -> None:
    table = ssd_table([rows(INSIDE), rows(), rows(ACROSS, BESIDE)])
    assert table.shape == (1, 1, 3, 8)
    assert table[0, 0, :, 0].tolist() == [0, 2, 2]
    np.testing.assert_array_equal(table[0, 0, :, 1:], rows(INSIDE, ACROSS, BESIDE))
    np.testing.assert_array_equal(ssd_table([rows(), rows()]), np.full((1, 1, 1, 8), -1))


def test_the_table_of_yolo() -> None:
    table = yolo_table([rows(ACROSS), rows()])
    assert table.shape == (2, 1, YOLO_BOXES, 5)
    np.testing.assert_allclose(table[0, 0, 0], [1, 0.4, 0.4, 0.4, 0.2], atol=1e-6)
    assert not table[0, 0, 1:].any()
    assert not table[1].any()
    full = yolo_table([rows(*[INSIDE] * (YOLO_BOXES + 5))])
    assert full[0, 0].any(1).all()
