"""Shapes in which the batch may have any size.

A dim is a size, or -k for k times the batch: (-1, 3, 227, 227) is a batch of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moka.errors import NetError
from moka.export.onnx.table import rows_axis
from moka.layers.source import Source
from moka.net import Net
from moka.types import Shape

Dims = tuple[int, ...]
BATCH = "N"  # the name of the free axis in an ONNX file


def fixed_dims(net: Net) -> list[list[Dims]]:
    """For each layer the dims of its tops, if the inputs keep their shapes."""
    return _probe(net, net.input_shapes, net.input_shapes)


def free_dims(net: Net) -> list[list[Dims]]:
    """The same with a free batch: the first axis of the first input, and of all inputs of the same
    length there.

    Raises:
        MokaError: the net cannot run with another batch size.
    """
    shapes = net.input_shapes
    first = next((shape[0] for shape in shapes.values() if shape), 0)
    if not first:
        raise NetError("no input has a batch.", file=net.graph.file)
    longer = {
        name: (first + 1, *shape[1:]) if shape[:1] == (first,) else shape
        for name, shape in shapes.items()
    }
    return _probe(net, shapes, longer)


def _probe(net: Net, shapes: Mapping[str, Shape], longer: Mapping[str, Shape]) -> list[list[Dims]]:
    """Compare the shapes of all tops for two shapes of the inputs.

    Raises:
        NetError: a layer cannot take its bottoms, or a size is no multiple of the batch.
    """
    pairs = zip(_top_shapes(net, shapes, 0), _top_shapes(net, longer, 1), strict=True)
    batch = (
        0
        if _rows_vary(net)
        else next(
            (a[0] for a, b in zip(shapes.values(), longer.values(), strict=True) if a != b), 0
        )
    )
    return [
        [_dims(a, b, batch) for a, b in zip(tops, others, strict=True)] for tops, others in pairs
    ]


def _top_shapes(net: Net, inputs: Mapping[str, Shape], more: int) -> list[list[Shape]]:
    """Shapes of the tops of each layer; `more` items where their number depends on values."""
    shapes = dict(inputs)
    found = []
    for place in net.places:
        names = place.node.tops
        if isinstance(place.layer, Source) and all(top in shapes for top in names):
            tops = [shapes[top] for top in names]
        else:
            tops = net.top_shapes(place, [shapes[name] for name in place.node.bottoms])
        if (axis := rows_axis(place.layer)) is not None:
            tops = [(*top[:axis], top[axis] + more, *top[axis + 1 :]) for top in tops]
        shapes.update(zip(names, tops, strict=True))
        found.append(tops)
    return found


def _rows_vary(net: Net) -> bool:
    """Whether sizes depend on values, so that they need not be multiples of the batch."""
    return any(rows_axis(layer) is not None for layer in net.layers)


def _dims(shape: Shape, other: Shape, batch: int) -> Dims:
    if len(shape) != len(other):
        raise NetError("the number of axes depends on the batch.")
    dims = []
    for n, m in zip(shape, other, strict=True):
        if batch and n != m and n != (m - n) * batch:
            raise NetError(f"size {n} is no multiple of the batch of {batch}.")
        dims.append(n if n == m else n - m)
    return tuple(dims)


def target_of_reshape(dims: Sequence[int], source: Sequence[int]) -> list[int]:
    """What ONNX's Reshape takes to make a blob of these dims: sizes, 0 to copy one, one -1.

    Args:
        source: the dims of what is reshaped.

    Raises:
        NetError: more than one size is free.
    """
    free = [k for k, d in enumerate(dims) if d < 0]
    copied = [k for k in free if k < len(source) and source[k] == dims[k]]
    target = [-1 if d < 0 else d for d in dims]
    if len(free) > 1:
        for k in copied:
            target[k] = 0
    if target.count(-1) > 1:
        raise NetError(
            f"cannot be reshaped to {free_text(dims)} with a free batch.",
            advice="Fix the batch size.",
        )
    return target


def require_fixed(*dims: int) -> None:
    """Raises NetError if one of these sizes is free."""
    if min(dims, default=0) < 0:
        raise NetError(
            "computes along the batch, which must have a fixed size.", advice="Fix the batch size."
        )


def free_text(dims: Sequence[int]) -> str:
    """(-1, 3) -> "(N, 3)"."""
    return f"({', '.join(name_of(d) for d in dims)})"


def name_of(dim: int) -> str:
    """A dim as text: "3", "N", "4*N"."""
    return str(dim) if dim >= 0 else BATCH if dim == -1 else f"{-dim}*{BATCH}"
