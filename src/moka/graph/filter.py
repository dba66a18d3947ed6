"""Keep the layers of a NetParameter whose rules fit a state: phase, level and stages."""

from __future__ import annotations

import logging

from moka.errors import NetError
from moka.schema import caffe_pb2

log = logging.getLogger("moka.detail")


def filter_net(net: caffe_pb2.NetParameter, state: caffe_pb2.NetState) -> caffe_pb2.NetParameter:
    """The net with only the layers whose rules fit the state, and with this state.

    A layer without rules stays. One fitting `include` rule is enough to keep a layer; one fitting
    `exclude` rule is enough to drop it.

    Raises:
        NetError: a layer with both include and exclude rules.
    """
    filtered = caffe_pb2.NetParameter()
    filtered.CopyFrom(net)
    filtered.ClearField("layer")
    filtered.state.CopyFrom(state)
    for layer in net.layer:
        if layer.include and layer.exclude:
            raise NetError(
                "give either include or exclude rules, not both.",
                layer=layer.name,
                layer_type=layer.type,
            )
        if _included(layer, state):
            filtered.layer.add().CopyFrom(layer)
    return filtered


def _included(layer: caffe_pb2.LayerParameter, state: caffe_pb2.NetState) -> bool:
    if layer.include:
        return any(meets(state, rule, layer.name) for rule in layer.include)
    return not any(meets(state, rule, layer.name) for rule in layer.exclude)


def meets(state: caffe_pb2.NetState, rule: caffe_pb2.NetStateRule, layer_name: str) -> bool:
    """Whether the state meets all conditions of a rule; logs the first one that it misses."""
    difference = _difference(state, rule)
    if difference:
        log.info("The NetState %s in layer %s", difference, layer_name)
    return difference is None


def _difference(state: caffe_pb2.NetState, rule: caffe_pb2.NetStateRule) -> str | None:
    if rule.HasField("phase") and rule.phase != state.phase:
        return (
            f"phase ({state.phase:d}) differed from the phase ({rule.phase:d}) specified by a rule"
        )
    if rule.HasField("min_level") and state.level < rule.min_level:
        return (
            f"level ({state.level}) is above the min_level ({rule.min_level}) specified by a rule"
        )
    if rule.HasField("max_level") and state.level > rule.max_level:
        return (
            f"level ({state.level}) is above the max_level ({rule.max_level}) specified by a rule"
        )
    for stage in rule.stage:
        if stage not in state.stage:
            return f"did not contain stage '{stage}' specified by a rule"
    for stage in rule.not_stage:
        if stage in state.stage:
            return f"contained a not_stage '{stage}' specified by a rule"
    return None
