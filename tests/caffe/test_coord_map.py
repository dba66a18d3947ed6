from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from caffe import coord_map as cm
from caffe import layers as L
from caffe.coord_map import coord_map, coord_map_from_to, crop
from moka.graph.coordinates import Map
from moka.net.spec import NetSpec, Top

Numbers = tuple[int | None, list[float], list[float]]


def net(
    *,
    kernel: Any = 3,
    stride: Any = 1,
    pad: Any = 0,
    pool: int = 2,
    dkernel: int = 4,
    dstride: int = 2,
    dpad: int = 0,
) -> NetSpec:
    """data, conv, pool, relu, deconv: the deconvolution undoes the pooling's stride."""
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[2, 1, 100, 100]))
    n.aux = L.Input(shape=dict(dim=[2, 1, 20, 20]))
    n.conv = L.Convolution(n.data, num_output=10, kernel_size=kernel, stride=stride, pad=pad)
    n.pool = L.Pooling(n.conv, pool=0, kernel_size=pool, stride=pool, pad=0)
    n.relu = L.ReLU(n.pool, in_place=True)
    n.deconv = L.Deconvolution(
        n.relu,
        convolution_param=dict(num_output=10, kernel_size=dkernel, stride=dstride, pad=dpad),
    )
    return n


def numbers(found: Map) -> Numbers:
    axis, a, b = found
    return axis, np.atleast_1d(a).tolist(), np.atleast_1d(b).tolist()


def of(top: Top) -> Numbers:
    return numbers(coord_map(top.fn))


D = L.Input(shape=dict(dim=[1, 1, 9, 9]))


@pytest.mark.parametrize(
    ("top", "want"),
    [
        (L.Convolution(D, kernel_size=5, stride=2, pad=1), (1, [0.5], [-0.5])),
        (L.Convolution(D, kernel_size=3, dilation=4), (1, [1], [-4])),
        (L.Convolution(D, kernel_size=3, axis=2), (2, [1], [-1])),
        (L.Convolution(D, kernel_size=[3, 5], pad=[1, 0]), (1, [1], [0, -2])),
        (L.Convolution(D, kernel_h=3, kernel_w=5, pad_w=2), (1, [1], [-1, 0])),
        (L.Convolution(D, convolution_param=dict(kernel_size=3, stride=4)), (1, [0.25], [-0.25])),
        (L.Im2col(D, convolution_param=dict(kernel_size=3)), (1, [1], [-1])),
        (L.Pooling(D, kernel_size=2, stride=2), (1, [0.5], [-0.25])),
        (L.Pooling(D, kernel_h=2, kernel_w=3), (1, [1], [-0.5, -1])),
        (L.Pooling(D, pooling_param=dict(kernel_size=3, pad=1)), (1, [1], [0])),
        (
            L.Deconvolution(D, convolution_param=dict(kernel_size=4, stride=2, pad=1)),
            (1, [2], [0.5]),
        ),
        (L.Crop(D, D, axis=2, offset=3), (1, [1], [-3])),
        (L.Crop(D, D, crop_param=dict(axis=1, offset=[3, 4])), (0, [1], [-3, -4])),
        (L.Crop(D, D), (1, [1], [0])),
        (L.ReLU(D), (None, [1], [0])),
        (L.Softmax(D), (None, [1], [0])),
    ],
)
def test_of_a_layer(top: Top, want: Numbers) -> None:
    assert of(top) == want


def test_layers_that_pass_through() -> None:
    assert "ReLU" in cm.PASS_THROUGH_LAYERS
    for name in cm.PASS_THROUGH_LAYERS:
        assert of(getattr(L, name)(D)) == (None, [1], [0])


def test_a_program_may_add_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cm, "PASS_THROUGH_LAYERS", [*cm.PASS_THROUGH_LAYERS, "InnerProduct"])
    assert of(L.InnerProduct(D, num_output=3)) == (None, [1], [0])


@pytest.mark.parametrize(
    ("top", "message"),
    [
        (L.InnerProduct(D, num_output=3), "InnerProduct does not keep coordinates"),
        (L.Pooling(D, global_pooling=True), "Pooling has no kernel_size"),
    ],
)
def test_layers_without_a_map(top: Top, message: str) -> None:
    with pytest.raises(cm.UndefinedMapException, match=message):
        coord_map(top.fn)


