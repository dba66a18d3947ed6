"""`import caffe`: pycaffe's public names, each a few lines over moka."""

from pkgutil import extend_path
from typing import Any

from caffe import io, net_spec, proto, pycaffe
from caffe._caffe import (
    NCCL,
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    Blob,
    Layer,
    NesterovSolver,
    Net,
    RMSPropSolver,
    SGDSolver,
    Timer,
    __version__,
    enumerate_devices,
    get_solver,
    get_solver_from_string,
    has_nccl,
    init_log,
    layer_type_list,
    log,
    select_device,
    set_device,
    set_devices,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from caffe.classifier import Classifier
from caffe.detector import Detector
from caffe.net import INSTEAD_OF_2014
from caffe.net_spec import NetSpec, layers, params, to_proto
from caffe.segmenter import Segmenter
from moka.errors import did_you_mean
from moka.schema.caffe_pb2 import TEST, TRAIN

__all__ = [
    "NCCL",
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
    "Segmenter",
    "Timer",
    "__version__",
    "enumerate_devices",
    "get_solver",
    "get_solver_from_string",
    "has_nccl",
    "init_log",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "net_spec",
    "params",
    "proto",
    "pycaffe",
    "select_device",
    "set_device",
    "set_devices",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]


# Modules that another Caffe has, such as layers in Python, are found in its folder.
__path__ = extend_path(__path__, __name__)
_MODULES = ("coord_map", "draw", "model_libs")  # which `import caffe` does not import
_INSTEAD = {
    **INSTEAD_OF_2014,
    **{name: f"Import it first: import caffe.{name}" for name in _MODULES},
    "set_logging_disabled": "Set the variable GLOG_minloglevel=2 before caffe is imported",
}


def __getattr__(name: str) -> Any:
    """Raise AttributeError, with what to write instead of names of 2014 and of forks."""
    advice = f"{_INSTEAD[name]}." if name in _INSTEAD else did_you_mean(name, __all__)
    raise AttributeError(f"module 'caffe' has no attribute '{name}'. {advice or ''}".rstrip())
