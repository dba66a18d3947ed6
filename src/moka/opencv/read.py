"""Caffe's models from files and buffers: `readNetFromCaffe`, and `readNet` for such files."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from moka.files import decode_text
from moka.graph.filter import filter_net
from moka.opencv.defaults import with_opencv_defaults
from moka.opencv.errors import OpenCVError, raises_cv2_error
from moka.opencv.names import name_after_layers
from moka.opencv.net import Net
from moka.opencv.runner import Runner
from moka.schema import caffe_pb2, parse_text, read_text, unknown_fields_are
from moka.schema.upgrade import upgrade_net
from moka.types import PathLike
from moka.weights import parse_model, read_model

Buffer = bytes | bytearray | memoryview | np.ndarray[Any, Any]
Given = PathLike | Buffer | None

IN_MEMORY = "(buffer)"
PROTOTXT, CAFFEMODEL = "prototxt", "caffemodel"


@raises_cv2_error
def readNetFromCaffe(
    prototxt: Given = None,
    caffeModel: Given = None,
    *,
    bufferProto: Given = None,
    bufferModel: Given = None,
) -> Net:
    """Read a net from a prototxt and its weights from a .caffemodel.

    Fields of the prototxt that no fork of Caffe has are skipped with a warning. A net without
    weights is read too; it runs when `setParam` has set them.

    Args:
        prototxt: a path, or the content of the file: bytes, bytearray, memoryview, or a NumPy
            array of uint8. Bytes that are the name of a file are a path.
        caffeModel: likewise; None or "": no weights.
        bufferProto: another name of `prototxt`.
        bufferModel: another name of `caffeModel`.

    Raises:
        OpenCVError: a file is missing, has errors, or does not fit.
    """
    text = prototxt if bufferProto is None else bufferProto
    weights = caffeModel if bufferModel is None else bufferModel
    if text is None or (isinstance(text, str) and not text):
        raise OpenCVError(
            "readNetFromCaffe takes a prototxt: its path or its content.",
            advice=None if weights is None else "A .caffemodel has the weights alone.",
        )
    param, file = _definition(text)
    state = caffe_pb2.NetState()
    state.CopyFrom(param.state)
    state.phase = caffe_pb2.TEST
    renamed, layers = name_after_layers(with_opencv_defaults(filter_net(param, state)))
    if not layers:
        return Net()
    model, model_file = _model(weights)
    return Net(Runner(renamed, layers, file, model, model_file), layers)


@raises_cv2_error
def readNet(model: Given, config: Given = "", framework: Given = "", **_: Any) -> Net:
    """Read a .prototxt and a .caffemodel in either order, or `readNet("caffe", weights, text)`.

    Raises:
        OpenCVError: the files are not Caffe's, or see `readNetFromCaffe`.
    """
    if (files := caffe_files(model, config, framework)) is None:
        raise OpenCVError(
            f"{model!r} and {config!r} are no .prototxt and .caffemodel.",
            advice="Other formats are for cv2.dnn.readNet.",
        )
    return readNetFromCaffe(*files)


def caffe_files(model: Given, config: Given, framework: Given) -> tuple[Given, Given] | None:
    """The prototxt and the weights among the arguments of `readNet`; None if they are no Caffe
    files. A file is recognized by its extension."""
    if isinstance(model, str) and model.lower() == "caffe" and _is_buffer(config):
        return (framework, config) if _is_buffer(framework) else None
    kinds = _extension(model), _extension(config)
    named = isinstance(framework, str) and framework.lower() == "caffe"
    if not named and not {PROTOTXT, CAFFEMODEL} & set(kinds):
        return None
    if kinds[0] == PROTOTXT or kinds[1] == CAFFEMODEL:
        return model, config
    return config, model


def _definition(text: Given) -> tuple[caffe_pb2.NetParameter, PathLike]:
    """A net in today's form, and where it came from, for messages."""
    content = _content(text)
    file = IN_MEMORY if content is not None else _path(text)
    with unknown_fields_are("warn"):
        if content is None:
            given = read_text(file, caffe_pb2.NetParameter)
        else:
            given = parse_text(decode_text(content), caffe_pb2.NetParameter, file)
    net = upgrade_net(given, file)
    if given.input and not (given.input_dim or given.input_shape):
        with_input = caffe_pb2.NetParameter()
        with_input.layer.add(name="input", type="Input", top=given.input)
        with_input.MergeFrom(net)
        return with_input, file
    return net, file


def _model(weights: Given) -> tuple[caffe_pb2.NetParameter | None, PathLike]:
    """The layers that have weights, and where they came from, for messages."""
    if weights is None or (isinstance(weights, str) and not weights):
        return None, IN_MEMORY
    content = _content(weights)
    file = IN_MEMORY if content is not None else _path(weights)
    model = read_model(file) if content is None else parse_model(content, file)
    with_blobs = [layer for layer in model.layer if layer.blobs]
    del model.layer[:]
    model.layer.extend(with_blobs)
    return model, file


def _content(given: Given) -> bytes | None:
    """The bytes of a buffer; None if it is a path."""
    if isinstance(given, bytes) and b"\n" not in given[:4096] and os.path.isfile(given):
        return None
    if isinstance(given, np.ndarray):
        if given.dtype.itemsize != 1:
            raise OpenCVError(f"a buffer is an array of uint8, got dtype {given.dtype}.")
        return given.tobytes()
    if isinstance(given, (bytes, bytearray, memoryview)):
        return bytes(given)
    return None


def _path(given: Given) -> PathLike:
    if isinstance(given, bytes):
        return os.fsdecode(given)
    if isinstance(given, (str, os.PathLike)):
        return given
    raise OpenCVError(f"a file is given by its path or its bytes, got {type(given).__name__}.")


def _is_buffer(given: Given) -> bool:
    return isinstance(given, (bytes, bytearray, memoryview, np.ndarray))


def _extension(given: Given) -> str:
    if isinstance(given, bytes):
        given = os.fsdecode(given)
    return os.fspath(given).rpartition(".")[2] if isinstance(given, (str, os.PathLike)) else ""
