"""What a net's inputs take: images, and rows of numbers, by the inputs' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from moka.errors import NetError
from moka.predict.crops import MIDDLE
from moka.serving.errors import BadRequestError
from moka.serving.image_input import COLORS, GRAY, ImageInput, Look
from moka.types import Array, Floats, HeightWidth, Shape

IMAGE_INFO = "im_info"  # Faster R-CNN's input: height and width of the net's image, its scale


class Upload(NamedTuple):
    """One image of a request.

    Attributes:
        name: what the client calls it.
        input: the input that it is for, which counts if the net takes several images.
    """

    name: str
    data: bytes
    input: str = ""


class Example(NamedTuple):
    """What a net computes one answer from.

    Attributes:
        name: of its first image.
        given: for each input an encoded image, or numbers.
        upright: whether its images are turned as their EXIF says.
        oversample: whether its answer is the mean over ten crops of its images.
    """

    name: str
    given: Mapping[str, bytes | Floats]
    upright: bool = False
    oversample: bool = False


class Opened(NamedTuple):
    """An example whose images are decoded and resized.

    Attributes:
        size: height and width of its first image; (0, 0): it has none.
    """

    given: Mapping[str, Array]
    size: HeightWidth


class NetInputs:
    """The inputs of a net. An input (N, C, H, W) of one or three channels takes images, any other
    takes numbers.

    Args:
        shapes: by the inputs' names.
        look: how the net wants images.

    Attributes:
        images: the inputs that take images.
        numbers: for each other one the shape of what belongs to one example.

    Raises:
        NetError: there is no input, or one without an axis for examples.
    """

    def __init__(self, shapes: Mapping[str, Shape], look: Look) -> None:
        if not shapes or not all(shape and prod(shape) for shape in shapes.values()):
            raise NetError(
                f"a served net has inputs (N, ...); this one has {dict(shapes) or 'none'}.",
                advice="Put Input layers in the place of its data layers (a deploy.prototxt).",
            )
        self.images = {n: ImageInput(s[1:], look) for n, s in shapes.items() if _takes_images(s)}
        self.numbers = {n: s[1:] for n, s in shapes.items() if n not in self.images}

    def shapes(self, size: int) -> dict[str, Shape]:
        """The shapes of all inputs for so many examples."""
        images = {name: (size, *each.shape) for name, each in self.images.items()}
        return images | {name: (size, *shape) for name, shape in self.numbers.items()}

    def examples(self, uploads: Sequence[Upload], values: Mapping[str, Any]) -> list[Example]:
        """What a request gives for each example.

        Args:
            uploads: one for each example; if the net takes several images, as many of each input.
            values: numbers by the inputs' names, as a list or as text with commas; for all
                examples, or as many as there are for each. "upright" turns images, "oversample"
                asks for ten crops of each.

        Raises:
            BadRequestError: an input is missing or has another size.
        """
        images = self._images_by_input(uploads)
        count = len(next(iter(images.values()))) if images else None
        rows = {name: self._rows(name, values.get(name), count) for name in self.numbers}
        if count is None:
            count = max(len(each) for each in rows.values())
        for name, each in rows.items():
            if len(each) not in (1, count):
                raise BadRequestError(
                    f'input "{name}" has numbers for {len(each)} examples of {count}.'
                )
        names = [each.name for each in next(iter(images.values()), [Upload("", b"")] * count)]
        upright, oversample = (is_yes(values.get(name)) for name in ("upright", "oversample"))
        if oversample and not images:
            raise BadRequestError("oversample takes crops of images, and this net takes none.")
        return [
            Example(
                names[i],
                {name: each[i].data for name, each in images.items()}
                | {name: each[i if len(each) > 1 else 0] for name, each in rows.items()},
                upright,
                oversample,
            )
            for i in range(count)
        ]

    def _images_by_input(self, uploads: Sequence[Upload]) -> dict[str, list[Upload]]:
        if not self.images:
            if any(upload.data for upload in uploads):
                raise BadRequestError(f"this net takes no images, but {self._numbers_told()}.")
            return {}
        if not any(upload.data for upload in uploads):
            raise BadRequestError(
                "the request holds no image.",
                advice="Send an image's bytes, a form with files, or JSON with base64.",
            )
        if len(self.images) == 1:
            return {name: list(uploads) for name in self.images}
        by_input: dict[str, list[Upload]] = {name: [] for name in self.images}
        for upload in uploads:
            if upload.input not in by_input:
                raise BadRequestError(
                    f'there is no input "{upload.input}" for images.'
                    if upload.input
                    else "the image does not say which input it is for.",
                    advice="In a form, or in JSON's inputs, name each image after its input:"
                    f" {', '.join(by_input)}.",
                )
            by_input[upload.input].append(upload)
        counts = {name: len(each) for name, each in by_input.items()}
        if len(set(counts.values())) > 1:
            raise BadRequestError(f"inputs have different numbers of images: {counts}.")
        return by_input

    def _rows(self, name: str, given: Any, count: int | None) -> Floats:
        """An input's numbers, (examples, ...), or (1, ...) for all of them."""
        shape = self.numbers[name]
        if given is None and name == IMAGE_INFO and self.images and prod(shape) > 1:
            height, width = next(iter(self.images.values())).shape[1:]
            given = [height, width] + [1.0] * (prod(shape) - 2)
        if given is None:
            raise BadRequestError(
                f'input "{name}" is missing.', advice=f"This net takes {self._numbers_told()}."
            )
        try:
            parts = given.split(",") if isinstance(given, str) else given
            numbers = np.asarray(parts, np.float32)
        except (ValueError, TypeError, OverflowError):
            raise BadRequestError(f'input "{name}" has to be numbers.') from None
        if not numbers.size or numbers.size % prod(shape):
            raise BadRequestError(
                f'input "{name}" takes {prod(shape)} numbers {shape} for each example,'
                f" found {numbers.size}."
            )
        return numbers.reshape(-1, *shape)

    def _numbers_told(self) -> str:
        """The inputs that take numbers, in words."""
        return " and ".join(
            f'{prod(shape)} numbers {shape} for "{name}"' for name, shape in self.numbers.items()
        )

    def opened(self, example: Example) -> Opened:
        """An example with its images decoded.

        Raises:
            BadRequestError: an image cannot be decoded.
        """
        given: dict[str, Array] = {}
        sizes: list[HeightWidth] = []
        for name, each in example.given.items():
            if isinstance(each, bytes):
                image = self.images[name]
                given[name], size = image.opened(each, "an image", upright=example.upright)
                sizes.append(size)
            else:
                given[name] = each
        return Opened(given, sizes[0] if sizes else (0, 0))

    def fill(self, opened: Opened, blobs: Mapping[str, Floats], i: int, crop: int = MIDDLE) -> None:
        """Put an example in place `i` of the inputs' blobs; of its images that crop
        (`ImageInput.fill_pixels`)."""
        for name, blob in blobs.items():
            if name in self.images:
                self.images[name].fill_pixels(opened.given[name], blob[i], crop)
            else:
                blob[i] = opened.given[name]


def is_yes(value: Any) -> bool:
    """Whether a value of a request says yes."""
    return str(value).lower() in ("1", "true")


def _takes_images(shape: Shape) -> bool:
    return len(shape) == 4 and shape[1] in (GRAY, COLORS) and shape[2] * shape[3] > 1
