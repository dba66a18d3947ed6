"""Finds the phases and stages that a net is written for: those in which it has data or inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from moka.graph.filter import filter_net
from moka.schema import caffe_pb2

PHASES = (caffe_pb2.TEST, caffe_pb2.TRAIN)


class PhaseAndStages(NamedTuple):
    """The phase and the stages that the include and exclude rules of layers are compared with."""

    phase: caffe_pb2.Phase
    stages: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join([caffe_pb2.Phase.Name(self.phase), *self.stages])


def states_of(net: caffe_pb2.NetParameter) -> list[PhaseAndStages]:
    """The states with layers that make data or take it from the caller, TEST first.

    Of two states with the same layers the first counts. Stages are tried one by one, and only if
    the net has nothing to start from without them. A net that starts nowhere has the state TEST.

    Args:
        net: in today's form.

    Raises:
        NetError: a layer with both include and exclude rules.
    """
    stages = dict.fromkeys(stage for layer in net.layer for stage in _stages(layer))
    plain = [PhaseAndStages(phase) for phase in PHASES]
    staged = [PhaseAndStages(phase, (stage,)) for stage in stages for phase in PHASES]
    return _distinct(net, plain) or _distinct(net, staged) or plain[:1]


def _stages(layer: caffe_pb2.LayerParameter) -> Iterable[str]:
    return (stage for rule in (*layer.include, *layer.exclude) for stage in rule.stage)


def _distinct(
    net: caffe_pb2.NetParameter, states: Sequence[PhaseAndStages]
) -> list[PhaseAndStages]:
    found: dict[tuple[bytes, ...], PhaseAndStages] = {}
    for state in states:
        wanted = caffe_pb2.NetState(phase=state.phase)
        wanted.CopyFrom(net.state)
        wanted.phase = state.phase
        wanted.stage.extend(state.stages)
        layers = filter_net(net, wanted).layer
        if any(layer.top and not layer.bottom for layer in layers):
            key = tuple(layer.SerializeToString() for layer in layers)
            found.setdefault(key, state)
    return list(found.values())
