from __future__ import annotations

from math import ceil, sqrt

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.fillers import FILLERS, constant, fill, filler
from moka.schema import caffe_pb2, parse_text
from moka.types import Shape


def filled(text: str, shape: Shape) -> torch.Tensor:
    values = fill(parse_text(text, caffe_pb2.FillerParameter), shape)
    assert values.dtype == torch.float32
    assert tuple(values.shape) == shape
    return values


def test_constant() -> None:
    assert filled("", (2, 2)).tolist() == [[0, 0], [0, 0]]
    assert filled('type: "constant" value: 0.5', (3,)).tolist() == [0.5] * 3
    assert filled("value: 2", ()).item() == 2


def test_uniform() -> None:
    values = filled('type: "uniform" min: -1 max: 3', (100, 100))
    assert values.min() >= -1
    assert values.max() < 3
    # 10000 draws: standard deviations of the mean 0.012, of the deviation 0.006.
    assert values.mean().item() == pytest.approx(1, abs=0.05)
    assert values.std().item() == pytest.approx(4 / sqrt(12), abs=0.03)


def test_gaussian() -> None:
    values = filled('type: "gaussian" mean: 2 std: 0.5', (100, 100))
    # 10000 draws: standard deviations of the mean 0.005, of the deviation 0.0035.
    assert values.mean().item() == pytest.approx(2, abs=0.02)
    assert values.std().item() == pytest.approx(0.5, abs=0.015)


@pytest.mark.parametrize(("sparse", "kept"), [(0, 0.0), (10, 0.1), (50, 0.5), (100, 1.0)])
def test_sparse_gaussian_keeps_that_many_of_the_first_axis(sparse: int, kept: float) -> None:
    values = filled(f'type: "gaussian" std: 3 sparse: {sparse}', (100, 100))
    # 10000 draws: a standard deviation of at most 0.005.
    assert (values != 0).float().mean().item() == pytest.approx(kept, abs=0.02)


def test_positive_unitball() -> None:
    values = filled('type: "positive_unitball"', (5, 3, 4))
    assert (values > 0).all()
    # Sums of 12 numbers in single precision.
    np.testing.assert_allclose(values.flatten(1).sum(1), np.ones(5), rtol=1e-6)
    assert filled('type: "positive_unitball"', ()).item() == 1


@pytest.mark.parametrize("shape", [(40, 30, 5, 5), (200, 300)])
@pytest.mark.parametrize("norm", ["", "FAN_IN", "FAN_OUT", "AVERAGE"])
def test_xavier_and_msra(shape: Shape, norm: str) -> None:
    count = int(np.prod(shape))
    n = {"FAN_OUT": count / shape[1], "AVERAGE": (count / shape[0] + count / shape[1]) / 2}.get(
        norm, count / shape[0]
    )
    more = f"variance_norm: {norm}" if norm else ""
    values = filled(f'type: "xavier" {more}', shape)
    bound = sqrt(3 / n)
    assert values.abs().max().item() <= bound * (1 + 1e-6)  # rounded to single precision
    # At least 30000 draws: the extremes come this near, deviations are 0.4 % off at most.
    assert values.max().item() > 0.999 * bound
    assert values.min().item() < -0.999 * bound
    assert values.std().item() == pytest.approx(sqrt(1 / n), rel=0.015)
    values = filled(f'type: "msra" {more}', shape)
    assert values.std().item() == pytest.approx(sqrt(2 / n), rel=0.02)
    assert values.mean().item() == pytest.approx(0, abs=0.03 * sqrt(2 / n))
    values = filled(f'type: "msra" alpha: 0.5 {more}', shape)
    assert values.std().item() == pytest.approx(sqrt(2 / n / 1.25), rel=0.02)


@pytest.mark.parametrize("shape", [(), (4,)])
def test_fans_of_blobs_with_few_axes(shape: Shape) -> None:
    """What is missing counts as one: fan-in of (4,) is 1."""
    assert filled('type: "xavier"', shape).abs().max().item() <= sqrt(3)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_bilinear(size: int) -> None:
    values = filled('type: "bilinear"', (2, 3, size, size))
    f = ceil(size / 2)
    c = (size - 1) / (2 * f)
    for n in range(2):
        for m in range(3):
            for y in range(size):
                for x in range(size):
                    wanted = (1 - abs(x / f - c)) * (1 - abs(y / f - c))
                    # Single precision.
                    assert values[n, m, y, x].item() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("shape", [(2, 2), (1, 1, 3, 4), (1, 1, 1, 3, 3)])
def test_bilinear_needs_square_kernels(shape: Shape) -> None:
    with pytest.raises(NetError, match="needs a 4-D blob with a square kernel"):
        filled('type: "bilinear"', shape)


@pytest.mark.parametrize(
    ("text", "shape", "diagonal"),
    [
        ("diag_val: 0.5 diag_val: 4", (3, 2, 2, 2), [0.125, 1]),
        ("diag_val: 0.5", (3, 3), [0.5, 1, 1]),
        ("", (2, 3, 1, 4), [0.25, 0.25]),
    ],
)
def test_diagonal(text: str, shape: Shape, diagonal: list[float]) -> None:
    values = filled(f'type: "diagonal" {text}', shape)
    for n in range(shape[0]):
        for m in range(shape[1]):
            wanted = diagonal[n] if n == m else 0
            assert (values[n, m] == wanted).all()


def test_diagonal_needs_outputs_and_inputs() -> None:
    with pytest.raises(NetError, match=r"a blob with outputs and inputs, got \(3,\)"):
        filled('type: "diagonal"', (3,))


@pytest.mark.parametrize("name", ["uniform", "gaussian", "xavier", "msra", "positive_unitball"])
def test_one_seed_governs_all(name: str) -> None:
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(filled(f'type: "{name}" max: 1', (4, 4)).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_unknown_filler() -> None:
    with pytest.raises(NetError, match=r'unknown filler "gausian" \(known: bilinear, .*"gaussian"'):
        filled('type: "gausian"', (2,))


@pytest.mark.parametrize("name", sorted(set(FILLERS) - {"bilinear"}))
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_nothing_to_fill(name: str, shape: Shape) -> None:
    filled(f'type: "{name}"', shape)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('type: "gaussian" std: -1', "std of the gaussian filler must be >= 0, got -1"),
        ('type: "gaussian" std: nan', "std of the gaussian filler must be >= 0, got nan"),
        ('type: "uniform" min: 2 max: 1', "needs finite min <= max, got min 2, max 1"),
        ('type: "uniform" min: -inf max: inf', "needs finite min <= max"),
        ('type: "uniform" min: -3e38 max: 3e38', "needs finite min <= max"),
        ('type: "gaussian" sparse: 1', "sparse is for blobs with axes"),
    ],
)
def test_values_that_cannot_be_drawn(text: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        filled(text, ())


@pytest.mark.parametrize("name", sorted(set(FILLERS) - {"gaussian"}))
def test_sparse_is_for_gaussian(name: str) -> None:
    with pytest.raises(NetError, match=f"sparse is for the gaussian filler only, not for {name}"):
        filled(f'type: "{name}" sparse: 1', (1, 1, 3, 3))


def test_a_second_registration_is_refused() -> None:
    with pytest.raises(ValueError, match="filler constant is registered twice"):
        filler("constant")(constant)


def test_options_of_forks() -> None:
    with pytest.raises(NetError, match="diag_val is an option of a fork that no filler here has"):
        fill(caffe_pb2.FillerParameter(type="constant", diag_val=[1]), (2,))
    fill(caffe_pb2.FillerParameter(type="constant", scale=1), (2,))
