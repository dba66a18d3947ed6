from __future__ import annotations

import pytest

from moka.errors import NetError
from moka.layers.window import Window, covering, per_axis, pooled_sizes


def starts(size: int, window: Window) -> list[int]:
    """Where windows that lie wholly in the padded image begin."""
    last = size + window.pad - window.extent
    return [s for s in range(-window.pad, last + 1) if (s + window.pad) % window.stride == 0]


@pytest.mark.parametrize("size", [5, 8, 13])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("pad", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_convolved_counts_the_whole_windows(
    size: int, kernel: int, stride: int, pad: int, dilation: int
) -> None:
    window = Window(kernel, stride, pad, dilation)
    assert window.convolved(size) == len(starts(size, window))


@pytest.mark.parametrize(
    ("size", "window", "end_pad"),
    [
        (2, Window(3, 2), 1),
        (1, Window(3, 3, 0, 1, end_pad=1), 2),
        (1, Window(2, 4, 1, 5), 4),
        (1, Window(3, 2), None),  # a whole stride beyond
        (3, Window(3, 2), None),
    ],
)
def test_covering_pads_where_a_window_reaches_beyond_the_image(
    size: int, window: Window, end_pad: int | None
) -> None:
    (found,) = covering([window], [size])
    assert found == window._replace(end_pad=end_pad)
    if end_pad is not None:
        assert found.convolved(size) == 1


@pytest.mark.parametrize(
    ("size", "window", "up", "down"),
    [
        (24, Window(2, 2), 12, 12),
        (55, Window(3, 2), 27, 27),
        (6, Window(3, 2), 3, 2),  # (6 - 3) / 2 = 1.5
        (5, Window(2, 2, 1), 3, 3),  # 4 by ceiling; the last would start at 5 + 1 and is dropped
        (4, Window(2, 2, 1), 3, 3),
        (4, Window(2, 3, 1), 2, 2),
        (7, Window(2, 4), 3, 2),  # without padding nothing is dropped, not even an empty window
    ],
)
def test_pooled(size: int, window: Window, up: int, down: int) -> None:
    assert pooled_sizes([size], [window]) == (up,)
    assert pooled_sizes([size], [window], round_up=False) == (down,)


def test_padding_of_one_axis_clips_the_other_too() -> None:
    padded = Window(3, 1, 1)
    # Along 7 pixels the third window would start at 8: dropped as soon as any axis is padded.
    assert pooled_sizes([7, 5], [Window(2, 4), padded]) == (2, 5)
    assert pooled_sizes([5, 7], [padded, Window(2, 4)]) == (5, 2)


@pytest.mark.parametrize("window", [Window(3), Window(3, 2, 1), Window(2, 3, 1, 2)])
def test_deconvolved_is_brought_back_by_convolved(window: Window) -> None:
    assert [window.convolved(window.deconvolved(size)) for size in (2, 3, 8)] == [2, 3, 8]
    assert [window.convolved(window.deconvolved(size) - 1) for size in (2, 3, 8)] == [1, 2, 7]


def test_extent_spans_the_gaps_of_a_dilated_kernel() -> None:
    assert [Window(3, dilation=d).extent for d in (1, 2, 4)] == [3, 5, 9]


@pytest.mark.parametrize(
    ("values", "h", "w", "axes", "default", "expected"),
    [
        ((3,), None, None, 2, None, (3, 3)),
        ((3, 5), None, None, 2, None, (3, 5)),
        ((), 3, 5, 2, None, (3, 5)),
        ((), None, None, 3, 1, (1, 1, 1)),
        ((), 2, None, 2, 1, (2, 1)),
        ((), None, 2, 2, 0, (0, 2)),
        ((), None, None, 0, None, ()),
        ((4,), None, None, 0, None, ()),
    ],
)
def test_per_axis(
    values: tuple[int, ...],
    h: int | None,
    w: int | None,
    axes: int,
    default: int | None,
    expected: tuple[int, ...],
) -> None:
    assert per_axis("kernel_size", values, h, w, axes, default) == expected


@pytest.mark.parametrize(
    ("values", "h", "w", "axes", "message"),
    [
        ((), 3, 3, 1, "kernel_h and kernel_w are for two spatial axes, here are 1"),
        ((3,), 3, 3, 2, "give either kernel_size or kernel_h and kernel_w, not both"),
        ((), 3, None, 2, "give both kernel_h and kernel_w"),
        ((), None, None, 2, "kernel_size is missing"),
        ((1, 2, 3), None, None, 2, "once for each of the 2 spatial axes, got 3 values"),
    ],
)
def test_per_axis_refuses(
    values: tuple[int, ...], h: int | None, w: int | None, axes: int, message: str
) -> None:
    with pytest.raises(NetError, match=message):
        per_axis("kernel_size", values, h, w, axes, None)
