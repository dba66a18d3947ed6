"""Sums, products, extrema and reductions, of blobs among each other and with constants."""

from __future__ import annotations

import numpy as np

from moka.errors import NetError
from moka.importer.builder import MadeBlob, MadeLayer, NodeSite
from moka.importer.forks import as_axpy, as_normalize
from moka.importer.table import imports
from moka.types import Array, Shape

_TAKES_BIAS = ("InnerProduct", "Convolution", "Deconvolution")


# --- two blobs ------------------------------------------------------------------------------


def combine(site: NodeSite, operation: str, x: MadeBlob, y: MadeBlob, part: str = "") -> MadeBlob:
    """SUM, PROD or MAX of two blobs, the smaller one repeated along the larger.

    Where one is a block of axes of the other, as the gates of channels are, no copies are made.
    """
    shape = np.broadcast_shapes(x.shape, y.shape)
    part = part or operation.lower()
    if x.shape == y.shape:
        return site.eltwise(operation, x, y, part=part)
    large, small = (x, y) if x.shape == shape else (y, x)
    block = block_of(small.shape, shape)
    if operation in ("SUM", "PROD") and large.shape == shape and block is not None:
        first, inner = block
        small = site.reshape(small, inner, part=f"{part}_reshape")
        if operation == "PROD":
            return site.add("Scale", large, small, part=part, scale_param={"axis": first})
        return site.add("Bias", large, small, part=part, bias_param={"axis": first})
    return site.eltwise(operation, site.tile(x, shape), site.tile(y, shape), part=part)


def block_of(small: Shape, shape: Shape) -> tuple[int, Shape] | None:
    """The first axis and the sizes of the block of axes of `shape` that `small` has, with ones
    around it; None if it has no such block. The first axis is the batch where `small` has one."""
    aligned = (1,) * (len(shape) - len(small)) + small
    varied = [k for k, n in enumerate(aligned) if n != 1]
    first = 0 if len(small) == len(shape) and aligned[0] == shape[0] else min(varied, default=0)
    inner = aligned[first : max(varied, default=first) + 1]
    return (first, inner) if inner == shape[first : first + len(inner)] else None


# --- a blob and a constant ------------------------------------------------------------------


def with_constant(
    site: NodeSite, operation: str, x: MadeBlob, values: Array, *, learned: bool, part: str = ""
) -> MadeBlob:
    """x plus (SUM) or times (PROD) a constant: a Power layer for one number, else Bias or Scale."""
    values = np.asarray(values, np.float32)
    shape = np.broadcast_shapes(x.shape, values.shape)
    if shape != x.shape:
        x = site.tile(x, shape)
    if values.size == 1 or (not learned and np.all(values == values.flat[0])):
        number = float(values.flat[0])
        options = {"scale": number} if operation == "PROD" else {"shift": number}
        return site.power(x, part=part or "power", **options)
    aligned = values.reshape((1,) * (len(shape) - values.ndim) + values.shape)
    varied = [k for k, n in enumerate(aligned.shape) if n != 1]
    first, last = varied[0], varied[-1]
    inner = np.broadcast_to(
        aligned.reshape(aligned.shape[first : last + 1]), shape[first : last + 1]
    )
    option = {"axis": first, "num_axes": inner.ndim}
    if operation == "PROD":
        return site.add("Scale", x, blobs=[inner], learned=learned, part=part, scale_param=option)
    return site.add("Bias", x, blobs=[inner], learned=learned, part=part, bias_param=option)


def _as_bias(site: NodeSite, index: int, values: Array) -> MadeLayer | None:
    """Make a constant summand the bias of the layer before, if only this node reads that layer
    and the constant has a number for each of its outputs."""
    x = site.blob(index)
    layer = x.maker
    if layer is None or layer.message.type not in _TAKES_BIAS or len(layer.blobs) != 1:
        return None
    if site.builder.model.uses[site.node.inputs[index]] != 1 or len(layer.message.param):
        return None
    inner = layer.message.type == "InnerProduct"
    axis = len(x.shape) - 1 if inner else 1
    aligned = (1,) * (len(x.shape) - values.ndim) + values.shape
    wanted = tuple(n if k == axis else 1 for k, n in enumerate(x.shape))
    if aligned != wanted:
        return None
    message = layer.message.inner_product_param if inner else layer.message.convolution_param
    message.ClearField("bias_term")
    layer.blobs.append(np.asarray(values, np.float32).reshape(-1))
    del site.builder.values[site.node.inputs[index]]
    x.name = ""
    return layer


