from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape

BOTH = "backward: [true, true]"


@pytest.mark.parametrize(
    ("shape", "larger"), [((2, 3, 4, 2), (2, 2, 7, 4)), ((1, 3, 2, 3, 2), (1, 2, 4, 3, 5))]
)
def test_channels_are_stacked(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    shape: Shape,
    larger: Shape,
) -> None:
    layer = make_layer(f'type: "MergeCrop" mergecrop_param {{ {BOTH} }}', shape, larger)
    a, b = spread(*shape), spread(*larger)
    (y,) = run(layer, a, b)
    np.testing.assert_array_equal(y[:, :3], a)
    for index in np.ndindex(*shape[2:]):
        moved = tuple(
            i + (big - small) // 2
            for i, big, small in zip(index, larger[2:], shape[2:], strict=True)
        )
        np.testing.assert_array_equal(y[:, 3:][(..., *index)], b[(..., *moved)])
    check_gradient(layer, a, b)


def test_sum(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    layer = make_layer(
        'type: "MergeCrop" mergecrop_param { operation: ADD }', (2, 3, 2, 2), (2, 3, 4, 2)
    )
    a, b = spread(2, 3, 2, 2), spread(2, 3, 4, 2)
    (y,) = run(layer, a, b)
    np.testing.assert_allclose(y, a + b[:, :, 1:3], rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "counts", "learns"),
    [
        ("", (1, 1), (1, 0)),
        ("backward: [false, true]", (1, 1), (0, 1)),
        ("backward: false", (1, 1), (0, 0)),
        (f"forward: [true, false] {BOTH}", (1, 0), (1, 0)),
        (f"forward: false {BOTH}", (0, 1), (0, 1)),
    ],
)
def test_what_counts(
    make_layer: LayerMaker, fields: str, counts: tuple[int, int], learns: tuple[int, int]
) -> None:
    layer = make_layer(f'type: "MergeCrop" mergecrop_param {{ {fields} }}', (1, 1, 2), (1, 2, 4))
    a, b = (torch.ones(shape, requires_grad=True) for shape in ((1, 1, 2), (1, 2, 4)))
    y = layer(a, b)
    assert y[0, :, 0].tolist() == [counts[0], counts[1], counts[1]]
    if any(learns):
        y.sum().backward()
    found = [x.grad.sum().item() if x.grad is not None else 0 for x in (a, b)]
    assert found == [2 * learns[0], 4 * learns[1]]


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("", [(1, 2, 3), (1, 2, 2)], r"cannot cut the center \(1, 2, 3\) out of a bottom of shape"),
        ("", [(1, 2, 3), (2, 2, 3)], "cannot cut"),
        ("", [(1, 2, 3), (1, 2, 3, 3)], "cannot cut"),
        ("operation: ADD", [(1, 2, 3), (1, 3, 3)], "cannot cut"),
        ("forward: [true, true, true]", [(1, 2, 3), (1, 3, 3)], "forward takes a value for each"),
    ],
)
def test_bad_bottoms(
    make_layer: LayerMaker, fields: str, shapes: list[Shape], message: str
) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "MergeCrop" mergecrop_param {{ {fields} }}', *shapes)
