"""`debug_info: true`: the mean absolute value of what each layer makes, uses and hands back.

The sentences are BVLC Caffe's. Its forward lines call a shared parameter by its name, its backward
lines by its number; no version of 1.0 logs its `[Update]` lines.
"""

from __future__ import annotations

import logging
from math import sqrt

from torch import Tensor

from moka.net import Net, Place

log = logging.getLogger("moka")


def log_forward(net: Net, place: Place) -> None:
    """Log the tops and the parameters of a layer that has just run forward."""
    node = place.node
    for top in node.tops:
        value = mean_abs(net.blobs[top].data_memory.tensor())
        log.info("    [Forward] Layer %s, top blob %s data: %g", node.name, top, value)
    for k, weight in enumerate(place.layer.weights_unseen()):
        name = node.layer.param[k].name if k < len(node.layer.param) else ""
        value = mean_abs(weight)
        log.info("    [Forward] Layer %s, param blob %s data: %g", node.name, name or k, value)


def log_backward(net: Net, place: Place) -> None:
    """Log the gradients of bottoms and parameters of a layer that has just run backward."""
    node = place.node
    for bottom, wanted in zip(node.bottoms, place.marks.bottoms, strict=True):
        if wanted:
            value = mean_abs(net.blobs[bottom].diff_memory.tensor())
            log.info("    [Backward] Layer %s, bottom blob %s diff: %g", node.name, bottom, value)
    for k, weight in enumerate(place.layer.weights_unseen()):
        if _asks_for_gradient(net, place.index, k):
            value = 0.0 if weight.grad is None else mean_abs(weight.grad)
            log.info("    [Backward] Layer %s, param blob %d diff: %g", node.name, k, value)


def log_all_parameters(net: Net) -> None:
    """Log the norms of all parameters and gradients after a whole backward pass.

    At the level ERROR, as BVLC Caffe does, so that a log that shows errors alone has them.
    """
    parameters = [net.parameter_of(blob) for blob in net.learnable]
    l1_data, l2_data = _norms([p.detach() for p in parameters])
    l1_diff, l2_diff = _norms([p.grad for p in parameters if p.grad is not None])
    log.error(
        "    [Backward] All net params (data, diff): L1 norm = (%g, %g); L2 norm = (%g, %g)",
        *(l1_data, l1_diff, l2_data, l2_diff),
    )


def mean_abs(values: Tensor) -> float:
    """The mean absolute value; nan if there is none."""
    return float(values.detach().abs().mean())


def _norms(tensors: list[Tensor]) -> tuple[float, float]:
    """L1 and L2 norm of all together."""
    return (
        sum(float(t.abs().sum()) for t in tensors),
        sqrt(sum(float(t.square().sum()) for t in tensors)),
    )


def _asks_for_gradient(net: Net, index: int, k: int) -> bool:
    """Whether the layer's message asks for it: BVLC Caffe logs the gradients of statistics too,
    which are 0."""
    specs = net.graph.param.layer[index].param
    return net.graph.param.force_backward or k >= len(specs) or specs[k].lr_mult != 0
