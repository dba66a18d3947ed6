"""A net as a file for other programs: `caffe export --model NET --weights MODEL -o FILE`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moka.command.run import run
from moka.command.table import COMMANDS
from moka.errors import UsageError, WeightsError, did_you_mean
from moka.export import export, format_of
from moka.files import check_writable
from moka.graph import Graph, build_graph
from moka.layers import REGISTRY
from moka.net import Net, build_net, read_net
from moka.predict.labels import read_labels
from moka.predict.score import class_count
from moka.schema import caffe_pb2
from moka.tools.preprocessing import integers, read_mean
from moka.types import Array, Shape
from moka.weights import load_weights

if TYPE_CHECKING:
    from moka.export.onnx.image_input import ImageInput

DYNAMIC = "dynamic"
MOST_NAMED = 5


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe export --model NET --weights MODEL -o FILE [flags]`."""
    return run("export", _export, argv)


def _export(words: list[str], flags: dict[str, Any]) -> None:
    for name in ("model", "weights", "output"):
        if not flags[name]:
            raise UsageError(f"--{name} is missing.", advice="See `caffe export --help`.")
    file = flags["output"]
    made_by = _options[format_of(file, flags["format"])]
    check_writable(file)
    net = open_net(flags["model"], flags["input_shape"])
    _load(net, flags["weights"])
    done = export(net, file, format=flags["format"], **made_by(net, flags))
    for line in done.lines():
        print(line)


def _load(net: Net, weights: str) -> None:
    """Give the net its weights. Raises WeightsError if the files have none of its layers, for what
    would be exported then is nobody's model."""
    missing = load_weights(net, weights)
    with_parameters = [name for name, layer in net.named_layers() if len(layer.weights)]
    if missing and len(missing) == len(with_parameters):
        raise WeightsError(
            "it has no parameters for any layer of this net.",
            file=weights,
            advice=f"Layers with parameters are {', '.join(missing[:MOST_NAMED])}"
            f"{' and others' if len(missing) > MOST_NAMED else ''}.",
        )


def open_net(model: str, input_shape: str = "") -> Net:
    """The TEST net of a prototxt, whose inputs may have other shapes.

    Args:
        input_shape: "1,3,224,224" for the first input, or "data:1,3,224,224;rois:10,5" by name.
            Data layers all of whose tops are named, or whose first top is, read no files.

    Raises:
        MokaError: the net cannot be built, a shape cannot be read, or an input does not exist.
    """
    param, file = read_net(model)
    graph = build_graph(param, REGISTRY, phase=caffe_pb2.TEST, file=file)
    return build_net(model, caffe_pb2.TEST, given_shapes=given_shapes(graph, input_shape))


def given_shapes(graph: Graph, text: str) -> dict[str, Shape]:
    """The shapes of blobs that `--input_shape` names.

    Raises:
        UsageError: a shape cannot be read, or there is no such input.
    """
    if not text:
        return {}
    sources = [node for node in graph.nodes if not node.bottoms and node.tops]
    known = [top for node in sources for top in node.tops]
    shapes: dict[str, Shape] = {}
    for part in text.split(";"):
        name, colon, sizes = part.rpartition(":")
        name = name.strip() if colon else next(iter(known), "")
        if name not in known:
            raise UsageError(
                f"--input_shape names '{name}', which is no input: they are {', '.join(known)}.",
                advice=did_you_mean(name, known),
            )
        shapes[name] = tuple(integers(sizes, "input_shape"))
        if not shapes[name] or min(shapes[name]) < 1:
            raise UsageError(f"--input_shape takes sizes > 0, found '{sizes}'.")
    for node in sources:  # labels and the like, and inputs that keep their shapes
        if node.tops[0] in shapes:
            others = _declared(node.layer, node.tops)
            for top in node.tops:
                shapes.setdefault(top, others.get(top, shapes[node.tops[0]][:1]))
    return shapes


def _declared(layer: caffe_pb2.LayerParameter, tops: Sequence[str]) -> dict[str, Shape]:
    """The shapes that a layer declares for its tops."""
    shapes = [tuple(shape.dim) for shape in layer.input_param.shape]
    return dict(zip(tops, shapes * len(tops) if len(shapes) == 1 else shapes, strict=False))


def _onnx_options(net: Net, flags: dict[str, Any]) -> dict[str, Any]:
    """The options of `export_onnx` that flags give."""
    batch = flags["batch"]
    return {
        "opset": flags["opset"],
        "batch": None if batch == DYNAMIC else _batch_size(batch),
        "outputs": flags["outputs"].split(",") if flags["outputs"] else None,
        "fold": flags["fold"],
        "half": flags["half"],
        "image_input": _image_input(flags),
        "labels": read_labels(flags["labels"], class_count(net)) if flags["labels"] else None,
        "metadata": {"weights": flags["weights"]},
        "check": flags["check"],
        "check_image": flags["check_image"] or None,
    }


def _no_options(net: Net, flags: dict[str, Any]) -> dict[str, Any]:
    """The options of formats that have none. Raises UsageError for a flag that is ONNX's."""
    common = ("model", "weights", "output", "format", "input_shape")
    for flag in COMMANDS["export"].flags:
        if flag.name not in common and flags[flag.name] != flag.default:
            raise UsageError(f"--{flag.name} is an option of the format onnx alone.")
    return {}


_options = {"onnx": _onnx_options, "torch": _no_options, "safetensors": _no_options}


def _batch_size(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--batch takes a number > 0 or '{DYNAMIC}', found '{text}'.")
    return int(text)


def _image_input(flags: dict[str, Any]) -> ImageInput | None:
    """How the model prepares images; None if no flag asks for it."""
    from moka.export.onnx.image_input import ImageInput

    names = ("mean", "scale", "raw_scale", "channel_swap", "resize")
    usual = {"mean": "", "scale": 1.0, "raw_scale": 255.0, "channel_swap": "", "resize": False}
    if not flags["bytes"] and all(flags[name] == usual[name] for name in names):
        return None
    swap = flags["channel_swap"]
    return ImageInput(
        mean=_mean(flags["mean"]) if flags["mean"] else None,
        scale=flags["scale"],
        raw_scale=flags["raw_scale"],
        channel_swap=integers(swap, "channel_swap") if swap else None,
        resize=flags["resize"],
    )


def _mean(text: str) -> Array:
    """A mean from a flag: a value for each channel, or a file."""
    try:
        return np.array([float(part) for part in text.split(",")], np.float32)
    except ValueError:
        return read_mean(text)
