"""Large matrices that ONNX Runtime multiplies by where they lie.

ONNX Runtime packs each InnerProduct's weights into a second copy. One row x is multiplied as fast
by weights W that are not packed; several rows are 1.2 to 1.7 times faster as W x^T than as x W^T
with packed weights (fc6 of CaffeNet; 2 to 4 rows up to 1.2 times slower). So large weights stay in
the net's own memory, which saves CaffeNet 235 MB, and 0.2 s whenever its program is made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from moka.export.onnx.library import load_onnx
from moka.types import Array

LARGE = 2**20  # numbers; below it a copy costs little
EXISTING = "."  # ONNX Runtime checks that the place of a constant exists, which it then never reads
PACK = ("ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN")  # operators that pack constants


class Unpacked(NamedTuple):
    """A model that uses some constants where they lie.

    Attributes:
        head: the model's bytes.
        names: these constants.
        forbids_packing: whether they stay unpacked only if nothing is packed.
    """

    head: bytes
    names: frozenset[str]
    forbids_packing: bool


def unpacked(head: bytes, large: Mapping[str, Array]) -> Unpacked:
    """The model with products by large weights in forms that need no packed copy.

    Args:
        head: a model of fixed shapes, whose large constants are only named.
        large: these constants.
    """
    if all(values.size < LARGE for values in large.values()):
        return Unpacked(head, frozenset(), False)
    onnx = load_onnx()
    model = onnx.ModelProto.FromString(head)
    rows = dict(_rows(onnx.shape_inference.infer_shapes(model), large))
    single = {name for name, count in rows.items() if count == 1}
    forbids = bool(single)
    if any(_packs(node, large) and node.input[1] not in rows for node in model.graph.node):
        rows = {name: count for name, count in rows.items() if count > 1}
        forbids = False
    for name, count in rows.items():
        if count > 1:
            _multiply_from_the_left(model.graph, name)
    for tensor in model.graph.initializer:
        if tensor.name in rows:
            tensor.external_data[0].value = EXISTING
    return Unpacked(model.SerializeToString(), frozenset(rows), forbids)


def _rows(model: Any, large: Mapping[str, Array]) -> Iterator[tuple[str, int]]:
    """The large weights that only one product reads, as its rows, and how many rows that has."""
    readers = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    sizes = {
        v.name: v.type.tensor_type.shape.dim for v in (*model.graph.value_info, *model.graph.output)
    }
    for name, nodes in readers.items():
        if name not in large or large[name].size < LARGE or len(nodes) != 1:
            continue
        (node,) = nodes
        is_product = node.op_type == "Gemm" and node.input[1] == name and _is_plain(node)
        if is_product and (count := sizes[node.output[0]][0].dim_value):
            yield name, count


def _is_plain(node: Any) -> bool:
    """Whether a Gemm is x W^T, and a bias."""
    return [(a.name, a.i) for a in node.attribute] == [("transB", 1)]


def _packs(node: Any, large: Mapping[str, Array]) -> bool:
    return node.op_type in PACK and len(node.input) > 1 and node.input[1] in large


def _multiply_from_the_left(graph: Any, weight: str) -> None:
    """Let x W^T + bias be (W x^T)^T + bias."""
    make = load_onnx().helper.make_node
    at, node = next((k, n) for k, n in enumerate(graph.node) if weight in n.input)
    x, _, *bias = node.input
    (y,) = node.output
    names = [f"{node.name}/{part}" for part in ("x", "product", "rows")]
    product = names[2] if bias else y
    made = [
        make("Transpose", [x], [names[0]], f"{node.name}/Transpose", perm=[1, 0]),
        make("MatMul", [weight, names[0]], [names[1]], f"{node.name}/MatMul"),
        make("Transpose", [names[1]], [product], f"{node.name}/Transpose:1", perm=[1, 0]),
    ]
    if bias:
        made.append(make("Add", [product, *bias], [y], node.name))
    del graph.node[at]
    for k, new in enumerate(made):
        graph.node.insert(at + k, new)
