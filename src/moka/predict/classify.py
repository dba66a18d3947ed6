"""The scores of a net's classes for images."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from moka.errors import UsageError
from moka.predict.crops import CROPS, SizeLike, center_crop, oversample
from moka.predict.images import resize_image
from moka.types import Array, Floats, Shape

Prepare = Callable[[Array], Floats]  # a crop (H, W, K) to (C, H, W)
Score = Callable[[Floats], Floats]  # prepared images (N, C, H, W) to outputs (N, ...)


def classify(
    images: Iterable[Array],
    prepare: Prepare,
    score: Score,
    *,
    input_shape: Shape,
    image_size: SizeLike | None = None,
    crop_size: SizeLike | None = None,
    average_crops: bool = True,
) -> Floats:
    """The scores of some images.

    Args:
        images: (H, W, K) each.
        prepare: makes what the net's input takes of a crop (`Preparation.prepare`).
        score: runs the net (`moka.predict.score.score`).
        input_shape: of one prepared image, (C, H, W).
        image_size: height and width that images are resized to before they are cropped; None: the
            size of the crops.
        crop_size: height and width of the crops; None: those of the input.
        average_crops: the mean over ten crops of an image; else the scores of its middle.

    Returns:
        (N, classes), or the output as it is if only the middle is scored.

    Raises:
        UsageError: no images, or another number of channels than the net takes.
    """
    crop_size = input_shape[1:] if crop_size is None else crop_size
    size = np.asarray(crop_size if image_size is None else image_size, int).tolist()
    resized = [resize_image(image, size) for image in images]
    for i, image in enumerate(resized):
        if image.shape[2] != input_shape[0]:
            raise UsageError(
                f"image {i} has {image.shape[2]} channels, the net takes {input_shape[0]}."
            )
    if not resized:
        raise UsageError("there is no image to classify.")
    if average_crops:
        crops = oversample(resized, crop_size)
    else:
        middle = center_crop(size, crop_size)
        crops = np.array([image[middle] for image in resized])
    scores = score(np.array([prepare(crop) for crop in crops]))
    return scores.reshape(len(resized), CROPS, -1).mean(1) if average_crops else scores
