"""From boxes of a resized image to pixels of the image as it was."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from moka.data.lists import whole_number
from moka.errors import DataError
from moka.files import read_text_file
from moka.schema import caffe_pb2

log = logging.getLogger("moka")


def all_there(*paths: str, without: str) -> bool:
    """Whether files are there; those that are not are logged, with what a net does without them."""
    missing = [path for path in paths if not Path(path).exists()]
    for path in missing:
        log.warning("%s: no such file; %s.", path, without)
    return not missing


def read_name_sizes(path: str) -> list[tuple[str, int, int]]:
    """Name, height and width of images, from a text file with these three on each line.

    Raises:
        DataError: no such file, or a line of another form.
    """
    try:
        text = read_text_file(path)
    except OSError as error:
        raise DataError(f"{path}: failed to open the list of names and sizes: {error.strerror}."
                        ) from None  # fmt: skip
    words = text.split()
    sizes = [whole_number(word) for word in words[1::3] + words[2::3]]
    if len(words) % 3 or None in sizes:
        raise DataError(f"{path}: must hold a name, a height and a width on each line.")
    return [
        (name, int(height), int(width))
        for name, height, width in zip(words[::3], words[1::3], words[2::3], strict=True)
    ]


def image_to_pixels(
    boxes: Tensor, height: int, width: int, resize: caffe_pb2.ResizeParameter | None = None
) -> Tensor:
    """Boxes (K, 4), fractions of the net's input, as pixels of the image before it was resized.

    Args:
        height, width: of the image in pixels.
        resize: how it was resized. WARP (or None): both sides by themselves.
            FIT_LARGE_SIZE_AND_PAD: with a border on two sides, which is taken off.
            FIT_SMALL_SIZE with height_scale and width_scale: boxes are fractions of those.
    """
    size = torch.tensor([width, height] * 2, dtype=boxes.dtype, device=boxes.device)
    mode = caffe_pb2.ResizeParameter.Resize_mode.Name(resize.resize_mode) if resize else "WARP"
    if resize is None or mode == "WARP":
        return boxes.clamp(0, 1) * size
    if mode == "FIT_SMALL_SIZE":
        if not resize.height_scale or not resize.width_scale:
            return boxes.clamp(0, 1) * size
        scale = boxes.new_tensor([resize.width_scale, resize.height_scale] * 2)
        return (boxes * scale).clamp(min=0).minimum(size)
    return (_without_border(boxes, height, width, resize)).clamp(0, 1) * size


def _without_border(
    boxes: Tensor, height: int, width: int, resize: caffe_pb2.ResizeParameter
) -> Tensor:
    """Boxes as fractions of the image within its border; a box on the border stays as it is."""
    net_aspect, aspect = resize.width / resize.height, width / height
    left = top = 0.0
    if aspect > net_aspect:
        top = (resize.height - resize.width / aspect) / 2 / resize.height
    else:
        left = (resize.width - resize.height * aspect) / 2 / resize.width
    low = boxes.new_tensor([left, top])
    inner = 1 - 2 * low
    inside = ((boxes[:, :2] < 1 - low) & (boxes[:, 2:] > low)).all(1)
    moved = (boxes - torch.cat([low, low])) / torch.cat([inner, inner])
    return moved.where(inside[:, None], boxes)
