"""Normalization."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from moka.errors import NetError
from moka.importer.arithmetic import with_constant
from moka.importer.builder import MadeBlob, NodeSite
from moka.importer.table import imports


@imports("BatchNormalization")
def import_batch_norm(site: NodeSite) -> None:
    """BatchNorm with the statistics, then Scale with factor and bias."""
    if site.attribute("training_mode", 0) or any(site.is_used(k) for k in range(1, 5)):
        raise NetError("it normalizes with the statistics of the batch.",
                       advice="Export the model for inference.")  # fmt: skip
    factor, bias, mean, variance = (site.weights(k) for k in range(1, 5))
    options: dict[str, Any] = {
        "moving_average_fraction": site.attribute("momentum", 0.9),
        "eps": site.attribute("epsilon", 1e-5),
    }
    y = site.add("BatchNorm", site.blob(0), blobs=[mean, variance, np.ones(1, np.float32)],
                 part="norm", batch_norm_param=options)  # fmt: skip
    site.give(site.add("Scale", y, blobs=[factor, bias], scale_param={"bias_term": True}))


def standardized(site: NodeSite, x: MadeBlob, axis: int, eps: float) -> MadeBlob:
    """x with mean 0 and variance 1 over all axes from `axis` on. Caffe's MVN adds eps to the
    deviation, not to the variance, so it is built of sums."""
    count = prod(x.shape[axis:])
    mean = site.add("Reduction", x, part="mean",
                    reduction_param={"operation": 4, "axis": axis, "coeff": -1.0})  # fmt: skip
    centered = site.add("Bias", x, mean, part="centered", bias_param={"axis": 0})
    variance = site.add("Reduction", centered, part="variance",
                        reduction_param={"operation": 3, "axis": axis,
                                         "coeff": 1 / count})  # fmt: skip
    factor = site.power(variance, power=-0.5, shift=eps, part="factor")
    return site.add("Scale", centered, factor, part="scaled", scale_param={"axis": 0})


@imports("InstanceNormalization")
def import_instance_norm(site: NodeSite) -> None:
    y = standardized(site, site.blob(0), 2, site.attribute("epsilon", 1e-5))
    site.give(site.add("Scale", y, blobs=[site.weights(1), site.weights(2)],
                       scale_param={"bias_term": True}))  # fmt: skip


@imports("LayerNormalization")
def import_layer_norm(site: NodeSite) -> None:
    x = site.blob(0)
    axis = site.attribute("axis", -1) % len(x.shape)
    if any(site.is_used(k) for k in (1, 2)):
        raise NetError("its mean or deviation is read, which has no form in Caffe.")
    y = standardized(site, x, axis, site.attribute("epsilon", 1e-5))
    y = with_constant(site, "PROD", y, site.weights(1), learned=site.is_learned(1), part="factor")
    if site.has_input(2):
        y = with_constant(site, "SUM", y, site.weights(2), learned=site.is_learned(2), part="bias")
    site.give(y)


@imports("GroupNormalization")
def import_group_norm(site: NodeSite) -> None:
    x, groups = site.blob(0), site.attribute("num_groups")
    grouped = site.reshape(x, (x.shape[0], groups, prod(x.shape[1:]) // groups), part="groups")
    y = standardized(site, grouped, 2, site.attribute("epsilon", 1e-5))
    y = site.reshape(y, x.shape)
    factor, bias = (
        np.repeat(values, x.shape[1] // len(values)) for values in map(site.weights, (1, 2))
    )
    site.give(site.add("Scale", y, blobs=[factor, bias], scale_param={"bias_term": True}))


@imports("LRN")
def import_lrn(site: NodeSite) -> None:
    size = site.attribute("size")
    options = {
        "local_size": size,
        "alpha": site.attribute("alpha", 1e-4),
        "beta": site.attribute("beta", 0.75),
        "k": site.attribute("bias", 1.0),
    }
    site.give(site.add("LRN", site.blob(0), lrn_param=options))
