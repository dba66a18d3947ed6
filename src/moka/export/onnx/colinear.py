"""Convolution with a quadratic term."""

from __future__ import annotations

from functools import reduce
from math import prod

from moka.errors import NetError
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.conv import columns_of, window_attributes
from moka.export.onnx.table import exports
from moka.layers.colinear import ColinearConvolution

_BIAS, _LINEAR, _QUADRATIC = range(3)  # blobs


@exports(ColinearConvolution, fixed_from=1)
def export_colinear_convolution(site: Site, layer: ColinearConvolution, x: Value) -> str:
    if not layer.windows:
        raise NetError("a kernel without spatial axes has no form in ONNX yet.")
    terms = []
    if layer.quadratic_term and layer.factor:
        terms.append(_sum_of_squares(site, layer, x))
    elif layer.quadratic_term:
        terms.append(_quadratic_form(site, layer, x))
    if layer.linear_term:
        window = window_attributes(layer.windows)
        terms.append(site.add("Conv", x.name, site.weight(_LINEAR), group=layer.group, **window))
    if layer.bias_term:
        bias = layer.blobs[_BIAS].reshape(-1, *(1,) * len(layer.windows))
        terms.append(site.changed_weight(_BIAS, bias))
    return reduce(lambda a, b: site.add("Add", a, b), terms)


def _sum_of_squares(site: Site, layer: ColinearConvolution, x: Value) -> str:
    """The sum over n of (w[m, n]' p)^2 for each patch p."""
    sides = [w.kernel for w in layer.windows]
    kernels = layer.blobs[_QUADRATIC].reshape(-1, layer.channels, *sides)
    weight = site.changed_weight(_QUADRATIC, kernels)
    y = site.add("Conv", x.name, weight, **window_attributes(layer.windows))
    images, outputs, *out = site.tops[0]
    products = Value(site.add("Mul", y, y), (images, outputs * layer.factor, *out))
    each = site.reshape(products, (images, outputs, layer.factor, *out))
    return site.reduce("ReduceSum", each, [2], keep=False)


def _quadratic_form(site: Site, layer: ColinearConvolution, x: Value) -> str:
    """p' Q[m] p for each patch p."""
    images, outputs, *out = site.tops[0]
    forms = layer.blobs[_QUADRATIC]
    size, places = forms.shape[-1], prod(out)
    columns = Value(columns_of(site, layer.windows, x.name, x.dims[1]), (images, size, *out))
    patches = site.reshaped(columns, (images, 1, size, places))
    products = site.add("MatMul", site.changed_weight(_QUADRATIC, forms), patches.name)
    summed = site.reduce("ReduceSum", site.add("Mul", products, patches.name), [2], keep=False)
    return site.reshape(Value(summed, (images, outputs, places)), site.tops[0])
