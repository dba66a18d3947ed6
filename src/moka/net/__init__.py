"""A net: a graph with its layers."""

from moka.net.build import NetLike, build_net, read_net
from moka.net.net import Net
from moka.net.place import Place
from moka.net.summary import parameter_count

__all__ = ["Net", "NetLike", "Place", "build_net", "parameter_count", "read_net"]
