"""Correlation against loops over every pixel, displacement and window."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner


def at(x: Array, y: int, c: int) -> Array:
    inside = 0 <= y < x.shape[1] and 0 <= c < x.shape[2]
    return x[:, y, c] if inside else np.zeros(len(x))


def slow_correlation(
    a: Array,
    b: Array,
    *,
    pad: int,
    kernel: int,
    most: int,
    stride: int,
    step: int,
    subtract: bool = False,
    direction: int | None = None,
) -> Array:
    """One pair of maps (C, H, W); direction: None in both axes, else Correlation1D's."""
    radius, reach = kernel // 2, most // step
    flat = direction is not None
    sides = ((0, 0), (0 if flat else pad,) * 2, (pad, pad))
    a, b = np.pad(a, sides), np.pad(b, sides)
    margin_y, margin_x = radius + (0 if flat else most), radius + most
    height = ceil((a.shape[1] - 2 * margin_y) / stride)
    width = ceil((a.shape[2] - 2 * margin_x) / stride)
    ends = {None: (-reach, reach), 0: (-reach, reach), 1: (0, reach), -1: (-reach - 1, -1)}
    low, high = ends[direction]
    shifts = [
        (dy * step, dx * step)
        for dy in ([0] if flat else range(-reach, reach + 1))
        for dx in range(low, high + 1)
    ]
    out = np.zeros((len(shifts), height, width))
    for d, (dy, dx) in enumerate(shifts):
        for i in range(height):
            for j in range(width):
                total = 0.0
                for u in range(-radius, radius + 1):
                    for v in range(-radius, radius + 1):
                        y, x = i * stride + margin_y + u, j * stride + margin_x + v
                        one, other = at(a, y, x), at(b, y + dy, x + dx)
                        total += (abs(one - other) if subtract else one * other).sum()
                out[d, i, j] = total / (len(a) * kernel * kernel)
    return out


CASES = [
    {"pad": 2, "kernel": 1, "most": 2, "stride": 1, "step": 1},
    {"pad": 4, "kernel": 3, "most": 3, "stride": 2, "step": 2},
    {"pad": 3, "kernel": 3, "most": 2, "stride": 3, "step": 1, "subtract": True},
    {"pad": 0, "kernel": 1, "most": 1, "stride": 2, "step": 1},
    {"pad": 0, "kernel": 3, "most": 0, "stride": 1, "step": 1},
]


def fields(case: dict[str, int]) -> str:
    kind = "SUBTRACT" if case.get("subtract") else "MULTIPLY"
    direction = case.get("direction", 0)
    return (
        f"correlation_param {{ pad: {case['pad']} kernel_size: {case['kernel']}"
        f" max_displacement: {case['most']} stride_1: {case['stride']} stride_2: {case['step']}"
        f" correlation_type: {kind} single_direction: {direction} }}"
    )


@pytest.mark.parametrize("case", CASES)
def test_correlation(make_layer: LayerMaker, run: Runner, case: dict[str, int]) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 2, 3, 7, 8))
    layer = make_layer(f'type: "Correlation" {fields(case)}', a.shape, b.shape)
    (y,) = run(layer, a, b)
    want = np.stack([slow_correlation(*pair, **case) for pair in zip(a, b, strict=True)])  # type: ignore[arg-type]
    np.testing.assert_allclose(y, want, atol=1e-12)


@pytest.mark.parametrize("direction", [-1, 0, 1])
@pytest.mark.parametrize("case", CASES)
def test_correlation_1d(
    make_layer: LayerMaker, run: Runner, case: dict[str, int], direction: int
) -> None:
    case = case | {"direction": direction}
    a, b = np.random.default_rng(0).normal(size=(2, 2, 3, 5, 8))
    layer = make_layer(f'type: "Correlation1D" {fields(case)}', a.shape, b.shape)
    (y,) = run(layer, a, b)
    want = np.stack([slow_correlation(*pair, **case) for pair in zip(a, b, strict=True)])  # type: ignore[arg-type]
    np.testing.assert_allclose(y, want, atol=1e-12)


@pytest.mark.parametrize("kind", ["Correlation", "Correlation1D"])
@pytest.mark.parametrize("case", CASES[:3])
def test_gradients(
    make_layer: LayerMaker, check_gradient: GradientCheck, kind: str, case: dict[str, int]
) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 1, 2, 5, 5))
    check_gradient(make_layer(f'type: "{kind}" {fields(case)}', a.shape, b.shape), a, b)


@pytest.mark.parametrize(
    ("kind", "text", "shapes", "message"),
    [
        ("Correlation", "kernel_size: 2 max_displacement: 1", [(1, 2, 4, 4)] * 2, "must be odd"),
        ("Correlation", "max_displacement: 1", [(1, 2, 4, 4)] * 2, "kernel_size is missing"),
        ("Correlation", "kernel_size: 1 max_displacement: 2", [(1, 2, 4, 4)] * 2, "no window fits"),
        (
            "Correlation",
            "kernel_size: 1 max_displacement: 1",
            [(1, 2, 4, 4), (1, 3, 4, 4)],
            "two bottoms of one shape",
        ),
        (
            "Correlation1D",
            "kernel_size: 1 max_displacement: 1 single_direction: 2",
            [(1, 2, 4, 4)] * 2,
            "must be -1, 0 or 1, got 2",
        ),
        (
            "Correlation1D",
            "kernel_size: 1 max_displacement: 4294967295 pad: 4294967295",
            [(1, 2, 4, 4)] * 2,
            "max_displacement 4294967295 makes more than 100000 displacements",
        ),
    ],
)
def test_bad_input(
    make_layer: LayerMaker, kind: str, text: str, shapes: list[tuple[int, ...]], message: str
) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "{kind}" correlation_param {{ {text} }}', *shapes)


def test_a_stride_beyond_the_map(make_layer: LayerMaker, run: Runner) -> None:
    """One window, however long the stride is."""
    text = (
        'type: "Correlation"'
        " correlation_param {{ kernel_size: 1 max_displacement: 1 pad: 1 stride_1: {} }}"
    )
    maps = [np.arange(2.0 * 3 * 4 * 4).reshape(2, 3, 4, 4), np.ones((2, 3, 4, 4))]
    tops = [
        run(make_layer(text.format(stride), (2, 3, 4, 4), (2, 3, 4, 4)), *maps)[0]
        for stride in (4, 4294967295)
    ]
    assert tops[0].shape[2:] == (1, 1)
    np.testing.assert_array_equal(tops[0], tops[1])
