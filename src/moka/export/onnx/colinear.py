"""Convolution with a quadratic term."""

from __future__ import annotations

from functools import reduce
from math import prod

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.conv import columns_of, window_attributes
from moka.export.onnx.table import exports
from moka.layers.colinear import ColinearConvolution


@exports(ColinearConvolution, fixed_from=1)
def export_colinear_convolution(site: Site, layer: ColinearConvolution, x: Value) -> str:
    names = dict(zip(layer.parameter_names, range(len(layer.blobs)), strict=True))
    window = window_attributes(layer.windows)
    terms = []
    if layer.quadratic_term and layer.factor:
        terms.append(_sum_of_squares(site, layer, x))
    elif layer.quadratic_term:
        terms.append(_quadratic_form(site, layer, x))
    if layer.linear_term:
        weight = site.weight(names["weight"])
        terms.append(site.add("Conv", x.name, weight, group=layer.group, **window))
    if layer.bias_term:
        bias = layer.blobs[names["bias"]].reshape(-1, *(1,) * len(layer.windows))
        terms.append(site.changed_weight(names["bias"], bias))
    return reduce(lambda a, b: site.add("Add", a, b), terms)


def _sum_of_squares(site: Site, layer: ColinearConvolution, x: Value) -> str:
    """The sum over n of (w[m, n]' p)^2 for each patch p."""
    sides = [w.kernel for w in layer.windows]
    kernels = layer.blobs[0].reshape(-1, layer.channels // layer.group, *sides)
    weight = site.changed_weight(0, kernels)
    y = site.add("Conv", x.name, weight, group=layer.group, **window_attributes(layer.windows))
    images, outputs, *out = site.tops[0]
    products = Value(site.add("Mul", y, y), (images, outputs * layer.factor, *out))
    each = site.reshape(products, (images, outputs, layer.factor, *out))
    return site.reduce("ReduceSum", each, [2], keep=False)


def _quadratic_form(site: Site, layer: ColinearConvolution, x: Value) -> str:
    """p' Q[m] p for each patch p."""
    images, outputs, *out = site.tops[0]
    group, size, places = layer.group, layer.blobs[0].shape[-1], prod(out)
    columns = Value(
        columns_of(site, layer.windows, x.name, x.dims[1]), (images, group * size, *out)
    )
    patches = site.reshaped(columns, (images, group, 1, size, places))
    forms = site.changed_weight(0, layer.blobs[0].reshape(group, outputs // group, size, size))
    products = site.add("MatMul", forms, patches.name)
    summed = site.reduce("ReduceSum", site.add("Mul", products, patches.name), [3], keep=False)
    return site.reshape(Value(summed, (images, group, outputs // group, places)), site.tops[0])
