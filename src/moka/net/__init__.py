"""A net: a graph with its layers."""

from moka.net.net import (
    Callback,
    Callbacks,
    Net,
    NetLike,
    build_net,
    parameter_count,
    read_net,
)

__all__ = ["Callback", "Callbacks", "Net", "NetLike", "build_net", "parameter_count", "read_net"]
