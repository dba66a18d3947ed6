"""The files of a trained model: its net is one for use, or the one that it was trained with."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from moka.checks.stand_in import build
from moka.checks.trained import is_for_use, made_for_use
from moka.errors import MokaError, NetError, WeightsError
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.net import NetLike, read_net
from moka.schema import caffe_pb2
from moka.serving.image_input import Look
from moka.serving.model import ModelFiles
from moka.tools.preprocessing import read_mean
from moka.types import Array, HeightWidth
from moka.weights import named_files

log = logging.getLogger("moka")


@dataclass(frozen=True)
class TrainedFiles(ModelFiles):
    """A net for use as it is; a net for training becomes one for use when it is loaded. Its images
    are taken as its data layer for testing transforms them, where `look` does not say
    otherwise."""

    def opened(self) -> tuple[NetLike, Look]:
        param, file = read_net(self.net)
        graph = build_graph(param, REGISTRY, phase=caffe_pb2.TEST, file=file)
        if is_for_use(graph):
            return self.net, self.look
        weights = named_files(str(self.weights)) if self.weights else []
        try:
            made = made_for_use(graph, weights)
        except WeightsError:
            raise
        except MokaError as error:
            raise NetError(
                f"this net for training cannot be made one for use: {error.message}",
                file=file,
                layer=error.layer,
                layer_type=error.layer_type,
                advice="Give a deploy.prototxt, whose Input layers say what it takes.",
            ) from None
        trained = Look()
        if made.reads.HasField("transform_param"):
            size = size_before_crop(made.reads, str(file))
            trained = look_of_transform(made.reads.transform_param, Path(str(file)).parent, size)
        log.info(
            "%s is a net for training; served is the net for use made of it, whose %s.",
            file,
            made.inputs_told,
        )
        return made.net, _merged(self.look, trained)


def _merged(asked: Look, trained: Look) -> Look:
    """How images are taken: as was asked for, else as in training."""
    default = Look()
    given = {
        name: value
        for name, value in vars(asked).items()
        if value is not None and (name == "mean" or value != getattr(default, name))
    }
    return replace(trained, **given)


def size_before_crop(layer: caffe_pb2.LayerParameter, file: str) -> HeightWidth | None:
    """The height and width of the images that a data layer cuts its crops from, as its options or
    its data tell; None: it cuts nothing, or they do not tell.

    Args:
        file: of its net.
    """
    if not layer.transform_param.crop_size:
        return None
    whole = caffe_pb2.LayerParameter()
    whole.CopyFrom(layer)
    for name in ("crop_size", "mean_file", "mean_value"):  # a mean may be of the size of crops
        whole.transform_param.ClearField(name)
    alone = caffe_pb2.NetParameter(layer=[whole])
    try:
        built = build(build_graph(alone, REGISTRY, phase=caffe_pb2.TEST, file=file))
    except MokaError:
        return None
    shape = built.net.blobs[layer.top[0]].data_memory.shape
    return None if built.is_guess or len(shape) != 4 else (shape[2], shape[3])


def look_of_transform(
    param: caffe_pb2.TransformationParameter, folder: Path, resize: HeightWidth | None = None
) -> Look:
    """How images are prepared as a `transform_param` says. Its mean file is relative to the current
    folder, or to that of the net.

    Args:
        resize: height and width of the images that are cropped, if they are known.

    Raises:
        MokaError: the mean file cannot be read.
    """
    mean: Array | None = None
    if param.mean_value:
        mean = np.array(param.mean_value, np.float32)
    elif param.mean_file:
        beside = folder / param.mean_file
        mean = read_mean(param.mean_file if os.path.exists(param.mean_file) else beside)
    return Look(mean=mean, scale=param.scale, resize=resize)
