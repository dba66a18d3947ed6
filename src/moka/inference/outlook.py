"""What is going to run a net, before anything has run."""

from __future__ import annotations

from typing import NamedTuple

from moka.inference.cut import fits
from moka.inference.engines import LAYERWISE, backends
from moka.inference.fast import has_form
from moka.inference.flow import flow_of
from moka.net import Net
from moka.schema import caffe_pb2

TRAINING = "autograd"


class Outlook(NamedTuple):
    """How passes of a net are going to run.

    Attributes:
        engine: its name.
        by_themselves: the types of layers that no piece of a program holds.
    """

    engine: str
    by_themselves: tuple[str, ...] = ()


def outlook(net: Net) -> Outlook:
    """The engine in force; of "auto" the backend that is measured first. Measuring may choose
    another one, for small nets the layers. A net for training runs by autograd."""
    if net.graph.phase == caffe_pb2.TRAIN:
        return Outlook(TRAINING)
    for backend in backends() if has_form(net) else ():
        fitting = fits(net, flow_of(net), backend)
        places = [p for p in net.places if p.node.bottoms and not p.layer.entry.is_plumbing]
        alone = [place for place in places if not fitting(place)]
        if len(alone) < len(places):
            return Outlook(backend.name, tuple(sorted({place.node.type for place in alone})))
    return Outlook(LAYERWISE)
