"""OpenCV's Caffe: what `cv2.dnn` of OpenCV 4 did with Caffe's models, on Moka.

    from moka.opencv import readNetFromCaffe

    net = readNetFromCaffe("deploy.prototxt", "net.caffemodel")
    net.setInput(cv2.dnn.blobFromImage(image, 1.0, (224, 224), (104, 117, 123)))
    probabilities = net.forward()

`install()` gives `cv2.dnn` these functions, for programs that nobody can edit.
"""

from cv2.dnn import NMSBoxes, blobFromImage, blobFromImages, imagesFromBlob

from moka.opencv.custom import dnn_registerLayer, dnn_unregisterLayer
from moka.opencv.errors import OpenCVError
from moka.opencv.install import install, uninstall
from moka.opencv.layer import Layer
from moka.opencv.models import (
    ClassificationModel,
    DetectionModel,
    KeypointsModel,
    Model,
    SegmentationModel,
)
from moka.opencv.net import Net
from moka.opencv.read import readNet, readNetFromCaffe
from moka.opencv.shrink import shrinkCaffeModel

__all__ = [
    "ClassificationModel",
    "DetectionModel",
    "KeypointsModel",
    "Layer",
    "Model",
    "NMSBoxes",
    "Net",
    "OpenCVError",
    "SegmentationModel",
    "blobFromImage",
    "blobFromImages",
    "dnn_registerLayer",
    "dnn_unregisterLayer",
    "imagesFromBlob",
    "install",
    "readNet",
    "readNetFromCaffe",
    "shrinkCaffeModel",
    "uninstall",
]
