"""A net as its text describes it, without memory for blobs and parameters, whatever data is there.

It is built on PyTorch's meta device, whose tensors have shapes alone. Images and labels of data
layers whose files are missing get the shapes that the text tells.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import torch

from moka.errors import DataError, MokaError, SchemaError
from moka.files import local_path
from moka.graph import Graph, Node
from moka.layers import REGISTRY
from moka.layers.source import Source
from moka.net.net import Net
from moka.schema import caffe_pb2, read_binary
from moka.schema.blobproto import shape_of
from moka.types import Shape

META = torch.device("meta")
COLORS = 3


@dataclass(frozen=True)
class ImageSize:
    """The sizes of a data layer's batches as far as its text gives them; 0: unknown."""

    batch: int = 0
    channels: int = 0
    height: int = 0
    width: int = 0

    @property
    def shape(self) -> Shape | None:
        """The shape of a batch; None if a part of it is unknown."""
        found = (self.batch, self.channels, self.height, self.width)
        return found if all(found) else None


@dataclass(frozen=True)
class MissingData:
    """A data layer that cannot open its files.

    Attributes:
        node: the layer.
        reason: what is missing, as a sentence; "": nobody has looked.
        size: what its text tells of its images.
    """

    node: Node
    reason: str
    size: ImageSize

    def shapes(self, size: ImageSize) -> dict[str, Shape] | None:
        """Shapes for its tops, images first and then labels; None if `size` leaves any open."""
        images = size.shape
        if images is None:
            return None
        stand_in = REGISTRY[self.node.type].stand_in
        if stand_in is not None:
            return dict(zip(self.node.tops, stand_in(self.node.layer, images), strict=False))
        first, *others = self.node.tops
        return {first: images, **dict.fromkeys(others, (size.batch,))}


def outline(graph: Graph, given_shapes: Mapping[str, Shape] | None = None) -> Net:
    """The net of a graph, without memory. Only the shapes of its blobs and parameters are true.

    Layers that run the user's own code, or compute with numbers while they are made, need real
    tensors: a net with such layers is built on the CPU.

    Args:
        given_shapes: of the tops of data layers that need not be there.

    Raises:
        MokaError: what would stop the net from being built; with file and layer.
    """
    given = given_shapes or {}
    with silence():
        net = _on_meta(graph, given) or Net(graph, torch.device("cpu"), given_shapes=given)
    net.close()
    return net


def _on_meta(graph: Graph, given_shapes: Mapping[str, Shape]) -> Net | None:
    """The net without memory; None if one of its layers needs real tensors."""
    if any(REGISTRY[node.type].runs_user_code for node in graph.nodes):
        return None
    with suppress(RuntimeError), META:  # NotImplementedError is one, too
        return Net(graph, META, given_shapes=given_shapes)
    return None


def missing_data(graph: Graph) -> list[MissingData]:
    """The data layers of a graph that cannot open their files.

    A fault in a layer's own options is not among them: building the net reports it.
    """
    with silence():
        return [
            MissingData(node, reason, image_size(node.layer, _message(node)))
            for node in graph.nodes
            if node.entry.source == "files" and (reason := _why_closed(node, graph))
        ]


def unread_data(graph: Graph) -> list[MissingData]:
    """All data layers of a graph that read files, without a look at the files; no reason is given
    for them."""
    return [
        MissingData(node, "", image_size(node.layer, _message(node)))
        for node in graph.nodes
        if node.entry.source == "files"
    ]


def _why_closed(node: Node, graph: Graph) -> str | None:
    """Why a data layer cannot open its files, as a sentence; None if it can."""
    try:
        layer = REGISTRY[node.type].make(node.layer)
    except (DataError, SchemaError) as error:
        error.message, error.advice = f"{error.message.rstrip('.')}.", None
        return str(error.at(file=graph.file, layer=node.name, layer_type=node.type))
    except OSError as error:
        reason = DataError(f"{error.filename}: {error.strerror}.", file=graph.file)
        return str(reason.at(layer=node.name, layer_type=node.type))
    except MokaError:
        return None
    if isinstance(layer, Source):
        layer.close()
    return None


def _message(node: Node) -> str | None:
    """The message that a data layer's options stand in."""
    entry = REGISTRY[node.type]
    return next((name for name in entry.messages if node.layer.HasField(name)), entry.message)


def image_size(layer: caffe_pb2.LayerParameter, message: str | None) -> ImageSize:
    """The size of a data layer's batches, as far as its text and its mean file tell it."""
    config = getattr(layer, message or "", None)
    transform = layer.transform_param
    size = ImageSize(
        getattr(config, "batch_size", 0) or layer.data_param.batch_size, _channels(layer, message)
    )
    for resized in transform.resize_param:
        size = replace(size, height=resized.height, width=resized.width)
    for kind in ("new", "resize"):
        if height := getattr(config, f"{kind}_height", 0):
            size = replace(size, height=height, width=getattr(config, f"{kind}_width", 0))
    mean = _mean_shape(transform.mean_file)
    if len(mean) >= 3:
        channels, height, width = mean[-3:]
        size = replace(size, channels=channels)
        if not size.height:
            size = replace(size, height=height, width=width)
    crop = transform.crop_size or getattr(config, "crop_size", 0)
    height = transform.crop_h or getattr(config, "crop_height", 0) or crop
    width = transform.crop_w or getattr(config, "crop_width", 0) or crop
    return replace(size, height=height or size.height, width=width or size.width)


def _channels(layer: caffe_pb2.LayerParameter, message: str | None) -> int:
    transform = layer.transform_param
    if len(transform.mean_value) > 1:
        return len(transform.mean_value)
    if transform.force_gray:
        return 1
    if message == "image_data_param":
        return COLORS if layer.image_data_param.is_color else 1
    channels = REGISTRY[layer.type].channels if layer.type in REGISTRY else None
    return channels or (COLORS if transform.force_color else 0)


def _mean_shape(file: str) -> Sequence[int]:
    if not file or not os.path.exists(local_path(file)):
        return ()
    try:
        return shape_of(read_binary(file, caffe_pb2.BlobProto))
    except MokaError:
        return ()


@contextmanager
def silence() -> Iterator[list[str]]:
    """Silence the log lines about building a net that nobody will run.

    Yields a list, to which warnings are added. Inside another one the inner one takes them.
    """
    warnings: list[str] = []

    def drop(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            warnings.append(record.getMessage())
        return False

    loggers = [logging.getLogger(name) for name in ("moka", "moka.detail")]
    for logger in loggers:
        logger.filters.insert(0, drop)
    try:
        yield warnings
    finally:
        for logger in loggers:
            logger.removeFilter(drop)
