from __future__ import annotations

import numpy as np
import pytest

from moka.errors import UsageError
from moka.matlab.values import (
    Column,
    ForeignArray,
    Handles,
    Row,
    Texts,
    body_size,
    read_arguments,
    write_result,
)


def test_arguments() -> None:
    numbers = np.arange(18, dtype=np.float32)
    written = [
        "text",
        3,
        [1, 2],
        [],
        {"single": [2, 3]},
        {"handles": [7], "init_key": 12},
        {"texts": ["a", "b"]},
        {"single": [3, 2, 1, 2]},
        {"class": "double", "size": [4, 4]},
    ]
    assert body_size(written) == 72
    first, *others = read_arguments(written, numbers.data.cast("B"))
    assert first == "text"
    assert others[0] == 3
    assert isinstance(others[1], Row)
    assert (others[1], others[2]) == ((1, 2), ())
    # A 2 x 3 matrix, column by column, is Caffe's 3 x 2.
    assert others[3].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert others[4] == Handles((7,), 12)
    assert others[5] == Texts(["a", "b"])
    assert others[6].shape == (2, 1, 2, 3)
    assert others[6].flatten().tolist() == list(range(6, 18))
    assert others[7] == ForeignArray("double", (4, 4))


def test_results() -> None:
    array = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    head, arrays = write_result(
        {
            "a": array,
            "h": Handles((1, 2), 5.0),
            "t": Texts(["x"]),
            "r": Row([1, 2]),
            "c": Column([3]),
        }
    )
    assert head == {
        "struct": {
            "a": {"single": [3, 2, 1]},
            "h": {"handles": [1, 2], "init_key": 5.0},
            "t": {"texts": ["x"]},
            "r": {"row": [1, 2]},
            "c": {"column": [3]},
        }
    }
    assert [a.tolist() for a in arrays] == [array.tolist()]
    assert write_result(None) == (None, [])
    assert write_result("text") == ("text", [])


@pytest.mark.parametrize(("shape", "size"), [((), [1, 1]), ((4,), [4, 1]), ((2, 3), [3, 2])])
def test_sizes_of_few_axes(shape: tuple[int, ...], size: list[int]) -> None:
    head, _ = write_result(np.zeros(shape, np.float32))
    assert head == {"single": size}


def test_what_is_no_argument() -> None:
    with pytest.raises(UsageError, match="no argument is written as"):
        read_arguments([{"odd": 1}], memoryview(b""))
