from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError
from moka.layers.detection.regions import align_bins, align_grid, align_samples, max_pool

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

X, ROIS = (2, 3, 8, 8), (4, 5)
VALUES = np.array([[0, 0, 0, 31, 31], [1, 8, 4, 20, 28], [0, 5, 5, 6, 6], [1, -9, 3, 90, 12.0]])


def pooling(fields: str) -> str:
    return f'type: "ROIPooling" roi_pooling_param {{ {fields} }}'


@pytest.mark.parametrize(
    ("fields", "pooled", "scale", "pad"),
    [
        ("pooled_h: 2 pooled_w: 3 spatial_scale: 0.25", (2, 3), (0.25, 0.25), 0),
        ("pooled_size: 4 spatial_scale: 0.25", (4, 4), (0.25, 0.25), 0),
        ("pooled_h: 2 pooled_w: 2", (2, 2), (1, 1), 0),
        ("pooled_h: 2 pooled_w: 2 spatial_scale: 0.25 pad_ratio: 0.5", (2, 2), (0.25, 0.25), 0.5),
        (
            "pooled_h: 2 pooled_w: 2 spatial_scale_h: 0.5 spatial_scale_w: 0.25",
            (2, 2),
            (0.5, 0.25),
            0,
        ),
    ],
)
def test_options_of_roi_pooling(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    fields: str,
    pooled: tuple[int, int],
    scale: tuple[float, float],
    pad: float,
) -> None:
    x = spread(*X)
    (have,) = run(make_layer(pooling(fields), X, ROIS), x, VALUES)
    want = max_pool(torch.from_numpy(x), torch.from_numpy(VALUES), pooled, scale, pad)
    np.testing.assert_array_equal(have, want)


def test_gradient_of_roi_pooling(
    make_layer: LayerMaker, check_gradient: GradientCheck, spread: Spread
) -> None:
    layer = make_layer(pooling("pooled_h: 2 pooled_w: 2 spatial_scale: 0.25"), X, ROIS)
    check_gradient(layer, spread(*X), VALUES)


def test_the_message_tells_the_way_of_roi_align(
    make_layer: LayerMaker, run: Runner, spread: Spread
) -> None:
    x, tensors = spread(*X), (torch.zeros(0), torch.from_numpy(VALUES))
    fields = "pooled_h: 2 pooled_w: 2 spatial_scale: 0.25"
    (corners,) = run(
        make_layer(f'type: "ROIAlign" roi_pooling_param {{ {fields} }}', X, ROIS), x, VALUES
    )
    want = align_grid(torch.from_numpy(x), tensors[1], (2, 2), (0.25, 0.25))
    np.testing.assert_array_equal(corners, want)
    (means,) = run(
        make_layer(f'type: "ROIAlign" roi_align_param {{ {fields} }}', X, ROIS), x, VALUES
    )
    np.testing.assert_array_equal(
        means, align_bins(torch.from_numpy(x), tensors[1], (2, 2), (0.25, 0.25))
    )
    for ratio in (0, 2):
        text = f'type: "ROIAlign" roi_align_param {{ {fields} sampling_ratio: {ratio} }}'
        (means,) = run(make_layer(text, X, ROIS), x, VALUES)
        want = align_samples(torch.from_numpy(x), tensors[1], (2, 2), (0.25, 0.25), ratio)
        np.testing.assert_array_equal(means, want)


def test_a_nan_among_corners_counts_as_0(make_layer: LayerMaker) -> None:
    layer = make_layer(pooling("pooled_h: 1 pooled_w: 1"), X, (1, 5))
    x = torch.randn(X)
    whole = layer(x, torch.tensor([[0, 0, 0, 5.0, 5.0]]))
    assert torch.equal(layer(x, torch.tensor([[0, math.nan, 0, 5.0, 5.0]])), whole)
    far = layer(x, torch.tensor([[0, 0, 0, math.inf, 1e30]]))
    assert torch.equal(far[0, :, 0, 0], x[0].amax((1, 2)))


def test_regions_may_have_four_axes(make_layer: LayerMaker) -> None:
    layer = make_layer(pooling("pooled_h: 1 pooled_w: 1"), X, (4, 5, 1, 1))
    x, rois = torch.randn(X), torch.from_numpy(VALUES).float()
    assert torch.equal(layer(x, rois[:, :, None, None]), layer(x, rois))


@pytest.mark.parametrize("image", [-1.0, 2.0, math.nan])
def test_a_region_of_no_image(make_layer: LayerMaker, image: float) -> None:
    layer = make_layer(pooling("pooled_h: 1 pooled_w: 1"), X, (1, 5))
    with pytest.raises(DataError, match=r"region 0 is of image .*, but the batch has 2 \(0 to 1\)"):
        layer(torch.zeros(X), torch.tensor([[image, 0, 0, 1, 1]]))


@pytest.mark.parametrize(
    ("text", "x", "rois", "fault"),
    [
        (pooling("pooled_h: 2"), X, ROIS, "pooled_h and pooled_w must be > 0"),
        (pooling("pooled_size: 2"), X, (4, 4), r"regions are a blob R 5 .* got shape 4 4 \(16\)"),
        (pooling("pooled_size: 2"), (2, 3), ROIS, "features are a blob N C H W, got shape 2 3"),
        (
            'type: "PSROIPooling" psroi_pooling_param { spatial_scale: 1 output_dim: 2'
            " group_size: 2 }",
            X,
            ROIS,
            "output_dim 2 and group_size 2 need 8 channels, got 3",
        ),
        ('type: "ROIAlign"', X, ROIS, "pooled_h and pooled_w must be > 0"),
        (pooling("pooled_size: 2 spatial_scale: inf"), X, ROIS, "spatial_scale must be finite"),
    ],
)
def test_faults(
    make_layer: LayerMaker, text: str, x: tuple[int, ...], rois: tuple[int, ...], fault: str
) -> None:
    with pytest.raises(NetError, match=fault):
        make_layer(text, x, rois)
