"""Products with constant matrices."""

from __future__ import annotations

import numpy as np

from moka.errors import NetError
from moka.importer.builder import MadeBlob, NodeSite
from moka.importer.table import imports
from moka.types import Array


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
    """The second factor is a constant matrix."""
    if site.is_variable(1):
        raise NetError("it multiplies by a matrix that depends on the input, and Caffe's layers"
                       " multiply by constant ones.")  # fmt: skip
    weight = site.weights(1)
    if weight.ndim != 2:
        raise NetError(f"it multiplies by an array of shape {weight.shape}, and Caffe's"
                       " InnerProduct has one matrix.")  # fmt: skip
    site.give(times_matrix(site, site.blob(0), weight.T))