def test_parameters_of_a_window() -> None:
    top = L.Convolution(D, kernel_size=3, stride=2, dilation=[1, 4])
    axis, stride, extent, pad = cm.conv_params(top.fn)
    assert (axis, stride.tolist(), extent.tolist(), pad.tolist()) == (1, [2], [3, 9], [0])


def test_compose_and_inverse() -> None:
    """i -> 2 i + 3, then i -> 4 i + 5."""
    assert cm.compose((1, 4, 5), (1, 2, 3)) == (1, 8, 17)
    assert cm.compose((None, 1, 0), (1, 2, 3)) == cm.compose((1, 2, 3), (None, 1, 0)) == (1, 2, 3)
    assert cm.inverse((1, 2, 3)) == (1, 0.5, -1.5)
    with pytest.raises(cm.AxisMismatchException, match="after 1, the other after 2"):
        cm.compose((1, 1, 0), (2, 1, 0))


def test_pooling_and_deconvolution_undo_each_other() -> None:
    """Convolution -1, pooling and deconvolution together +1: pixel 0 lies on pixel 0."""
    n = net()
    assert numbers(coord_map_from_to(n.deconv, n.data)) == (1, [1], [0])
    n = net(pad=2)
    assert numbers(coord_map_from_to(n.deconv, n.data)) == (1, [1], [-2])
    assert numbers(coord_map_from_to(n.data, n.deconv)) == (1, [1], [2])
    n = net(pool=3, dstride=2, dkernel=3)
    axis, a, _ = numbers(coord_map_from_to(n.deconv, n.data))
    assert (axis, a) == (1, [1.5])


def test_axes_of_their_own() -> None:
    n = net(kernel=[3, 5], pad=[0, 1])
    assert numbers(coord_map_from_to(n.deconv, n.data)) == (1, [1], [0, 0])
    n = net(kernel=[1, 5], stride=[1, 2])
    assert numbers(coord_map_from_to(n.conv, n.data)) == (1, [1, 2], [0, 2])


def test_the_same_top() -> None:
    n = net()
    assert numbers(coord_map_from_to(n.pool, n.pool)) == (None, [1], [0])


def test_over_a_crop_layer() -> None:
    """It shifts by its offset; its second bottom leads nowhere."""
    n = net(pad=2)
    cropped = L.Crop(n.deconv, n.aux, axis=2, offset=5)
    assert numbers(coord_map_from_to(cropped, n.data)) == (1, [1], [3])
    with pytest.raises(RuntimeError, match="are they connected"):
        coord_map_from_to(cropped, n.aux)


def test_tops_that_are_not_connected() -> None:
    n = net()
    for other in (L.InnerProduct(n.deconv, num_output=10), n.aux):
        with pytest.raises(RuntimeError, match="Could not compute map between tops"):
            coord_map_from_to(other, n.data)


def test_crop() -> None:
    n = net(pad=2)
    n.crop = crop(n.deconv, n.data)
    layer = n.to_proto().layer[-1]
    assert (layer.type, list(layer.bottom)) == ("Crop", ["deconv", "data"])
    assert (layer.crop_param.axis, list(layer.crop_param.offset)) == (2, [2])


def test_crop_by_axis_and_where_nothing_shifts() -> None:
    n = net(kernel=[3, 5], pad=[2, 2])
    n.crop = crop(n.deconv, n.data)
    assert list(n.to_proto().layer[-1].crop_param.offset) == [2, 1]
    relu = L.ReLU(n.data)
    assert relu.fn.inputs == (n.data,)
    assert crop(relu, n.data).fn.params == {"crop_param": {"axis": 2, "offset": [0]}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(pool=3, dstride=2), r"scale mismatch on crop \(a = \[1.5\]\)"),
        (dict(dpad=10), r"cannot crop negative offset \(b = \[10.\]\)"),
        (dict(dkernel=5, pad=2), r"cannot crop noninteger offset \(b = \[-2.5\]\)"),
    ],
)
def test_what_cannot_be_cropped(options: dict[str, int], message: str) -> None:
    n = net(**options)
    with pytest.raises(AssertionError, match=message):
        crop(n.deconv, n.data)


def test_many_branches_take_no_time() -> None:
    """Thirty diamonds have 2^30 ways through them."""
    top = D
    for _ in range(30):
        top = L.Eltwise(L.ReLU(top), L.TanH(top))
    assert numbers(coord_map_from_to(top, D)) == (None, [1], [0])
