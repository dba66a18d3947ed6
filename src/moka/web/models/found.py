"""The models that lie in a folder: nets for use, and runs with their newest snapshot."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moka.checks.files import recognize_file
from moka.checks.pairs import own_name
from moka.checks.stand_in import build
from moka.errors import MokaError
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.net import NetLike, read_net
from moka.rewrite.for_use import net_for_use
from moka.schema import caffe_pb2
from moka.serving.image_input import Look
from moka.serving.model import ModelFiles
from moka.tools.preprocessing import read_mean
from moka.types import Array, HeightWidth
from moka.web.folder import Folder
from moka.web.model_files import files_in

WEIGHTS = (".caffemodel", ".caffemodel.h5")
NETS = (".prototxt",)
MOST_MODELS = 500
_ITERATION = re.compile(r"_iter_(\d+)\.")


@dataclass(frozen=True)
class TrainedFiles(ModelFiles):
    """A net for training with a snapshot: it becomes a net for use when it is loaded, and images
    are taken as its data layer for testing transforms them."""

    def opened(self) -> tuple[NetLike, Look]:
        param, file = read_net(self.net)
        graph = build_graph(param, REGISTRY, phase=caffe_pb2.TEST, file=file)
        outline = build(graph).net
        shapes = {name: tuple(blob.data_memory.shape) for name, blob in outline.blobs.items()}
        look = self.look
        for layer in graph.filtered.layer:
            if not layer.bottom and layer.HasField("transform_param"):
                size = size_before_crop(layer, str(file))
                look = look_of_transform(layer.transform_param, Path(file).parent, size)
        return net_for_use(graph, shapes), look


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


def find_models(folder: Folder) -> dict[str, ModelFiles]:
    """The models below a folder, by the path of their folder; the ones that changed last first.

    A folder with a deploy.prototxt is packed as for `caffe serve`; else the net is the prototxt
    whose name goes best with that of its weights.
    """
    found: dict[str, tuple[float, ModelFiles]] = {}
    for place, entries in folder.walk():
        weights = [Path(e.path) for e in entries if e.name.endswith(WEIGHTS) and e.is_file()]
        nets = [Path(e.path) for e in entries if e.name.endswith(NETS) and e.is_file()]
        if not weights or not nets:
            continue
        name = folder.name(place)
        name = folder.path.name if name == "." else name
        newest = max(weights, key=lambda file: (iteration_of(file.name), file.stat().st_mtime))
        files = _packed(place) or _trained(newest, nets)
        if files is not None:
            found[name] = (newest.stat().st_mtime, files)
        if len(found) == MOST_MODELS:
            break
    ordered = sorted(found.items(), key=lambda item: -item[1][0])
    return {name: files for name, (_, files) in ordered}


def iteration_of(name: str) -> int:
    """The iteration in a snapshot's name; -1: none."""
    found = _ITERATION.search(name)
    return int(found[1]) if found else -1


def _packed(place: Path) -> ModelFiles | None:
    try:
        return files_in(place)
    except MokaError:
        return None


def _trained(weights: Path, nets: list[Path]) -> ModelFiles | None:
    kinds = [net for net in nets if recognize_file(str(net)).kind == "net"]
    if not kinds:
        return None
    wanted = own_name(weights)
    best = max(kinds, key=lambda net: (own_name(net) == wanted, "deploy" in net.name))
    labels = best.parent / "labels.txt"
    return TrainedFiles(best, str(weights), labels if labels.exists() else None)
