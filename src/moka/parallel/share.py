"""Which part of the data a net reads if several solvers train one model."""

from __future__ import annotations

from moka.context import solver_count, solver_rank
from moka.data.place import Share
from moka.schema import caffe_pb2


def share_of_data(phase: caffe_pb2.Phase) -> Share:
    """This solver's part in training; all of the data in testing, which one solver does alone."""
    together = phase == caffe_pb2.TRAIN and solver_count() > 1
    return Share(solver_rank(), solver_count()) if together else Share()
