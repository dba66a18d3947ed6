"""From a prototxt to a Net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from moka.data.place import Share
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.net.net import ALL_DATA, NONE_GIVEN, Net
from moka.net.other_meanings import tell_other_meanings
from moka.schema import caffe_pb2, read_text
from moka.schema.upgrade import upgrade_net
from moka.types import PathLike, Shape

NetLike = PathLike | caffe_pb2.NetParameter


def read_net(net: NetLike) -> tuple[caffe_pb2.NetParameter, PathLike]:
    """A net in today's form, and the file to name in messages."""
    if isinstance(net, caffe_pb2.NetParameter):
        return upgrade_net(net), "(given message)"
    return upgrade_net(read_text(net, caffe_pb2.NetParameter), net), net


def build_net(
    net: NetLike,
    phase: caffe_pb2.Phase = caffe_pb2.TEST,
    *,
    level: int | None = None,
    stages: Sequence[str] = (),
    device: torch.device | None = None,
    share: Share = ALL_DATA,
    given_shapes: Mapping[str, Shape] = NONE_GIVEN,
) -> Net:
    """Read a net and make it ready to run.

    Args:
        net: a prototxt file, or a message.
        phase: caffe_pb2.TRAIN or caffe_pb2.TEST.
        level, stages: the rest of the state that the rules of its layers are compared with; None:
            the level that the net's file gives.
        device, share, given_shapes: see `Net`.

    Raises:
        SchemaError, NetError, DataError: see the message.
    """
    param, file = read_net(net)
    graph = build_graph(param, REGISTRY, phase=phase, level=level, stages=stages, file=file)
    tell_other_meanings(graph)
    return Net(graph, device, share=share, given_shapes=given_shapes)
