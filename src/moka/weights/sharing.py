"""Share parameters between two nets, as BVLC Caffe does between train and test nets."""

from __future__ import annotations

import logging

from torch import nn

from moka.errors import WeightsError
from moka.layers.base import Layer
from moka.net import Net
from moka.schema import caffe_pb2

detail = logging.getLogger("moka.detail")


def share_weights(
    net: Net, owner: Net, *, say_what_is_missing: bool = True, own_gradients: bool = False
) -> None:
    """Make the net use the parameters of `owner`, in all layers that have the same name.

    Args:
        say_what_is_missing: log the owner's layers that the net lacks.
        own_gradients: share the values only, so that each net has gradients of its own.

    Raises:
        WeightsError: a layer whose parameters differ in number or shape; nothing is shared then.
    """
    by_name = {node.name: i for i, node in enumerate(net.graph.nodes)}
    pairs: list[tuple[int, Layer]] = []
    for j, node in enumerate(owner.graph.nodes):
        if node.name not in by_name:
            if say_what_is_missing:
                detail.info("Ignoring source layer %s", node.name)
            continue
        mine, theirs = net.layers[by_name[node.name]], owner.layers[j]
        if mine.blob_shapes != theirs.blob_shapes:
            raise WeightsError(
                f"Cannot share weights of layer '{node.name}': its parameters have shapes"
                f" {mine.blob_shapes} in phase {_phase(net)}, {theirs.blob_shapes} in phase"
                f" {_phase(owner)}.",
                file=net.graph.file,
            )
        if any(
            a is not b for a, b in zip(mine.weights_unseen(), theirs.weights_unseen(), strict=True)
        ):
            pairs.append((by_name[node.name], theirs))
    net.shares_parameters |= bool(pairs)
    owner.shares_parameters |= bool(pairs)
    for i, theirs in pairs:
        for k, weight in enumerate(theirs.weights_unseen()):
            if own_gradients:
                weight = _with_values_of(weight, net.layers[i].weights_unseen()[k])
            net.layers[i].share_weight(k, weight)
        net.show_new_parameters(i)


def _with_values_of(owner: nn.Parameter, mine: nn.Parameter) -> nn.Parameter:
    """My parameter, in the owner's memory from now on. It stays the same object, so its gradient
    stays, and a backward pass that belongs to an earlier forward pass still finds it."""
    mine.data = owner.data
    if mine.grad is not None and mine.grad.shape != mine.shape:
        mine.grad = mine.grad.reshape(mine.shape)
    return mine


def _phase(net: Net) -> str:
    return caffe_pb2.Phase.Name(net.graph.phase)
