"""Which engine runs a net: the one place that knows them all."""

from __future__ import annotations

from moka.engine.autograd import Autograd
from moka.engine.contract import Engine
from moka.engine.precision import HALF
from moka.net import Net
from moka.schema.caffe_pb2 import SolverParameter


def training_engine(
    net: Net,
    *,
    keep_blobs: bool = False,
    precision: SolverParameter.Precision = SolverParameter.FLOAT,
) -> Autograd:
    """The engine of a net that a solver trains; each of its passes can be run again.

    Args:
        keep_blobs: leave data and diff of every blob in view.
        precision: of the passes.
    """
    return Autograd(
        net,
        keep_blobs=keep_blobs,
        half=HALF.get(precision),
        tensor_float_32=precision == SolverParameter.TF32,
        replayable=True,
    )


def evaluation_engine(net: Net, *, keep_blobs: bool = False) -> Engine:
    """The engine of a net whose outputs are averaged over batches.

    Args:
        keep_blobs: leave the data of every blob in view.
    """
    return Autograd(net, keep_blobs=keep_blobs)
