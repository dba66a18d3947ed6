"""One harness for all layers: make one from text, run it in double precision, check its gradient.

Double precision leaves only the formula to be compared, so results agree to about 1e-12.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from moka.layers import REGISTRY, Layer
from moka.schema import caffe_pb2, parse_text
from moka.types import Array, Shape

LayerMaker = Callable[..., Layer]
Runner = Callable[..., list[Array]]
GradientCheck = Callable[..., None]
Spread = Callable[..., Array]
Write = Callable[..., str]


@pytest.fixture
def make_layer() -> LayerMaker:
    """make_layer(text, *bottom_shapes, training=False): one layer; a top is added if none."""

    def make(text: str, *shapes: Shape, training: bool = False) -> Layer:
        config = parse_text(text, caffe_pb2.LayerParameter)
        config.phase = caffe_pb2.TRAIN if training else caffe_pb2.TEST
        entry = REGISTRY[config.type]
        if not config.top and entry.tops != 0:
            config.top.append("top")
        return entry.make(config, *shapes)

    return make


def tops_of(layer: Layer, bottoms: list[Tensor]) -> list[Tensor]:
    tops = layer(*bottoms)
    return [tops] if isinstance(tops, Tensor) else list(tops)


@pytest.fixture
def run() -> Runner:
    """run(layer, *bottoms): tops as arrays, computed in double precision; shapes are checked."""

    def run_layer(layer: Layer, *bottoms: Array) -> list[Array]:
        tensors = [torch.from_numpy(np.asarray(b, np.float64)) for b in bottoms]
        tops = tops_of(layer.double(), tensors)
        expected = [tuple(s) for s in layer.top_shapes(*(tuple(b.shape) for b in tensors))]
        assert [tuple(top.shape) for top in tops] == expected
        return [top.detach().numpy() for top in tops]

    return run_layer


@pytest.fixture
def check_gradient() -> GradientCheck:
    """check_gradient(layer, *bottoms): autograd against finite differences, parameters too.

    Each number of few is changed alone; many are changed together, in a random direction.
    """

    def check(layer: Layer, *bottoms: Array) -> None:
        layer.double()
        fixed = [j % len(bottoms) if j < 0 else j for j in layer.entry.fixed_bottoms]
        tensors = [
            torch.from_numpy(np.array(b, np.float64)).requires_grad_(j not in fixed)
            for j, b in enumerate(bottoms)
        ]

        def function(*inputs: Tensor) -> tuple[Tensor, ...]:
            tops = tops_of(layer, list(inputs[: len(tensors)]))
            return tuple(top for top in tops if top.requires_grad)

        learned = [w for k, w in enumerate(layer.weights) if k not in layer.state_blobs]
        changed = [t for t in (*tensors, *learned) if t.requires_grad]
        many = sum(t.numel() for t in changed) > 100
        assert torch.autograd.gradcheck(function, (*tensors, *learned), fast_mode=many)

    return check


@pytest.fixture
def spread() -> Spread:
    """spread(*shape): distinct values of both signs, 0.1 apart and none nearer to 0 than 0.05."""
    rng = np.random.default_rng(7)

    def make(*shape: int) -> Array:
        count = int(np.prod(shape))
        steps = np.arange(count) - count // 2 + 0.5
        return (rng.permutation(steps) * 0.1).reshape(shape)

    return make


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """write(code, layer="It", **fields): a Python module of this code; its python_param."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def make(code: str, layer: str = "It", **fields: str) -> str:
        name = f"user_layers_{len(names)}"
        names.append(name)
        (tmp_path / f"{name}.py").write_text(
            "import caffe, moka, torch\nimport numpy as np\n" + textwrap.dedent(code)
        )
        more = " ".join(f'{key}: "{value}"' for key, value in fields.items())
        return f'python_param {{ module: "{name}" layer: "{layer}" {more} }}'

    yield make
    for name in names:
        sys.modules.pop(name, None)
