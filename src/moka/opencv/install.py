"""Give `cv2.dnn` its Caffe back, for programs that nobody can edit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2

from moka.opencv.custom import dnn_registerLayer, dnn_unregisterLayer
from moka.opencv.models import (
    ClassificationModel,
    DetectionModel,
    KeypointsModel,
    Model,
    SegmentationModel,
)
from moka.opencv.net import Net
from moka.opencv.read import caffe_files, readNetFromCaffe
from moka.opencv.shrink import shrinkCaffeModel

DNN_BACKEND_HALIDE = 1
_ABSENT = object()
_replaced: dict[tuple[Any, str], Any] = {}


def install() -> None:
    """Put readNetFromCaffe into `cv2.dnn`, and let readNet and the models take Caffe's files.

    Files of other formats go on to OpenCV's own functions. A second call changes nothing.
    """
    if _replaced:
        return
    dnn = cv2.dnn
    _put(dnn, "readNetFromCaffe", readNetFromCaffe)
    _put(dnn, "shrinkCaffeModel", shrinkCaffeModel)
    if not hasattr(dnn, "DNN_BACKEND_HALIDE"):  # OpenCV 5 has forgotten it
        _put(dnn, "DNN_BACKEND_HALIDE", DNN_BACKEND_HALIDE)
    _put(dnn, "readNet", _for_caffe_files(readNetFromCaffe, dnn.readNet))
    _put(cv2, "dnn_registerLayer", _both(dnn_registerLayer, cv2.dnn_registerLayer))
    _put(cv2, "dnn_unregisterLayer", _both(dnn_unregisterLayer, cv2.dnn_unregisterLayer))
    models = (Model, ClassificationModel, DetectionModel, KeypointsModel, SegmentationModel)
    for ours in models:
        name = ours.__name__
        chosen = _for_caffe_models(ours, getattr(dnn, name))
        _put(dnn, name, chosen)
        _put(cv2, f"dnn_{name}", chosen)


def uninstall() -> None:
    """Undo `install`."""
    for (module, name), old in _replaced.items():
        if old is _ABSENT:
            delattr(module, name)
        else:
            setattr(module, name, old)
    _replaced.clear()


def _put(module: Any, name: str, value: Any) -> None:
    _replaced[module, name] = getattr(module, name, _ABSENT)
    setattr(module, name, value)


def _for_caffe_files(ours: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    """OpenCV's readNet, which hands Caffe's files to our reader."""

    def readNet(*args: Any, **kwargs: Any) -> Any:
        files = _files(args, kwargs)
        return theirs(*args, **kwargs) if files is None else ours(*files)

    readNet.__doc__ = theirs.__doc__
    return readNet


def _both(ours: Callable[..., None], theirs: Callable[..., None]) -> Callable[..., None]:
    """A function that tells both of a layer's class: nets of other formats stay OpenCV's."""

    def tell(*args: Any) -> None:
        ours(*args)
        theirs(*args)

    tell.__doc__ = theirs.__doc__
    return tell


def _for_caffe_models(ours: type[Model], theirs: Callable[..., Any]) -> Callable[..., Any]:
    """OpenCV's model, which hands Caffe's nets and files to ours."""

    def make(*args: Any, **kwargs: Any) -> Any:
        network = args[0] if args else kwargs.get("network", kwargs.get("model"))
        if isinstance(network, Net) or _files(args, kwargs) is not None:
            return ours(*args, **kwargs)
        return theirs(*args, **kwargs)

    make.__doc__ = theirs.__doc__
    make.__name__ = ours.__name__
    return make


def _files(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    """The prototxt and the weights that a call names, if it names Caffe's."""
    names = ("model", "config", "framework")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if "bufferModel" in kwargs:  # readNet(framework, bufferModel, bufferConfig)
        framework = args[0] if args else kwargs.get("framework")
        return caffe_files(framework, kwargs["bufferModel"], kwargs.get("bufferConfig"))
    return caffe_files(*(given.get(name, "") for name in names))
