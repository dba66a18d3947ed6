"""`input`, `input_dim` and `input_shape` of a net become one Input layer in front."""

from __future__ import annotations

from moka.errors import SchemaError
from moka.schema import caffe_pb2
from moka.schema.upgrade.step import Step


def needed(net: caffe_pb2.NetParameter) -> bool:
    """Whether the net still uses any of the old fields."""
    return bool(net.input or net.input_dim or net.input_shape)


def upgrade(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """A copy with a layer "input" in front; inputs without dimensions are dropped, as in BVLC."""
    new = caffe_pb2.NetParameter()
    new.CopyFrom(net)
    for field in ("input", "input_dim", "input_shape", "layer"):
        new.ClearField(field)
    shapes = _shapes(net)
    if net.input and shapes:
        layer = new.layer.add(name="input", type="Input", top=net.input)
        layer.input_param.shape.extend(shapes)
    new.layer.extend(net.layer)
    return new


STEP = Step(
    attempt="Attempting to upgrade input file specified using deprecated input fields",
    success="Successfully upgraded file specified using deprecated input fields.",
    needed=needed,
    upgrade=upgrade,
)


def _shapes(net: caffe_pb2.NetParameter) -> list[caffe_pb2.BlobShape]:
    if net.input_shape and net.input_dim:
        raise SchemaError("give input_shape or input_dim, not both.")
    if net.input_shape:
        shapes = list(net.input_shape)
    else:
        dims = list(net.input_dim)
        if len(dims) % 4:
            raise SchemaError(f"input_dim holds four numbers for each input, found {len(dims)}.")
        shapes = [caffe_pb2.BlobShape(dim=dims[i : i + 4]) for i in range(0, len(dims), 4)]
    if shapes and len(shapes) != len(net.input):
        raise SchemaError(f"{len(net.input)} inputs need as many shapes, found {len(shapes)}.")
    return shapes