@imports("Add", "Sub", "Mul", "Div")
def import_arithmetic(site: NodeSite) -> None:
    """One of two inputs may be a constant."""
    op = site.node.op
    operation = "SUM" if op in ("Add", "Sub") else "PROD"
    if not site.is_variable(1):
        x, values = site.blob(0), site.weights(1)
        if op in ("Sub", "Div"):
            values = -values if op == "Sub" else 1 / values
        if operation == "SUM" and (layer := _as_bias(site, 0, values)):
            site.give(layer.tops[0])
            return
        site.give(with_constant(site, operation, x, values, learned=site.is_learned(1)))
        return
    if not site.is_variable(0):
        x, values = site.blob(1), site.weights(0)
        if operation == "SUM" and op == "Add" and (layer := _as_bias(site, 1, values)):
            site.give(layer.tops[0])
            return
        site.give(
            with_constant(site, operation, _opposite(site, x), values, learned=site.is_learned(0))
        )
        return
    if (short := _of_a_fork(site)) is not None:
        site.give(short)
        return
    x, y = site.blob(0), site.blob(1)
    if op == "Sub" and x.shape == y.shape:
        site.give(site.eltwise("SUM", x, y, coeff=[1.0, -1.0]))
    else:
        site.give(combine(site, operation, x, _opposite(site, y)))


def _of_a_fork(site: NodeSite) -> MadeBlob | None:
    """A layer of a fork that does what this node and some before it do."""
    forms = {"Add": as_axpy, "Div": as_normalize}
    return forms[site.node.op](site) if site.node.op in forms else None


def _opposite(site: NodeSite, x: MadeBlob) -> MadeBlob:
    """-x for Sub, 1 / x for Div, x otherwise."""
    if site.node.op == "Sub":
        return site.power(x, scale=-1, part="negative")
    return site.power(x, power=-1, part="inverse") if site.node.op == "Div" else x


@imports("Pow")
def import_pow(site: NodeSite) -> None:
    """The exponent is one number."""
    if not site.is_variable(0):
        base = site.weights(0)
        if base.size == 1 and float(base.flat[0]) > 0:
            site.give(site.add("Exp", site.blob(1), exp_param={"base": float(base.flat[0])}))
            return
        raise NetError("its base must be one positive number, or a blob.")
    exponent = site.weights(1)
    if exponent.size != 1:
        raise NetError("Caffe's Power has one exponent, here are several.")
    power = float(exponent.flat[0])
    x = site.blob(0)
    if power == 1:
        x = site.add("Split", x)
    site.give(site.power(x, power=power))


@imports("Sum", "Max", "Min", "Mean")
def import_several(site: NodeSite) -> None:
    """Import Sum, Mean, Max, Min of any number of blobs; Max, Min also of a blob and a number."""
    op, count = site.node.op, len(site.node.inputs)
    operation = "MAX" if op in ("Max", "Min") else "SUM"
    sign = -1.0 if op == "Min" else 1.0
    variable = [k for k in range(count) if site.is_variable(k)]
    blobs = [site.power(site.blob(k), scale=sign, part=f"negative{k}") for k in variable]
    y = blobs[0]
    if len(blobs) > 1 and len({blob.shape for blob in blobs}) == 1:
        y = site.eltwise(operation, *blobs, part="all")
    else:
        for k, blob in enumerate(blobs[1:]):
            y = combine(site, operation, y, blob, part=f"{operation.lower()}{k}")
    for k in sorted(set(range(count)) - set(variable)):
        values = site.weights(k)
        if operation == "SUM":
            y = with_constant(site, "SUM", y, values, learned=site.is_learned(k), part=f"add{k}")
        elif values.size == 1:
            y = _at_least(site, y, sign * float(values.flat[0]))
        else:
            raise NetError("Caffe compares blobs among each other, or with one number.")
    factor = 1 / count if op == "Mean" else sign
    y = site.power(y, scale=factor, part="scaled")
    site.give(y if y not in map(site.blob, variable) else site.add("Split", y))


def _at_least(site: NodeSite, x: MadeBlob, bound: float) -> MadeBlob:
    """max(x, bound)."""
    y = site.add("ReLU", site.power(x, shift=-bound, part="below"), part="relu")
    return site.power(y, shift=bound, part="above")
