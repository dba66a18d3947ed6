"""Contenders of inference: each function makes one ready. It imports only what that one needs, so
that memory and the time to the first result are the contender's own."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from side_by_side import Run


class Files(NamedTuple):
    """One net, in everybody's form, its weights by chance."""

    net: str  # the prototxt
    weights: str  # the caffemodel
    onnx: str  # that Moka exports
    module: str  # a PyTorch module's source, that Moka exports


def images(shape: Sequence[int]) -> Any:
    import numpy as np

    return np.random.default_rng(0).random(shape, np.float32)


def repeated(once: Callable[[], object]) -> Run:
    def run(iterations: int) -> None:
        for _ in range(iterations):
            once()

    return run


def pycaffe(files: Files, shape: Sequence[int], threads: int) -> Run:
    """`caffe.Net.forward`; the input is copied in each pass."""
    import torch

    import caffe

    torch.set_num_threads(threads)
    net = caffe.Net(files.net, caffe.TEST, weights=files.weights)
    name = net.inputs[0]
    net.blobs[name].reshape(*shape)
    x = images(shape)

    def once() -> object:
        net.blobs[name].data[...] = x
        return net.forward()

    return repeated(once)


def module(files: Files, shape: Sequence[int], threads: int) -> Run:
    """`moka.load(...)(x)`."""
    import torch

    import moka

    torch.set_num_threads(threads)
    net = moka.load(files.net, files.weights)
    x = torch.from_numpy(images(shape))

    def once() -> object:
        with torch.no_grad():
            return net(x)

    return repeated(once)


def pytorch(
    files: Files,
    shape: Sequence[int],
    threads: int,
    *,
    channels_last: bool = False,
    compiled: bool = False,
) -> Run:
    """The exported module as it is, with images and kernels channels-last, or compiled."""
    import torch

    torch.set_num_threads(threads)
    net: Any = runpy.run_path(files.module)["load"]()
    x = torch.from_numpy(images(shape))
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    called: Any = torch.compile(net) if compiled else net

    def once() -> object:
        with torch.inference_mode():
            return called(x)

    return repeated(once)


def onnx_runtime(files: Files, shape: Sequence[int], threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(files.onnx, options, ["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: images(shape)}
    return repeated(lambda: session.run(None, feed))


def openvino(files: Files, shape: Sequence[int], threads: int) -> Run:
    core = import_module("openvino").Core()
    model = core.read_model(files.onnx)
    model.reshape(list(shape))
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # as all others
    }
    request = core.compile_model(model, "CPU", options).create_infer_request()
    x = images(shape)
    return repeated(lambda: request.infer([x], share_inputs=True))


def opencv(files: Files, shape: Sequence[int], threads: int) -> Run:
    """OpenCV 4's own reader of Caffe's files."""
    cv2: Any = import_module("cv2")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        raise RuntimeError(f"OpenCV {cv2.__version__} does not read Caffe's files")
    cv2.setNumThreads(threads)
    net = cv2.dnn.readNetFromCaffe(files.net, files.weights)
    x = images(shape)

    def once() -> object:
        net.setInput(x)
        return net.forward()

    return repeated(once)
