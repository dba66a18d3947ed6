"""Products with constant matrices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from moka.errors import NetError
from moka.importer.builder import MadeBlob, NodeSite
from moka.importer.pooling import AVE, pool_rows
from moka.importer.table import imports
from moka.types import Array

MOST_PRODUCTS = 2**23  # of two matrices, for one item of the batch


def times_matrix(
    site: NodeSite,
    x: MadeBlob,
    weight: Array,
    bias: Array | None = None,
    *,
    learned: bool = True,
    part: str = "inner_product",
) -> MadeBlob:
    """x (..., K) times weight (N, K), plus bias (N,)."""
    axis = len(x.shape) - 1
    options = {
        "num_output": weight.shape[0],
        **({} if bias is not None else {"bias_term": False}),
        **({"axis": axis} if axis != 1 else {}),
    }
    return site.add(
        "InnerProduct",
        x,
        blobs=[weight] if bias is None else [weight, bias],
        learned=learned,
        part=part,
        inner_product_param=options,
    )


@imports("Gemm")
def import_gemm(site: NodeSite) -> None:
    x, weight = site.blob(0), site.weights(1)
    if site.attribute("transA", 0):
        raise NetError("it transposes its first input, which has no form in Caffe.")
    weight = weight if site.attribute("transB", 0) else weight.T
    if (alpha := site.attribute("alpha", 1.0)) != 1:
        weight = weight * np.float32(alpha)
    bias = None
    if site.has_input(2):
        bias = site.weights(2) * np.float32(site.attribute("beta", 1.0))
        if bias.size not in (1, len(weight)) or bias.shape[-1:] not in ((), (1,), (len(weight),)):
            raise NetError(f"its summand has the shape {bias.shape}, and Caffe's InnerProduct has"
                           " one number for each output.")  # fmt: skip
        bias = np.broadcast_to(bias.reshape(-1), (len(weight),))
    site.give(times_matrix(site, x, weight, bias))


@imports("MatMul")
def import_matmul(site: NodeSite) -> None:
    """Of a blob and a constant matrix, or of two blobs if they are small."""
    if site.is_variable(0) and site.is_variable(1):
        site.give(_product_of_blobs(site, site.blob(0), site.blob(1)))
        return
    weight = site.weights(0 if site.is_variable(1) else 1)
    if weight.ndim != 2:
        raise NetError(f"it multiplies by an array of shape {weight.shape}, and Caffe's"
                       " InnerProduct has one matrix.")  # fmt: skip
    if site.is_variable(0):
        site.give(times_matrix(site, site.blob(0), weight.T))
    else:
        site.give(_from_the_left(site, weight, site.blob(1)))


def _from_the_left(site: NodeSite, weight: Array, x: MadeBlob) -> MadeBlob:
    """A matrix (M, K) times x (..., K, L): K as the channels of a Convolution."""
    *outer, inner, columns = x.shape
    if len(x.shape) < 3:
        raise NetError("it multiplies the batch by a matrix, which has no form in Caffe.")
    y = site.reshape(x, (*_one_axis(outer), inner, columns, 1), part="channels")
    y = site.add(
        "Convolution", y, blobs=[weight[:, :, None, None]], learned=site.is_learned(0),
        part="product",
        convolution_param={"num_output": len(weight), "kernel_size": 1, "bias_term": False},
    )  # fmt: skip
    return site.reshape(y, (*outer, len(weight), columns), part="axes")


def _product_of_blobs(site: NodeSite, a: MadeBlob, b: MadeBlob) -> MadeBlob:
    """(..., M, K) times (..., K, L): all products, and their sums over K."""
    *outer, m, inner = a.shape
    columns = b.shape[-1]
    if list(b.shape[:-2]) != outer or not outer:
        raise NetError(f"it multiplies blobs of the shapes {a.shape} and {b.shape}, and its form in"
                       " Caffe needs matrices for each item of the batch.")  # fmt: skip
    if (products := m * inner * columns) > MOST_PRODUCTS:
        raise NetError(f"its form in Caffe would hold {products:,} products of two blobs"
                       f" ({MOST_PRODUCTS:,} are the most).")  # fmt: skip
    count = _one_axis(outer)
    shape = (*count, m, inner, columns)
    left = site.tile(site.reshape(a, (*count, m, inner, 1), part="left"), shape)
    right = site.tile(site.reshape(b, (*count, 1, inner, columns), part="right"), shape)
    y = pool_rows(site, site.eltwise("PROD", left, right, part="products"), 2, 2, AVE)
    return site.reshape(site.power(y, scale=float(inner), part="sums"), (*outer, m, columns))


def _one_axis(outer: Sequence[int]) -> tuple[int]:
    return (prod(outer),)
