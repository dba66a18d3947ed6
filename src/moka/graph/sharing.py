"""Parameters that several layers share by the name in `param { name: "..." }`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

from moka.errors import NetError
from moka.graph.wiring import Node
from moka.schema import caffe_pb2

Shape = tuple[int, ...]
BlobIndex = tuple[int, int]  # (node index, blob index in that layer)


@dataclass
class SharedBlob:
    """One parameter, with all the places that use it.

    Attributes:
        owner: where it lives; the first layer that names it.
        users: every place, the owner first.
        lr_mult, decay_mult: factors of the learning rate and of weight decay.
    """

    owner: BlobIndex
    users: list[BlobIndex] = field(default_factory=list)
    name: str = ""
    lr_mult: float | None = None
    decay_mult: float | None = None


@dataclass(frozen=True)
class LearnableBlob:
    """What the solver is to know of a parameter: where it lives and its two factors."""

    owner: BlobIndex
    users: tuple[BlobIndex, ...]
    name: str
    lr_mult: float
    decay_mult: float


def share(nodes: Sequence[Node], shapes: Sequence[Sequence[Shape]]) -> tuple[LearnableBlob, ...]:
    """Every parameter of the net once, in Caffe's order (by its owner's position).

    Args:
        nodes: the layers.
        shapes: for each layer the shapes of its parameters.

    Raises:
        NetError: more `param` entries than parameters; sharers that differ in shape (in count
            with `share_mode: PERMISSIVE`), in lr_mult or in decay_mult.
    """
    blobs: list[SharedBlob] = []
    by_name: dict[str, SharedBlob] = {}
    for i, node in enumerate(nodes):
        specs = node.layer.param
        if len(specs) > len(shapes[i]):
            raise NetError(
                f"Too many params specified: {len(specs)} entries for {len(shapes[i])} parameters.",
                layer=node.name,
                layer_type=node.type,
            )
        for k in range(len(shapes[i])):
            spec = specs[k] if k < len(specs) else caffe_pb2.ParamSpec()
            blob = by_name.get(spec.name) if spec.name else None
            if blob is None:
                blob = SharedBlob((i, k), name=spec.name)
                blobs.append(blob)
                if spec.name:
                    by_name[spec.name] = blob
            else:
                _check_shapes(nodes, shapes, blob, (i, k), spec)
            blob.users.append((i, k))
            _take_factors(blob, spec, node)
    return tuple(
        LearnableBlob(
            b.owner,
            tuple(b.users),
            b.name,
            1.0 if b.lr_mult is None else b.lr_mult,
            1.0 if b.decay_mult is None else b.decay_mult,
        )
        for b in blobs
    )


def _check_shapes(
    nodes: Sequence[Node],
    shapes: Sequence[Sequence[Shape]],
    blob: SharedBlob,
    user: BlobIndex,
    spec: caffe_pb2.ParamSpec,
) -> None:
    own = shapes[blob.owner[0]][blob.owner[1]]
    here = shapes[user[0]][user[1]]
    permissive = spec.share_mode == caffe_pb2.ParamSpec.PERMISSIVE
    if prod(own) == prod(here) if permissive else own == here:
        return
    what = "count" if permissive else "shape"
    owner, node = nodes[blob.owner[0]], nodes[user[0]]
    raise NetError(
        f"Cannot share param '{blob.name}' owned by layer '{owner.name}' with layer"
        f" '{node.name}'; {what} mismatch. Owner layer param is {own}; sharing layer expects"
        f" {here}.",
        layer=node.name,
        layer_type=node.type,
        advice=None if permissive else "share_mode: PERMISSIVE asks for equal counts only.",
    )


def _take_factors(blob: SharedBlob, spec: caffe_pb2.ParamSpec, node: Node) -> None:
    for factor in ("lr_mult", "decay_mult"):
        if not spec.HasField(factor):
            continue
        known, given = getattr(blob, factor), getattr(spec, factor)
        if known is not None and known != given:
            raise NetError(
                f"Shared param '{blob.name}' has mismatched {factor}: {known:g} before,"
                f" {given:g} here.",
                layer=node.name,
                layer_type=node.type,
            )
        setattr(blob, factor, given)
