"""Resizing of images. Every interpolation is a matrix for each axis; its form depends on that."""

from __future__ import annotations

from typing import Any

import numpy as np

from moka.errors import NetError
from moka.export.onnx.library import load_onnx, load_runtime
from moka.importer.builder import MadeBlob, NodeSite
from moka.importer.conv import Sides, WindowOptions, deconvolve
from moka.importer.matrices import products
from moka.importer.pooling import scaled_pixels
from moka.importer.table import imports
from moka.types import Array


@imports("Resize", "Upsample")
def import_resize(site: NodeSite) -> None:
    """Whole factors, nearest or bilinear, become a Deconvolution; any other resizing two products
    with constant matrices. With extra layers pixels are repeated by an Upsample, and what keeps
    the corners in place is an Interp."""
    x, shape = site.blob(0), site.result_shape()
    if len(shape) != 4 or shape[:2] != x.shape[:2]:
        raise NetError(f"Caffe resizes images (N, C, H, W), this makes {shape} of {x.shape}.")
    if site.attribute("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        raise NetError("resizing with a crop has no form in Caffe.")
    if shape == x.shape:
        site.give(x)
        return
    rows, columns = (_matrix(site, axis) for axis in (2, 3))
    site.give(
        _repeated(site, x, rows, columns)
        or _bilinear(site, x, rows, columns)
        or _interp(site, x, rows, columns)
        or products(site, x, rows, columns)
    )


def _matrix(site: NodeSite, axis: int) -> Array:
    """The matrix (out, in) that resizes an axis: the node's output for unit vectors."""
    onnx, runtime = load_onnx("Importing"), load_runtime("Importing an ONNX file")
    size, out = site.blob(0).shape[axis], site.result_shape()[axis]
    attributes = {k: v for k, v in site.node.attributes.items() if k not in ("axes", "scales")}
    attributes.pop("keep_aspect_ratio_policy", None)
    scale = _scale(site, axis)
    constants = [("scales", np.array([1, 1, scale, 1], np.float32))]
    if site.node.op == "Resize" and site.node.opset > 10:
        constants.insert(0, ("roi", np.zeros(0, np.float32)))
    names = [name for name, _ in constants]
    if scale is None:
        constants = [("sizes", np.array([1, 1, out, size], np.int64))]
        names = ["", "", "sizes"]
        if site.node.opset < 13:  # which must have all inputs
            names = ["none", "none", "sizes"]
            constants.append(("none", np.zeros(0, np.float32)))
    node = onnx.helper.make_node(site.node.op, ["x", *names], ["y"], **attributes)
    if site.node.op == "Upsample" and site.node.opset < 9:
        constants, node = (
            [],
            onnx.helper.make_node(
                site.node.op, ["x"], ["y"], scales=[1.0, 1.0, scale, 1.0], **attributes
            ),
        )
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "resize",
        [tensor("x", 1, (1, 1, size, size))],
        [tensor("y", 1, (1, 1, None, None))],
        [onnx.numpy_helper.from_array(values, name) for name, values in constants],
    )
    opset = onnx.helper.make_opsetid("", site.node.opset)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString(),
                                       providers=["CPUExecutionProvider"])  # fmt: skip
    unit = np.eye(size, dtype=np.float32)[None, None]
    found: Array = session.run(None, {"x": unit})[0][0, 0]
    return found


def _scale(site: NodeSite, axis: int) -> float | None:
    """The factor that the node gives for an axis; None if it gives sizes."""
    if site.node.op == "Upsample":
        return float(site.setting("scales", 1)[axis])
    scales = site.constant(1 if site.node.opset == 10 else 2)
    if scales is None or not scales.size:
        return None
    axes: Any = site.attribute("axes", list(range(len(scales))))
    known = {a % 4: float(s) for a, s in zip(axes, scales, strict=True)}
    return known.get(axis, 1.0)


def _factor(matrix: Array) -> int:
    """By which whole factor a matrix enlarges, or 0."""
    out, size = matrix.shape
    return 0 if out % size else out // size


def _repeated(site: NodeSite, x: MadeBlob, rows: Array, columns: Array) -> MadeBlob | None:
    """Each pixel as a block of pixels."""
    factors = [_factor(rows), _factor(columns)]
    for matrix, factor in zip((rows, columns), factors, strict=True):
        if not factor or not np.array_equal(matrix, np.eye(matrix.shape[1]).repeat(factor, 0)):
            return None
    if site.builder.extra_layers and factors[0] == factors[1]:
        return site.add("Upsample", x, part="upsample", upsample_param={"scale": factors[0]})
    kernel = np.ones((x.shape[1], 1, *factors), np.float32)
    return _enlarged(site, x, kernel, factors, (0, 0))


def _bilinear(site: NodeSite, x: MadeBlob, rows: Array, columns: Array) -> MadeBlob | None:
    """A Deconvolution with tents, and factors for the pixels at the borders: there PyTorch repeats
    the image's edge, where Caffe finds nothing."""
    kernels, factors, pads, shares = [], [], [], []
    for matrix in (rows, columns):
        factor = _factor(matrix)
        if not factor:
            return None
        kernel, pad = _tent(factor)
        reached = _spread(kernel, factor, pad, matrix.shape[1])
        share = reached.sum(1)
        if not np.allclose(reached / share[:, None], matrix, atol=1e-6):
            return None
        kernels.append(kernel)
        factors.append(factor)
        pads.append(pad)
        shares.append(share)
    both = np.outer(*kernels).astype(np.float32)
    weight = np.broadcast_to(both, (x.shape[1], 1, *both.shape))
    y = _enlarged(site, x, weight, factors, pads)
    return scaled_pixels(site, y, 1 / np.outer(*shares))


def _tent(factor: int) -> tuple[Array, int]:
    """The kernel of bilinear enlarging, and its padding."""
    size = 2 * factor - factor % 2
    center = (size - 1) / 2
    return 1 - np.abs(np.arange(size) - center) / factor, (size - factor) // 2


def _spread(kernel: Array, factor: int, pad: int, size: int) -> Array:
    """The matrix (out, in) of a Deconvolution along one axis."""
    full = np.zeros(((size - 1) * factor + len(kernel), size))
    for k in range(size):
        full[k * factor : k * factor + len(kernel), k] = kernel
    return full[pad : pad + size * factor]


def _enlarged(
    site: NodeSite,
    x: MadeBlob,
    weight: Array,
    factors: list[int],
    pads: tuple[int, ...] | list[int],
) -> MadeBlob:
    window = WindowOptions(tuple(weight.shape[2:]), tuple(factors), (1, 1))
    return deconvolve(site, x, weight, cropping=Sides(tuple(pads), tuple(pads)), window=window,
                      group=x.shape[1], learned=False)  # fmt: skip


def _interp(site: NodeSite, x: MadeBlob, rows: Array, columns: Array) -> MadeBlob | None:
    """DeepLab's layer, which keeps the corner pixels in place."""
    if not site.builder.extra_layers:
        return None
    if not all(np.allclose(m, _aligned(*m.shape), atol=1e-5) for m in (rows, columns)):
        return None
    size = {"height": len(rows), "width": len(columns)}
    return site.add("Interp", x, part="interp", interp_param=size)


def _aligned(out: int, size: int) -> Array:
    """The matrix of linear interpolation that keeps the ends in place."""
    at = np.arange(out) * ((size - 1) / (out - 1) if out > 1 else 0.0)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(size)), 0)
