"""Bytes of a net, by hand: blobs of 4 * count bytes each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moka.net.memory import data_bytes

if TYPE_CHECKING:
    from tests.conftest import NetMaker


@pytest.mark.parametrize(
    ("tops", "count"), [([], 0), ([()], 4), ([(64, 1, 28, 28), (64,)], 200960), ([(2, 0)], 0)]
)
def test_data_bytes(tops: list[tuple[int, ...]], count: int) -> None:
    assert data_bytes(tops) == count


def layers(*parts: str) -> str:
    """An input x of 10 numbers and layers "TYPE bottoms > tops": blobs are single letters."""
    text = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 5 } } }'
    for k, part in enumerate(parts):
        kind, bottoms, _, tops = part.split(" ")
        blobs = [f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in tops if t != "-"]
        text += f'layer {{ name: "l{k}" type: "{kind}" {" ".join(blobs)} }}'
    return text


@pytest.mark.parametrize(
    ("text", "counted", "data", "peak"),
    [
        (layers(), 1, 1, 1),
        (layers("Exp x > a", "Exp a > b", "Exp b > c"), 4, 4, 2),
        (layers("Exp x > a", "ReLU a > a", "TanH a > a", "Exp a > b"), 5, 3, 2),
        (layers("Flatten x > a", "Exp a > b"), 3, 2, 2),
        (layers("Exp x > a", "Exp x > b", "Eltwise ab > c"), 6, 4, 3),  # and a Split of two
        (layers("Exp x > a", "Exp x > b", "Silence a > -", "Exp b > c"), 6, 4, 3),
        (layers("Concat x > a", "Exp a > b"), 3, 2, 2),
        (layers("Exp x > a", "Exp a > b", "Exp x > c"), 6, 4, 3),
    ],
)
def test_memory_use(make_net: NetMaker, text: str, counted: int, data: int, peak: int) -> None:
    memory = make_net(text).memory
    one = 40  # bytes of x
    assert (memory.counted, memory.data, memory.peak) == (counted * one, data * one, peak * one)


def test_parameters_count_once(make_net: NetMaker) -> None:
    text = layers("Exp x > a") + "".join(
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "a" top: "{name}"'
        ' param { name: "w" } inner_product_param { num_output: 3 } }'
        for name in ("p", "q")
    )
    assert make_net(text).memory.parameters == 4 * (15 + 3 + 3)
