"""Parameters that several layers share under a name: `param { name: "..." }`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from moka.errors import NetError
from moka.graph.wiring import Node
from moka.schema import caffe_pb2
from moka.types import Shape

BlobIndex = tuple[int, int]  # (node index, blob index in that layer)


@dataclass(frozen=True)
class LearnableBlob:
    """One parameter, with all layers that use it.

    Attributes:
        owner: the first layer that uses it, which stores it.
        users: all layers that use it, the owner first.
        name: the name that they share it under, "" if it is not shared.
        lr_mult, decay_mult: factors of the learning rate and of weight decay.
    """

    owner: BlobIndex
    users: tuple[BlobIndex, ...]
    name: str
    lr_mult: float = 1.0
    decay_mult: float = 1.0


class Sharing:
    """Collects the parameters of a net, layer by layer, and finds those that are shared."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._shapes: list[Sequence[Shape]] = []
        self._blobs: dict[BlobIndex, LearnableBlob] = {}
        self._owners: dict[str, BlobIndex] = {}
        self._given: set[tuple[BlobIndex, str]] = set()

    @property
    def blobs(self) -> tuple[LearnableBlob, ...]:
        """Every parameter so far once, in Caffe's order (by its owner's position)."""
        return tuple(self._blobs.values())

    def add(self, node: Node, shapes: Sequence[Shape]) -> list[LearnableBlob]:
        """Add the next layer; returns those of its parameters that another place owns.

        Args:
            node: the layer.
            shapes: the shapes of its parameters.

        Raises:
            NetError: more `param` entries than parameters; sharers that differ in shape (in count
                with `share_mode: PERMISSIVE`), in lr_mult or in decay_mult.
        """
        specs = node.layer.param
        if len(specs) > len(shapes):
            raise NetError(
                f"Too many params specified: {len(specs)} entries for {len(shapes)} parameters.",
                layer=node.name,
                layer_type=node.type,
            )
        i = len(self._nodes)
        self._nodes.append(node)
        self._shapes.append(shapes)
        added = [
            self._add_parameter((i, k), specs[k] if k < len(specs) else caffe_pb2.ParamSpec())
            for k in range(len(shapes))
        ]
        return [blob for k, blob in enumerate(added) if blob.owner != (i, k)]

    def _add_parameter(self, user: BlobIndex, spec: caffe_pb2.ParamSpec) -> LearnableBlob:
        owner = self._owners.setdefault(spec.name, user) if spec.name else user
        blob = self._blobs.get(owner, LearnableBlob(owner, (), spec.name))
        _check_shapes(self._nodes, self._shapes, blob, user, spec)
        blob = replace(blob, users=(*blob.users, user))
        blob = _with_factors(blob, spec, self._nodes[user[0]], self._given)
        self._blobs[owner] = blob
        return blob


def _check_shapes(
    nodes: Sequence[Node],
    shapes: Sequence[Sequence[Shape]],
    blob: LearnableBlob,
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


def _with_factors(
    blob: LearnableBlob,
    spec: caffe_pb2.ParamSpec,
    node: Node,
    given: set[tuple[BlobIndex, str]],
) -> LearnableBlob:
    """The blob with the factors that this layer gives; `given` collects those that are settled."""
    for factor in ("lr_mult", "decay_mult"):
        if not spec.HasField(factor):
            continue
        known, here = getattr(blob, factor), getattr(spec, factor)
        if (blob.owner, factor) in given and known != here:
            raise NetError(
                f"Shared param '{blob.name}' has mismatched {factor}: {known:g} before,"
                f" {here:g} here.",
                layer=node.name,
                layer_type=node.type,
            )
        given.add((blob.owner, factor))
        blob = replace(blob, **{factor: here})
    return blob
