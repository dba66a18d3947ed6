from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console

from moka.checks.layer_table import net_table
from moka.net import Net

if TYPE_CHECKING:
    from tests.conftest import NetMaker

NET = """
name: "two"
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 100 kernel_size: 3 } }
layer { name: "a" type: "Silence" bottom: "c" }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 4 dim: 100 dim: 4 dim: 4 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "c" bottom: "t" top: "l" }
"""


def shown(net: Net) -> str:
    file = StringIO()
    Console(file=file, width=120).print(net_table(net))
    return file.getvalue()


def test_net_table(make_net: NetMaker) -> None:
    text = shown(make_net(NET))
    assert "two (TEST): 2,800 parameters, 0.0 MB; 0.2 M multiply-adds; data" in " ".join(
        text.split()
    )
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in text.splitlines()
        if line.startswith("│")
    ]
    assert rows == [
        ["in", "Input", "", "x 4x3x6x6", "", ""],
        ["conv", "Convolution", "x", "c 4x100x4x4", "weight 100x3x3x3; bias 100", "2,800"],
        ["a", "Silence", "c", "", "", ""],
        ["t", "Input", "", "t 4x100x4x4", "", ""],
        ["loss", "EuclideanLoss", "c, t", "l scalar", "", ""],
    ]


def test_names_that_look_like_markup(make_net: NetMaker) -> None:
    text = shown(
        make_net(
            'name: "net [/v2]" layer { name: "[x]" type: "Input" top: "[/x]"'
            " input_param { shape { dim: 1 } } }"
        )
    )
    assert "net [/v2]" in text
    assert "[/x] 1" in text
