"""Nodes that make of an image's bytes what an input blob holds for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from moka.errors import NetError
from moka.export.onnx.builder import FLOAT, GraphBuilder, NewNode, Value
from moka.export.onnx.emit import OnnxGraph
from moka.predict.images import resize_image
from moka.predict.prepare import image_preparation
from moka.types import Array, Floats, Shape

BYTE_MAX = 255.0


@dataclass(frozen=True)
class ImageInput:
    """How a model makes a blob of an image's bytes: the options of `moka.predict.prepare`.

    The model then takes bytes (N, H, W, C), RGB, in place of the blob.

    Attributes:
        mean: a value for each channel (C,), or an image (C, H, W), as the blob is.
        scale: a factor after the mean is subtracted.
        raw_scale: what the byte 255 becomes before the mean is subtracted.
        channel_swap: the order of the image's channels in the blob: (2, 1, 0) makes BGR of RGB.
        resize: take images of any size and bring them to the blob's.
    """

    mean: Array | None = None
    scale: float = 1.0
    raw_scale: float = BYTE_MAX
    channel_swap: Sequence[int] | None = None
    resize: bool = False

    def bytes_of(self, image: Floats, size: Sequence[int]) -> Array:
        """The bytes (1, H, W, C) that the model takes for an image (H, W, C) from 0 to 1.

        Args:
            size: of the blob, (H, W).
        """
        values = image if self.resize else resize_image(image, size)
        return np.rint(values * BYTE_MAX).astype(np.uint8)[None]

    def blob_of(self, image: Array, shape: Shape) -> Floats:
        """What the blob holds for these bytes (1, H, W, C), computed by `moka.predict`: (1, C, H,
        W).

        Args:
            shape: of the blob, (C, H, W).
        """
        preparation = image_preparation(
            shape,
            mean=self.mean,
            input_scale=self.scale,
            raw_scale=self.raw_scale,
            channel_swap=self.channel_swap,
        )
        return preparation.prepare(image[0] / np.float32(BYTE_MAX))[None]


def input_of_images(graph: OnnxGraph, name: str | None = None) -> Value:
    """The input that takes images: the first of four axes.

    Raises:
        NetError: the graph has none.
    """
    for value in graph.inputs:
        if len(value.dims) == 4 and name in (None, value.name):
            return value
    raise NetError("no input takes images (N, C, H, W), so no preprocessing can stand before it.")


def take_bytes(graph: OnnxGraph, image: ImageInput) -> OnnxGraph:
    """The graph with nodes before its input of images that make the blob of bytes.

    Raises:
        NetError: no input takes images.
        UsageError: the mean or the channel swap does not fit the blob.
    """
    blob = input_of_images(graph)
    batch, channels, height, width = blob.dims
    preparation = image_preparation(blob.dims[1:], mean=image.mean, channel_swap=image.channel_swap)
    prefix = _Prefix(graph.builder, blob.name)
    y = prefix.add("Transpose", prefix.add("Cast", blob.name, to=FLOAT), perm=[0, 3, 1, 2])
    if image.resize:
        y = _resized(prefix, y, (height, width))
    if image.channel_swap is not None:
        y = prefix.add("Gather", y, prefix.constant(np.array(image.channel_swap)), axis=1)
    if image.raw_scale != BYTE_MAX:
        y = prefix.add("Mul", y, prefix.constant(np.float32(image.raw_scale / BYTE_MAX)))
    if preparation.mean is not None:
        y = prefix.add("Sub", y, prefix.constant(preparation.mean.astype(np.float32)))
    if image.scale != 1:
        y = prefix.add("Mul", y, prefix.constant(np.float32(image.scale)))
    for node in graph.builder.nodes:
        node.inputs = [y if name == blob.name else name for name in node.inputs]
    graph.builder.nodes[:0] = prefix.nodes
    size = (0, 0) if image.resize else (height, width)
    given = Value(blob.name, (batch, *size, channels))
    free = {(blob.name, 1): "H", (blob.name, 2): "W"} if image.resize else {}
    return replace(
        graph,
        inputs=[given if value is blob else value for value in graph.inputs],
        bytes_inputs=frozenset({blob.name}),
        free_names={**graph.free_names, **free},
    )


def _resized(prefix: _Prefix, x: str, size: tuple[int, int]) -> str:
    """Images (N, C, H, W) at another size, as `resize_image` does it: linear between the centers
    of pixels."""
    shape = prefix.add("Shape", x)
    start, end = (prefix.constant(np.array([k])) for k in (0, 2))
    head = prefix.add("Slice", shape, start, end)
    sizes = prefix.add("Concat", head, prefix.constant(np.array(size)), axis=0)
    return prefix.add(
        "Resize",
        x,
        "",
        "",
        sizes,
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )


class _Prefix:
    """Nodes that will stand before those of the layers."""

    def __init__(self, builder: GraphBuilder, name: str) -> None:
        self.builder = builder
        self.name = f"{name}/prepare"
        self.nodes: list[NewNode] = []

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        output = self.builder.unique(f"{self.name}/{op}:0")
        node = self.builder.unique(f"{self.name}/{op}")
        self.nodes.append(NewNode(op, node, list(inputs), [output], attributes))
        return output

    def constant(self, values: Array | np.float32) -> str:
        array = np.asarray(values)
        if array.dtype.kind == "i":
            array = array.astype(np.int64)
        return self.builder.constant(f"{self.name}/constant", array)
