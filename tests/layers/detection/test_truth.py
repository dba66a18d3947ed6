from __future__ import annotations

import pytest
import torch

from moka.errors import DataError, NetError
from moka.layers.detection import truth
from moka.layers.detection.truth import check_truth_blob, read_truth

ROWS = torch.tensor(
    [
        [0, 1, 0, 0.1, 0.2, 0.3, 0.4, 0],
        [-1, 0, 0, 0, 0, 0, 0, 0],
        [1, 2, 1, 0.5, 0.5, 0.6, 0.6, 1],
    ]
)[None, None]


def test_rows_of_no_image_are_left_out() -> None:
    found = read_truth(ROWS, 3, 0)
    assert found.image.tolist() == [0, 1]
    assert found.label.tolist() == [1, 2]
    assert found.difficult.tolist() == [False, True]
    torch.testing.assert_close(found.boxes, ROWS[0, 0, [0, 2], 3:7])
    assert found.of(found.difficult).label.tolist() == [2]


def test_two_classes_tell_objects_from_background_only(caplog: pytest.LogCaptureFixture) -> None:
    truth._tell_one_kind.cache_clear()
    assert read_truth(ROWS[:, :, :2], 2, 0).label.tolist() == [1]
    assert not caplog.messages
    for _ in range(2):
        assert read_truth(ROWS, 2, 0).label.tolist() == [1, 1]
    (told,) = caplog.messages
    assert told.endswith("Two classes of objects need num_classes: 3.")


def test_states_are_fifth_digits_of_labels() -> None:
    rows = ROWS.clone()
    rows[0, 0, :, 1] = torch.tensor([10203, 0, 905527])
    found = read_truth(rows, 2, 0, states=4)
    assert found.state.tolist() == [3, 2]
    assert found.label.tolist() == [1, 1]
    with pytest.raises(DataError, match="state 3, which is outside of the 3 states"):
        read_truth(rows, 2, 0, states=3)
    rows[0, 0, 2, 1] = 9999
    with pytest.raises(DataError, match="fifth digit is its state; a true box has label 9999"):
        read_truth(rows, 2, 0, states=4)
    assert not read_truth(ROWS, 3, 0).state.any()


def test_wrong_labels() -> None:
    with pytest.raises(DataError, match="label 1, which is the background"):
        read_truth(ROWS, 3, 1)
    rows = ROWS.clone()
    rows[0, 0, 2, 1] = 3
    with pytest.raises(DataError, match="label 3, which is outside of the 3 classes"):
        read_truth(rows, 3, 0)


def test_shape() -> None:
    check_truth_blob((1, 1, 0, 8))
    with pytest.raises(NetError, match="1 1 G 8"):
        check_truth_blob((1, 1, 5, 7))
