"""Which parts of an image a net's answer depends on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from moka.errors import UsageError
from moka.net import Net
from moka.predict.classify import Score
from moka.types import Array, Floats


def occlusion_map(
    score: Score, image: Floats, number: int, *, cells: int = 12, batch: int = 8
) -> Floats:
    """How much the score of a class falls when a part of the image is hidden.

    A gray square (zeros: the mean color, if a mean was subtracted) of two cells' size moves over
    the image, a cell at a time (Zeiler and Fergus, Visualizing and Understanding Convolutional
    Networks, 2014).

    Args:
        score: prepared images (N, C, H, W) to scores (N, classes, ...).
        image: (C, H, W), prepared.
        number: of the class.
        cells: across the image, in each direction.
        batch: images that `score` gets at a time; the last ones are filled up with zeros.

    Returns:
        (cells, cells) float32: for each cell the mean fall over the squares that cover it.

    Raises:
        UsageError: no such class, or cells that are smaller than a pixel.
    """
    _, height, width = image.shape
    if not 1 <= cells <= min(height, width):
        raise UsageError(f"an image of {height} x {width} has 1 to {min(height, width)} cells.")
    rows, columns = _edges(height, cells), _edges(width, cells)
    places = [(i, j) for i in range(max(1, cells - 1)) for j in range(max(1, cells - 1))]
    whole = _scores(score, image[None], batch)[0]
    check_class(number, len(whole))
    falls: list[float] = []
    for first in range(0, len(places), batch):
        part = places[first : first + batch]
        hidden = np.repeat(image[None], len(part), 0)
        for one, (i, j) in zip(hidden, part, strict=True):
            one[:, rows[i] : rows[min(i + 2, cells)], columns[j] : columns[min(j + 2, cells)]] = 0
        falls += (whole[number] - _scores(score, hidden, batch)[:, number]).tolist()
    total, count = np.zeros((cells, cells)), np.zeros((cells, cells))
    for fall, (i, j) in zip(falls, places, strict=True):
        total[i : i + 2, j : j + 2] += fall
        count[i : i + 2, j : j + 2] += 1
    return (total / count).astype(np.float32)


def gradient_map(net: Net, image: Floats, number: int) -> Floats:
    """How strongly the score of a class depends on each pixel: the largest absolute gradient of its
    channels (Simonyan et al., Deep Inside Convolutional Networks, 2014).

    Args:
        net: with one input and scores (N, classes, ...) as its first output.
        image: (C, H, W), prepared.
        number: of the class.

    Returns:
        (H, W) float32.

    Raises:
        UsageError: no such class, or the gradient does not reach the image.
    """
    given = torch.from_numpy(image[None].copy()).requires_grad_()
    with torch.enable_grad():
        scores = net(**{net.graph.inputs[0]: given})[net.graph.outputs[0]].flatten(1)
        check_class(number, scores.shape[1])
        if not scores.requires_grad:
            raise UsageError("the gradient does not reach the image: a layer has none.")
        (gradient,) = torch.autograd.grad(scores[0, number], given)
    return gradient[0].abs().amax(0).numpy()


def check_class(number: int, classes: int) -> None:
    """Raise a UsageError unless there is a class of this number."""
    if not 0 <= number < classes:
        raise UsageError(f"there is no class {number}: they are numbered 0 to {classes - 1}.")


def _edges(length: int, cells: int) -> Sequence[int]:
    return [round(length * k / cells) for k in range(cells + 1)]


def _scores(score: Score, images: Floats, batch: int) -> Array:
    """(n, classes) of at most `batch` images, which are filled up."""
    full = np.zeros((batch, *images.shape[1:]), np.float32)
    full[: len(images)] = images
    return score(full).reshape(batch, -1)[: len(images)]
