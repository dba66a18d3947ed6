"""The part of the data that a net reads if several processes train one model."""

from __future__ import annotations

from moka.data.place import Share
from moka.parallel.team import Team
from moka.schema import caffe_pb2


def share_of_data(phase: caffe_pb2.Phase, team: Team) -> Share:
    """This process's part in training; all of the data in testing, which one process does alone."""
    return Share(team.rank, team.size) if phase == caffe_pb2.TRAIN else Share()
