"""A model that answers: a net with its weights, its labels, and a queue in front of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from moka.errors import MokaError, NetError
from moka.graph import build_graph
from moka.inference.module import ModuleRunner, speed_up
from moka.layers import REGISTRY
from moka.net import Net, NetLike, read_net
from moka.predict.crops import CROPS, MIDDLE
from moka.predict.labels import read_labels
from moka.schema import caffe_pb2
from moka.serving.batcher import Batcher, Deliver
from moka.serving.errors import BadRequestError, BrokenModelError, UnknownModelError
from moka.serving.image_input import ImageInput, Look
from moka.serving.net_inputs import Example, NetInputs, Opened, Upload
from moka.serving.outputs import BOXES, MAP, VALUES, outputs_of
from moka.types import Floats, HeightWidth, PathLike
from moka.weights import load_weights

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
    """One example to compute blobs for; `blob` is "" for the net's outputs."""

    example: Example
    blob: str = ""

    @property
    def group(self) -> Hashable:
        return self.blob, self.example.oversample


class Computed(NamedTuple):
    """What a net computed for one example.

    Attributes:
        blobs: by name.
        size: height and width of its first image; (0, 0): it has none.
        batch: how many examples were computed together.
        boxes: of a net that finds them, the detections (K, 7): 0, class, score, and left, top,
            right, bottom in fractions of the image.
    """

    blobs: dict[str, Floats]
    size: HeightWidth
    batch: int
    boxes: Floats | None = None


