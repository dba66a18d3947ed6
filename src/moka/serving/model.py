"""A model that answers: a net with its weights, its labels, and a queue in front of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from moka.errors import MokaError, NetError
from moka.graph import build_graph
from moka.inference.fast import MOST_SHAPES
from moka.inference.module import ModuleRunner, speed_up
from moka.layers import REGISTRY
from moka.net import Net, NetLike, read_net
from moka.predict.labels import read_labels
from moka.schema import caffe_pb2
from moka.serving.batcher import Batcher
from moka.serving.errors import BadRequestError, BrokenModelError, UnknownModelError
from moka.serving.image_input import ImageInput, Look
from moka.types import Array, Floats, HeightWidth, PathLike, Shape
from moka.weights import load_weights

CLASSES, BOXES, MAP = "classes", "boxes", "map"
BOX_ROW = 7  # image, class, score, left, top, right, bottom
WARM_PASSES = 3  # after which a program may run
MOST_FEATURE_BLOBS = 2  # that have programs at the same time

Seen = Callable[[int, float], None]  # a batch's size, its seconds


@dataclass(frozen=True)
class ModelFiles:
    """Where a model's parts are, and how it takes images."""

    net: PathLike
    weights: PathLike | None
    labels: PathLike | None = None
    look: Look = field(default_factory=Look)

    @property
    def key(self) -> tuple[object, ...]:
        """What is the same for the same files."""
        return self.net, self.weights, self.labels

    def opened(self) -> tuple[NetLike, Look]:
        """The net, and how it takes images; read when the model is loaded."""
        return self.net, self.look


@dataclass(frozen=True)
class Pace:
    """How a model works through its queue; see `Batcher`.

    Attributes:
        threads: of one worker's computations.
    """

    batch: int = 8
    delay_s: float = 0.002
    capacity: int = 64
    workers: int = 1
    threads: int = 1


class Job(NamedTuple):
    """One image to compute blobs for; `blob` is "" for the net's outputs."""

    data: bytes
    blob: str = ""

    @property
    def group(self) -> Hashable:
        return self.blob


class Computed(NamedTuple):
    """What a net computed for one image.

    Attributes:
        blobs: by name; a row of a detection output holds boxes (N, 7) of this image.
        size: the image's own height and width.
        batch: how many images were computed together.
    """

    blobs: dict[str, Floats]
    size: HeightWidth
    batch: int


class ServedModel:
    """A loaded model with its queue.

    Args:
        name: what requests call it.
        seen: called with each batch's size and seconds.

    Attributes:
        kind: CLASSES: a score for each class; BOXES: rows of detections; MAP: scores (C, H, W).
        labels: names of classes; empty: there are none.

    Raises:
        MokaError: files that cannot be read or do not fit, a net that takes no images.
    """

    def __init__(
        self,
        name: str,
        files: ModelFiles,
        pace: Pace,
        seen: Seen = lambda size, seconds: None,
    ) -> None:
        self.name, self.files, self._threads = name, files, pace.threads
        net, look = files.opened()
        self.net = _loaded(net, files.weights)
        self.input_name = _only_input(self.net)
        self.input = ImageInput(self.net.input_shapes[self.input_name][1:], look)
        self.sizes, self.kind = _batch_sizes(self.net, self.input_name, pace.batch)
        self.labels = read_labels(files.labels, self.class_count) if files.labels else []
        self._buffers = threading.local()
        self._features: OrderedDict[str, ModuleRunner] = OrderedDict()
        self._lock = threading.Lock()
        self._warm()
        self._batcher = Batcher[Job, Computed](
            self.run,
            sizes=self.sizes,
            delay_s=pace.delay_s,
            capacity=pace.capacity,
            workers=pace.workers,
            seen=seen,
        )
        self.submit = self._batcher.submit
        self.hurry = self._batcher.hurry
        self.close = self._batcher.close
        self.capacity = pace.capacity

    @property
    def waiting(self) -> int:
        """How many images wait."""
        return self._batcher.waiting

    @property
    def outputs(self) -> list[str]:
        """The names of the net's outputs."""
        return list(self.net.graph.outputs)

    @property
    def blobs(self) -> list[str]:
        """The names of the blobs that layers of the prototxt make."""
        made = (p.node.tops for p in self.net.places if not p.layer.entry.is_plumbing)
        return list(dict.fromkeys(top for tops in made for top in tops))

    @property
    def class_count(self) -> int | None:
        """How many classes it tells apart; None: its output does not say."""
        shape = self.net.blobs[self.outputs[0]].shape
        if self.kind == BOXES:
            return None
        return int(shape[1]) if self.kind == MAP else int(np.prod(shape[1:]))

    @property
    def feature_blob(self) -> str:
        """The blob that is given as features unless one is named: the input of the last layer with
        parameters, or the first output if no layer has any."""
        for place in reversed(self.net.places):
            if len(place.layer.weights) and place.node.bottoms:
                return place.node.bottoms[0]
        return self.outputs[0]

    def label(self, number: int) -> str:
        """The name of a class, or its number."""
        return self.labels[number] if 0 <= number < len(self.labels) else str(number)

    def check_blob(self, blob: str) -> None:
        """Raise UnknownModelError if the net has no blob of this name with a row for each image."""
        if blob not in self.net.blobs:
            known = ", ".join(self.net.blobs)
            raise UnknownModelError(f'model "{self.name}" has no blob "{blob}". It has {known}.')
        shapes = self.net.infer_shapes({self.input_name: (self.sizes[-1], *self.input.shape)})
        if shapes[blob][:1] != (self.sizes[-1],):
            raise BadRequestError(
                f'blob "{blob}" has shape {shapes[blob]}, not a row for each image.'
            )

    def compute(self, inputs: Floats, blob: str = "") -> dict[str, Floats]:
        """The outputs, or one blob, for prepared images (N, C, H, W), N one of `sizes`."""
        given = {self.input_name: torch.from_numpy(inputs)}
        torch.set_num_threads(self._threads)
        with torch.no_grad():
            if blob:
                made: Mapping[str, torch.Tensor] = self._feature_runner(blob)(given, [blob])
            else:
                made = self.net(**given)
        return {name: tensor.numpy() for name, tensor in made.items() if blob in ("", name)}

    def _feature_runner(self, blob: str) -> ModuleRunner:
        with self._lock:
            if blob not in self._features:
                self._features[blob] = ModuleRunner(self.net)
            self._features.move_to_end(blob)
            while len(self._features) > MOST_FEATURE_BLOBS:
                self._features.popitem(last=False)
            return self._features[blob]

    def _warm(self) -> None:
        """Run batches of each size, so that their programs are there before the first request."""
        for size in self.sizes:
            for _ in range(WARM_PASSES):
                self.compute(np.zeros((size, *self.input.shape), np.float32))

    def run(self, jobs: Sequence[Job]) -> list[Computed | Exception]:
        """Decode and compute a batch at once, in the caller's thread; all jobs are of one group."""
        size = next(size for size in self.sizes if size >= len(jobs))
        inputs = self._buffer(size)
        results: list[HeightWidth | Exception] = []
        for i, job in enumerate(jobs):
            try:
                results.append(self.input.fill(job.data, inputs[i], "an image"))
            except MokaError as error:
                inputs[i] = 0
                results.append(error)
        inputs[len(jobs) :] = 0
        try:
            made = self.compute(inputs, jobs[0].blob)
        except MokaError as error:
            return [BrokenModelError(str(error))] * len(jobs)
        rows = partial(_of_image, made, self.kind if not jobs[0].blob else CLASSES)
        return [
            each if isinstance(each, Exception) else Computed(rows(i), each, len(jobs))
            for i, each in enumerate(results)
        ]

    def _buffer(self, size: int) -> Floats:
        """Memory for the inputs of a batch, one for each thread and size."""
        if not hasattr(self._buffers, "by_size"):
            self._buffers.by_size = {}
        by_size: dict[int, Floats] = self._buffers.by_size
        if size not in by_size:
            by_size[size] = np.zeros((size, *self.input.shape), np.float32)
        return by_size[size]


