"""What keeps a net from being exported, without its weights and without memory for them."""

from __future__ import annotations

from moka.errors import MokaError, NetError
from moka.export.onnx.emit import emit, wanted_outputs
from moka.export.onnx.layers import check_exportable, is_left_out
from moka.export.onnx.library import is_installed
from moka.net import Net
from moka.net.assemble import located
from moka.rewrite import Model, drop_layers
from moka.schema import caffe_pb2


def export_obstacle(net: Net, opset: int) -> MokaError | None:
    """Why a net cannot be exported, with the first layer that cannot; None: nothing is known.

    Where the package `onnx` is installed, all nodes are made, of parameters that take no memory;
    else only the types of the layers are looked up.

    Args:
        net: it may be an outline (`moka.net.outline`).
        opset: the version of ONNX's operators.
    """
    try:
        plain = exportable(net).build_outline()
        check_layers(plain)
        if is_installed("onnx"):
            emit(plain, opset, outputs=wanted_outputs(plain, None))
    except MokaError as error:
        return error
    return None


def exportable(net: Net) -> Model:
    """The model of a net without losses and scores.

    Raises:
        NetError: a net for training.
    """
    if net.graph.phase != caffe_pb2.TEST:
        raise NetError(
            "only a net of phase TEST can be exported, this one is of phase TRAIN.",
            file=net.graph.file,
            advice="Load its weights into the TEST net of the same file.",
        )
    return drop_layers(Model.of(net), is_left_out)


def check_layers(net: Net) -> None:
    """Raises NetError at the first layer that has no form in ONNX."""
    for place in net.places:
        try:
            check_exportable(place.layer)
        except NetError as error:
            raise located(error, place.node, net.graph) from None