class ServedModel:
    """A loaded model with its queue.

    Args:
        name: what requests call it.
        seen, deliver: see `Batcher`.

    Attributes:
        inputs: what the net takes.
        outputs: what it gives out.
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
        deliver: Deliver = lambda settle: settle(),
    ) -> None:
        self.name, self.files, self._threads = name, files, pace.threads
        net, look = files.opened()
        self.net = _loaded(net, files.weights)
        try:
            self.inputs = NetInputs(self.net.input_shapes, look)
        except NetError as error:
            raise error.at(file=self.net.graph.file) from None
        self.outputs = outputs_of(self.net, self.inputs, pace.batch)
        self.labels = read_labels(files.labels, self.class_count) if files.labels else []
        self._buffers = threading.local()
        self._features: OrderedDict[str, ModuleRunner] = OrderedDict()
        self._lock = threading.Lock()
        self._warm()
        self._batcher = Batcher[Job, Computed](
            self.run,
            sizes=self.outputs.sizes,
            delay_s=pace.delay_s,
            capacity=pace.capacity,
            workers=pace.workers,
            seen=seen,
            deliver=deliver,
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
    def kind(self) -> str:
        """What the outputs are: CLASSES, BOXES, MAP or VALUES."""
        return self.outputs.kind

    @property
    def input(self) -> ImageInput:
        """The only input. Raises BadRequestError if the net takes anything but one image."""
        if len(self.inputs.images) != 1 or self.inputs.numbers:
            names = ", ".join([*self.inputs.images, *self.inputs.numbers])
            raise BadRequestError(f'model "{self.name}" takes {names}, not one image alone.')
        return next(iter(self.inputs.images.values()))

    def images_of(self, uploads: Sequence[Upload]) -> list[bytes]:
        """The images of a request, for a net that takes one alone.

        Raises:
            BadRequestError: there are none, or the net takes something else.
        """
        wanted = self.input
        (name,) = (name for name, each in self.inputs.images.items() if each is wanted)
        given = (example.given[name] for example in self.inputs.examples(uploads, {}))
        return [each for each in given if isinstance(each, bytes)]

    @property
    def blobs(self) -> list[str]:
        """The names of the blobs that layers of the prototxt make."""
        made = (p.node.tops for p in self.net.places if not p.layer.entry.is_plumbing)
        return list(dict.fromkeys(top for tops in made for top in tops))

    @property
    def class_count(self) -> int | None:
        """How many classes it tells apart; None: its output does not say."""
        shape = self.net.blobs[self.outputs.names[0]].shape
        if self.outputs.regions:
            return int(np.prod(self.net.blobs[self.outputs.regions.scores].shape[1:]))
        if self.kind in (BOXES, VALUES):
            return None
        return int(shape[1]) if self.kind == MAP else int(np.prod(shape[1:]))

    @property
    def feature_blob(self) -> str:
        """The blob that is given as features unless one is named: the input of the last layer with
        parameters, or the first output if no layer has any."""
        for place in reversed(self.net.places):
            if len(place.layer.weights) and place.node.bottoms:
                return place.node.bottoms[0]
        return self.outputs.names[0]

    def label(self, number: int) -> str:
        """The name of a class, or its number."""
        return self.labels[number] if 0 <= number < len(self.labels) else str(number)

    def check_blob(self, blob: str) -> None:
        """Raise UnknownModelError if the net has no blob of this name with a row for each image."""
        if blob not in self.net.blobs:
            known = ", ".join(self.net.blobs)
            raise UnknownModelError(f'model "{self.name}" has no blob "{blob}". It has {known}.')
        size = self.outputs.sizes[-1]
        if size == 1:
            return
        shape = self.net.infer_shapes(self.inputs.shapes(size))[blob]
        if shape[:1] != (size,):
            raise BadRequestError(f'blob "{blob}" has shape {shape}, not a row for each image.')

    def check_oversample(self) -> None:
        """Raise BadRequestError if outputs of several crops have no mean."""
        if self.kind in (BOXES, MAP):
            raise BadRequestError(
                f'oversample is the mean over ten crops, and model "{self.name}" tells places in an'
                " image, which differ from crop to crop."
            )

    def compute(self, inputs: Mapping[str, Floats], blob: str = "") -> dict[str, Floats]:
        """The outputs, or one blob, for inputs of one of the outputs' sizes."""
        given = {name: torch.from_numpy(values) for name, values in inputs.items()}
        torch.set_num_threads(self._threads)
        with torch.no_grad():
            if blob:
                made: Mapping[str, torch.Tensor] = self._feature_runner(blob)(given, [blob])
            elif self.outputs.regions:
                made = self._feature_runner(blob)(given, self.outputs.wanted)
            else:
                made = self.net(**given)
        wanted = [blob] if blob else self.outputs.wanted
        return {name: made[name].numpy() for name in wanted}

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
        for size in self.outputs.sizes:
            for _ in range(WARM_PASSES):
                self.compute(self._zeros(size))

    def run(self, jobs: Sequence[Job]) -> list[Computed | Exception]:
        """Decode and compute a batch at once, in the caller's thread; all jobs are of one group."""
        crops = range(CROPS) if jobs[0].example.oversample else (MIDDLE,)
        opened: list[Opened | MokaError] = []
        parts: list[list[dict[str, Floats]]] = [[] for _ in jobs]  # what each crop gives
        rows: list[tuple[int, int]] = []  # a job's number and its crop: of a batch of the net
        try:
            for number, job in enumerate(jobs):
                opened.append(self._opened(job.example))
                for crop in crops:
                    rows.append((number, crop))
                    if len(rows) == self.outputs.sizes[-1]:
                        self._run_rows(rows, opened, parts, jobs[0].blob)
                        rows.clear()
            if rows:
                self._run_rows(rows, opened, parts, jobs[0].blob)
            return [
                each if isinstance(each, MokaError) else self._computed(made, each.size, jobs)
                for each, made in zip(opened, parts, strict=True)
            ]
        except MokaError as error:
            return [BrokenModelError(str(error))] * len(jobs)

    def _opened(self, example: Example) -> Opened | MokaError:
        try:
            return self.inputs.opened(example)
        except MokaError as error:
            return error

    def _run_rows(
        self,
        rows: Sequence[tuple[int, int]],
        opened: Sequence[Opened | MokaError],
        parts: Sequence[list[dict[str, Floats]]],
        blob: str,
    ) -> None:
        """Compute a batch of the net, and give each job what belongs to it."""
        size = next(size for size in self.outputs.sizes if size >= len(rows))
        inputs = self._buffers_of(size)
        for values in inputs.values():
            values[len(rows) :] = 0
        for i, (number, crop) in enumerate(rows):
            example = opened[number]
            if isinstance(example, MokaError):
                for values in inputs.values():
                    values[i] = 0
            else:
                self.inputs.fill(example, inputs, i, crop)
        made = self.compute(inputs, blob)
        for i, (number, _) in enumerate(rows):
            if not isinstance(opened[number], MokaError):
                parts[number].append(self.outputs.of_example(made, size, i))

    def _computed(
        self, made: Sequence[dict[str, Floats]], own: HeightWidth, jobs: Sequence[Job]
    ) -> Computed:
        """An answer from what each crop of an example gave."""
        blobs = made[0]
        if len(made) > 1:
            blobs = {name: np.mean([each[name] for each in made], 0) for name in blobs}
        finds_boxes = self.kind == BOXES and not jobs[0].blob
        return Computed(blobs, own, len(jobs), self.outputs.boxes(blobs) if finds_boxes else None)

    def _zeros(self, size: int) -> dict[str, Floats]:
        return {n: np.zeros(s, np.float32) for n, s in self.inputs.shapes(size).items()}

    def _buffers_of(self, size: int) -> dict[str, Floats]:
        """Memory for the inputs of a batch, one for each thread and size."""
        if not hasattr(self._buffers, "by_size"):
            self._buffers.by_size = {}
        by_size: dict[int, dict[str, Floats]] = self._buffers.by_size
        if size not in by_size:
            by_size[size] = self._zeros(size)
        return by_size[size]


def _loaded(source: NetLike, weights: PathLike | None) -> Net:
    """The net with its weights, without the lines that Caffe logs of it."""
    param, file = read_net(source)
    net = Net(build_graph(param, REGISTRY, phase=caffe_pb2.TEST, file=file), silent=True)
    net.write_no_results()
    if weights:
        load_weights(net, weights)
    return speed_up(net)