def _of_image(made: Mapping[str, Floats], kind: str, i: int) -> dict[str, Floats]:
    """The part of a batch's blobs that belongs to image `i`."""
    if kind != BOXES:
        return {name: values[i].copy() for name, values in made.items()}
    rows = {name: values.reshape(-1, BOX_ROW) for name, values in made.items() if _is_boxes(values)}
    return {name: each[(each[:, 0] == i) & (each[:, 1] >= 0)] for name, each in rows.items()}


def _is_boxes(values: Array) -> bool:
    return values.ndim == 4 and values.shape[-1] == BOX_ROW and values.shape[:2] == (1, 1)


def _loaded(source: NetLike, weights: PathLike | None) -> Net:
    """The net with its weights, without the lines that Caffe logs of it."""
    param, file = read_net(source)
    net = Net(build_graph(param, REGISTRY, phase=caffe_pb2.TEST, file=file), silent=True)
    if weights:
        load_weights(net, weights)
    return speed_up(net)


def _only_input(net: Net) -> str:
    """The name of the input. Raises NetError if there is none, or several."""
    inputs = net.graph.inputs
    if len(inputs) != 1 or len(net.input_shapes[inputs[0]]) != 4:
        raise NetError(
            f"a served net has one input, of images (N, C, H, W); this one has"
            f" {dict(net.input_shapes) or 'none'}.",
            file=net.graph.file,
            advice="Put an Input layer in the place of its data layers (a deploy.prototxt).",
        )
    return inputs[0]


def _batch_sizes(net: Net, name: str, largest: int) -> tuple[list[int], str]:
    """The sizes of batches to run, at most as many as programs are kept for, and what the output
    is. A net whose output has no row for each image with them runs one image at a time; if it
    cannot either, it keeps its own batch."""
    declared = net.input_shapes[name]
    wanted = sorted({max(1, largest >> k) for k in range(MOST_SHAPES)})
    for sizes in (wanted, [1], [declared[0]]):
        kinds = {_kind(net, name, (size, *declared[1:])) for size in sizes}
        if len(kinds) == 1 and (kind := kinds.pop()) is not None:
            return sizes, kind
    raise NetError(
        f'output "{net.graph.outputs[0]}" is not a row for each image.', file=net.graph.file
    )


def _kind(net: Net, name: str, given: Shape) -> str | None:
    """What the first output is for an input of this shape; None: nothing that is known."""
    try:
        shape = net.infer_shapes({name: given})[net.graph.outputs[0]]
    except MokaError:
        return None
    if len(shape) == 4 and shape[:2] == (1, 1) and shape[3] == BOX_ROW:
        return BOXES
    if shape[:1] != given[:1]:
        return None
    return MAP if len(shape) == 4 and shape[2] * shape[3] > 1 else CLASSES
