"""Warn of layers to which the forks that a net seems to come from give another meaning."""

from __future__ import annotations

import logging

from moka.graph import Graph
from moka.graph.aligned_crops import unaligned_crops
from moka.layers import REGISTRY

log = logging.getLogger("moka")


def tell_other_meanings(graph: Graph) -> None:
    """Log a warning for each kind of such layers."""
    _tell_unaligned_crops(graph)
    _tell_unbalanced_edges(graph)


def _tell_unaligned_crops(graph: Graph) -> None:
    found = unaligned_crops(graph.filtered, REGISTRY)
    if found:
        name, offset = found[0]
        log.warning(
            'The Crop layer "%s"%s begins at 0, as in BVLC\'s Caffe. In the forks of 2015 (HED,'
            " CRF-RNN) it finds its offset itself, here %s: for a net of theirs write type:"
            ' "AutoCrop".',
            name,
            _and_more(len(found)),
            " and ".join(map(str, dict.fromkeys(offset))),
        )


def _tell_unbalanced_edges(graph: Graph) -> None:
    """The losses of HED and RCF, which are known by their layer of edge maps alone."""
    if not any(REGISTRY[node.type].fork == "HED" for node in graph.nodes):
        return
    losses = [
        node
        for node in graph.nodes
        if hasattr(REGISTRY[node.type].make, "class_balance")
        and not node.layer.loss_param.HasField("class_balance")
    ]
    if losses:
        log.warning(
            'The %s layer "%s"%s counts all pixels alike, as in BVLC\'s Caffe.'
            " HED and RCF balance edges and all else: to train a net of theirs write loss_param {"
            " class_balance: 1 } (HED) or 1.1 (RCF).",
            losses[0].type,
            losses[0].name,
            _and_more(len(losses)),
        )


def _and_more(count: int) -> str:
    return f" and {count - 1} more" if count > 1 else ""
