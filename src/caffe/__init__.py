"""`import caffe`: pycaffe's public names, each a few lines over moka."""

from caffe import io, net_spec, proto
from caffe.classifier import Classifier
from caffe.detector import Detector
from caffe.net_spec import NetSpec, layers, params, to_proto
from caffe.pycaffe import Net
from caffe.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    get_solver,
)
from moka.blob import Blob
from moka.context import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from moka.layers import REGISTRY
from moka.layers.python import ArrayLayer as Layer
from moka.report.glog import init_log, log
from moka.schema.caffe_pb2 import TEST, TRAIN

__version__ = "1.0.0"

__all__ = [
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "Classifier",
    "Detector",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "get_solver",
    "init_log",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "net_spec",
    "params",
    "proto",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_random_seed",
    "to_proto",
]


def layer_type_list() -> list[str]:
    """All layer types, in alphabetical order."""
    return sorted(REGISTRY)
