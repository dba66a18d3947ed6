"""Convolution as a slow, obvious loop, and the texts of its layers."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from moka.types import Array

if TYPE_CHECKING:
    from moka.types import Shape


def convolve(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    stride: Shape,
    pad: Shape,
    dilation: Shape,
    group: int,
) -> Array:
    """y[n, m, p] = b[m] + sum over c, k of w[m, c, k] x[n, first channel + c, s p - pad + d k]."""
    axes = range(x.ndim - 2)
    kernel = weight.shape[2:]
    out = [
        (x.shape[2 + a] + 2 * pad[a] - (dilation[a] * (kernel[a] - 1) + 1)) // stride[a] + 1
        for a in axes
    ]
    y = np.zeros((x.shape[0], weight.shape[0], *out))
    per_group = weight.shape[0] // group
    for n, m in product(range(x.shape[0]), range(weight.shape[0])):
        first = m // per_group * weight.shape[1]
        for at in product(*map(range, out)):
            total = bias[m]
            for c, k in product(range(weight.shape[1]), product(*map(range, kernel))):
                pixel = [at[a] * stride[a] - pad[a] + k[a] * dilation[a] for a in axes]
                if all(0 <= pixel[a] < x.shape[2 + a] for a in axes):
                    total += weight[(m, c, *k)] * x[(n, first + c, *pixel)]
            y[(n, m, *at)] = total
    return y


CASES = [
    # fields, bottom, stride, pad, dilation, group
    ("kernel_size: 3", (2, 3, 5, 4), (1, 1), (0, 0), (1, 1), 1),
    ("kernel_size: 3 stride: 2 pad: 1", (1, 2, 6, 5), (2, 2), (1, 1), (1, 1), 1),
    ("kernel_size: 2 dilation: 2 pad: 1", (1, 2, 5, 5), (1, 1), (1, 1), (2, 2), 1),
    ("kernel_size: 2 group: 2", (1, 4, 3, 4), (1, 1), (0, 0), (1, 1), 2),
    (
        "kernel_h: 3 kernel_w: 1 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0",
        (1, 2, 5, 3),
        (2, 1),
        (1, 0),
        (1, 1),
        1,
    ),
    (
        "kernel_size: 2 kernel_size: 3 stride: 1 stride: 2 dilation: 2 dilation: 1",
        (1, 2, 4, 7),
        (1, 2),
        (0, 0),
        (2, 1),
        1,
    ),
    ("kernel_size: 1 stride: 2", (1, 3, 4, 4), (2, 2), (0, 0), (1, 1), 1),
    ("kernel_size: 3 pad: 1", (2, 2, 6), (1,), (1,), (1,), 1),
    (
        "kernel_size: 2 kernel_size: 1 kernel_size: 2 kernel_size: 2 group: 2"
        " stride: 1 stride: 1 stride: 2 stride: 1 pad: 1 pad: 0 pad: 1 pad: 0"
        " dilation: 1 dilation: 1 dilation: 1 dilation: 2",
        (2, 2, 2, 1, 2, 3),
        (1, 1, 2, 1),
        (1, 0, 1, 0),
        (1, 1, 1, 2),
        2,
    ),
    ("kernel_size: 1 stride: 2", (1, 2, 2, 1, 2, 1, 3), (2,) * 5, (0,) * 5, (1,) * 5, 1),
    ("kernel_size: 2 stride: 2", (1, 2, 4, 2, 4), (2, 2, 2), (0, 0, 0), (1, 1, 1), 1),
    ("kernel_size: 2 dilation: 3 stride: 2 group: 2", (2, 4, 8), (2,), (0,), (3,), 2),
    (
        "kernel_size: 2 dilation: 1 dilation: 2 dilation: 3 group: 2",
        (1, 2, 2, 3, 4),
        (1, 1, 1),
        (0, 0, 0),
        (1, 2, 3),
        2,
    ),
    (
        "kernel_size: 1 kernel_size: 3 kernel_size: 2 pad: 0 pad: 1 pad: 0"
        " stride: 1 stride: 1 stride: 2",
        (1, 2, 2, 3, 4),
        (1, 1, 2),
        (0, 1, 0),
        (1, 1, 1),
        1,
    ),
]


def layer_text(fields: str, outputs: int = 4) -> str:
    return (
        f'type: "Convolution" convolution_param {{ num_output: {outputs} {fields}'
        ' weight_filler { type: "gaussian" } bias_filler { type: "gaussian" } }'
    )


def deconvolve(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    stride: Shape,
    pad: Shape,
    dilation: Shape,
    group: int,
) -> Array:
    """Every pixel x[n, c, p] adds w[c, m, k] x[n, c, p] to y[n, m, s p - pad + d k]."""
    axes = range(x.ndim - 2)
    kernel = weight.shape[2:]
    out = [
        stride[a] * (x.shape[2 + a] - 1) + dilation[a] * (kernel[a] - 1) + 1 - 2 * pad[a]
        for a in axes
    ]
    outputs = weight.shape[1]
    y = np.zeros((x.shape[0], outputs * group, *out))
    for m in range(outputs * group):
        y[:, m] = bias[m]
    for n, c, *at in product(*map(range, x.shape)):
        first = c // (x.shape[1] // group) * outputs
        for m, *k in product(range(outputs), *map(range, kernel)):
            pixel = [at[a] * stride[a] - pad[a] + k[a] * dilation[a] for a in axes]
            if all(0 <= pixel[a] < out[a] for a in axes):
                y[(n, first + m, *pixel)] += weight[(c, m, *k)] * x[(n, c, *at)]
    return y
