"""A model and the files that describe it, from the program of its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from moka.net.spec import NetSpec, Top, assign_proto, layers
from moka.schema import caffe_pb2

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST

# What a layer's parameters are trained with: weights, then biases twice as fast without decay.
WEIGHT_AND_BIAS = [dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)]
FILLERS = ("weight_filler", "bias_filler", "filler")

DataLayers = Callable[[caffe_pb2.Phase], tuple[Top, Top]]
Ending = Callable[[NetSpec, Top], None]


def ilsvrc12(batches: tuple[int, int], crop: int, **transform: Any) -> DataLayers:
    """ImageNet's databases, as `create_imagenet.sh` of Caffe calls them.

    Args:
        batches: images in a batch of training and of testing.
        crop: pixels; training takes any crop and its mirror image, testing the middle.
        transform: more fields of `transform_param`.
    """

    def source(phase: caffe_pb2.Phase) -> tuple[Top, Top]:
        split, batch = ("train", batches[0]) if phase == TRAIN else ("val", batches[1])
        data, label = layers.Data(
            ntop=2,
            include=dict(phase=phase),
            transform_param=dict(mirror=phase == TRAIN, crop_size=crop, **transform),
            source=f"examples/imagenet/ilsvrc12_{split}_lmdb",
            batch_size=batch,
            backend=caffe_pb2.DataParameter.LMDB,
        )
        return data, label

    return source


def softmax_loss(n: NetSpec, scores: Top) -> None:
    """Ends a net that classifies with its loss and, in testing, its accuracy."""
    n.accuracy = layers.Accuracy(scores, n.label, include=dict(phase=TEST))
    n.loss = layers.SoftmaxWithLoss(scores, n.label)


def softmax_loss_and_top_5(n: NetSpec, scores: Top) -> None:
    """The same with two accuracies: among the first five guesses, too."""
    softmax_loss(n, scores)
    n.accuracy_top5 = layers.Accuracy(scores, n.label, top_k=5, include=dict(phase=TEST))


def softmax(n: NetSpec, scores: Top) -> None:
    """Ends a net in use with the classes' probabilities."""
    n.prob = layers.Softmax(scores)


def nothing(n: NetSpec, scores: Top) -> None:
    """Ends a net in use with its scores."""


@dataclass(frozen=True)
class ReferenceModel:
    """What is needed to write a model's files.

    Attributes:
        folder: its name in the zoo.
        name: of the net.
        program: the module that it is from.
        layers: adds the layers that stand on `n.data` to `n` and returns the scores of classes;
            called with (n, deploy), where deploy tells a net in use from one in training.
        crop: width and height of the images it takes, in pixels.
        channels: of the images.
        source: makes data and labels of a phase; None for a model that is not trained here.
        solver: fields of the solver; those that all have are added.
        ending, deploy_ending: what follows the scores in training and in use.
        deploy_batch: images in a batch of the net in use.
        more_solvers: other solvers, by file.
    """

    folder: str
    name: str
    program: str
    layers: Callable[[NetSpec, bool], Top]
    crop: int
    source: DataLayers | None = None
    solver: Mapping[str, Any] = field(default_factory=dict)
    ending: Ending = softmax_loss
    deploy_ending: Ending = softmax
    deploy_batch: int = 10
    channels: int = 3
    more_solvers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def files(self) -> dict[str, caffe_pb2.NetParameter | caffe_pb2.SolverParameter]:
        """The model's files by name."""
        made: dict[str, caffe_pb2.NetParameter | caffe_pb2.SolverParameter] = {
            "deploy.prototxt": self.deploy()
        }
        if self.source is not None:
            made["train_val.prototxt"] = self.train_val(self.source)
            for name, fields in {"solver.prototxt": self.solver, **self.more_solvers}.items():
                made[name] = self._solver(fields)
        return made

    def train_val(self, source: DataLayers) -> caffe_pb2.NetParameter:
        """The net for training and testing, with a source of data for each."""
        training = NetSpec()
        training.data, training.label = source(TRAIN)
        n = NetSpec()
        n.data, n.label = source(TEST)
        self.ending(n, self.layers(n, False))
        layers_of_both = [*training.to_proto().layer, *n.to_proto().layer]
        return caffe_pb2.NetParameter(name=self.name, layer=layers_of_both)

    def deploy(self) -> caffe_pb2.NetParameter:
        """The net for images of the user's: without what matters in training only."""
        n = NetSpec()
        n.data = layers.Input(
            shape=dict(dim=[self.deploy_batch, self.channels, self.crop, self.crop])
        )
        self.deploy_ending(n, self.layers(n, True))
        net = n.to_proto()
        for layer in net.layer:
            layer.ClearField("param")
            for _, message in layer.ListFields():
                for filler in FILLERS:
                    if filler in getattr(
                        getattr(message, "DESCRIPTOR", None), "fields_by_name", ()
                    ):
                        message.ClearField(filler)
        return caffe_pb2.NetParameter(name=self.name, layer=net.layer)

    def _solver(self, fields: Mapping[str, Any]) -> caffe_pb2.SolverParameter:
        solver = caffe_pb2.SolverParameter(
            net=f"models/{self.folder}/train_val.prototxt",
            solver_mode=caffe_pb2.SolverParameter.GPU,
        )
        for name, value in fields.items():
            assign_proto(solver, name, value)
        return solver
