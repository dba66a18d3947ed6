from __future__ import annotations

import pytest

from moka.report.text_chart import Curve, resampled, text_chart

MARGIN = 10  # a label, a blank, the axis


def dots(chart: list[str]) -> list[str]:
    """A chart's dots as `#`, without its margin."""
    rows = []
    for line in chart:
        cells = [ord(c) - 0x2800 for c in line[MARGIN:]]
        for bits in ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80)):
            rows.append("".join("#" if c & bit else "." for c in cells for bit in bits))
    return rows


def test_a_falling_line() -> None:
    chart = text_chart([7.0, 0.0], MARGIN + 4, 2)
    assert [line[:MARGIN] for line in chart] == ["       7 ┤", "       0 ┤"]
    assert dots(chart) == [
        "#.......",
        ".#......",
        "..#.....",
        "...#....",
        "....#...",
        ".....#..",
        "......#.",
        ".......#",
    ]


def test_a_line_without_gaps() -> None:
    assert dots(text_chart([0.0, 0.0, 7.0, 7.0], MARGIN + 2, 2)) == ["..##", *["..#."] * 6, "##.."]
    assert dots(text_chart([7.0, 7.0, 0.0, 0.0], MARGIN + 2, 2)) == ["##..", *["..#."] * 6, "..##"]


def test_a_constant() -> None:
    assert sum(row == "####" for row in dots(text_chart([3.0, 3.0], MARGIN + 2, 2))) == 1


@pytest.mark.parametrize(
    ("values", "middle"),
    [
        ((100.0, 10.0, 1.0), 6),  # logarithmic
        ((20.0, 10.5, 1.0), 6),
        ((100.0, 10.0, 0.0), 10),  # there is no logarithm of 0
        ((9.0, -31.0, -71.0), 6),
    ],
)
def test_the_scale(values: tuple[float, float, float], middle: int) -> None:
    rows = dots(text_chart([v for v in values for _ in (0, 1)], MARGIN + 3, 3))
    assert [i for i, row in enumerate(rows) if row[3] == "#"] == [middle]


def test_margins_have_one_width_for_all_labels() -> None:
    charts = (text_chart([v, v / 2], 40, 2) for v in (1.2345e-5, 1.0, 123456.0))
    assert {line.index("┤") for chart in charts for line in chart} == {MARGIN - 1}


@pytest.mark.parametrize(
    ("values", "count", "wanted"),
    [
        ([1.0, 3.0, 5.0, 7.0], 2, [2.0, 6.0]),
        ([1.0, 2.0, 3.0], 3, [1.0, 2.0, 3.0]),
        ([1.0, 3.0, 5.0, 7.0, 9.0], 2, [2.0, 7.0]),
        ([0.0, 4.0], 5, [0.0, 1.0, 2.0, 3.0, 4.0]),
    ],
)
def test_resampled(values: list[float], count: int, wanted: list[float]) -> None:
    assert resampled(values, count) == wanted


def test_a_long_curve_takes_little_memory() -> None:
    curve = Curve(capacity=4)
    for i in range(3):
        curve.add(i)
    assert curve.points == [0, 1, 2]
    curve.add(3)
    assert curve.points == [0.5, 2.5]
    for i in range(4, 8):
        curve.add(i)
    assert curve.points == [1.5, 5.5]
    for i in range(8, 11):
        curve.add(i)
    assert curve.points == [1.5, 5.5]
    curve.add(11)
    assert curve.points == [1.5, 5.5, 9.5]
