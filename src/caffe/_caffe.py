"""The names of pycaffe's native module, for programs that import them from here."""

from caffe.contents import layer_type_list
from caffe.devices import enumerate_devices, select_device, set_devices
from caffe.nccl import NCCL, has_nccl
from caffe.net import Net
from caffe.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
    get_solver_from_string,
)
from caffe.timer import Timer
from caffe.vectors import (
    BlobVec,
    BoolVec,
    DtypeVec,
    IntVec,
    LayerVec,
    NetVec,
    RawBlobVec,
    StringVec,
)
from moka.blob import Blob
from moka.context import (
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_random_seed,
)
from moka.layers.python import ArrayLayer as Layer
from moka.parallel.declared import (
    set_multiprocess,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from moka.report.glog import init_log, log
from moka.schema.caffe_pb2 import LayerParameter, SolverParameter

__version__ = "1.0.0"

__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "BlobVec",
    "BoolVec",
    "DtypeVec",
    "IntVec",
    "Layer",
    "LayerParameter",
    "LayerVec",
    "NesterovSolver",
    "Net",
    "NetVec",
    "RMSPropSolver",
    "RawBlobVec",
    "SGDSolver",
    "Solver",
    "SolverParameter",
    "StringVec",
    "Timer",
    "__version__",
    "enumerate_devices",
    "get_solver",
    "get_solver_from_string",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
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
]
