"""Arrays that a net takes and gives: all items, other kinds, what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.caffe.conftest import outputs_of

import caffe
from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.caffe.conftest import NetOpener

MEMORY = """
layer { name: "m" type: "MemoryData" top: "data" top: "label"
  memory_data_param { batch_size: 2 channels: 1 height: 1 width: 2 } }
"""


def test_set_input_arrays(tmp_path: Path) -> None:
    file = tmp_path / "memory.prototxt"
    file.write_text(MEMORY)
    net = caffe.Net(str(file), caffe.TEST)
    items = np.arange(8, dtype=np.float32).reshape(4, 1, 1, 2)
    net.set_input_arrays(items, np.arange(4, dtype=np.float32))
    for first in (0, 2, 0):
        out = net.forward()
        np.testing.assert_array_equal(out["data"], items[first : first + 2])
        assert out["label"].flatten().tolist() == [first, first + 1]
    labels = np.zeros((4, 1, 1, 1), np.float32)
    for data, message in (
        (items.astype(np.float64), "data array must be float32"),
        (items[0], "data array must be 4-d"),
        (items[:, :, :, ::-1], "data array must be C contiguous"),
    ):
        with pytest.raises(RuntimeError, match=message):
            net.set_input_arrays(data, labels)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="labels array must be 4-d, got 2-d"):
        net.set_input_arrays(items, labels.reshape(4, 1))


def test_set_input_arrays_needs_a_memory_data_layer(net: caffe.Net) -> None:
    with pytest.raises(RuntimeError, match="if the first layer is a MemoryDataLayer"):
        net.set_input_arrays(np.zeros((2, 3), np.float32), np.zeros(2, np.float32))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.zeros((2, 4)), r'blob "x" has shape \(2, 3\), got an array of shape \(2, 4\)\.'),
        (np.zeros((2, 3), complex), 'blob "x" takes real numbers, got complex128'),
        ([["a", "b", "c"]] * 2, 'blob "x" takes real numbers, got <U1'),
    ],
)
def test_arrays_that_do_not_fit(net: caffe.Net, value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        net.forward(x=value)
    with pytest.raises(ValueError, match=says.replace('"x"', '"y"').replace("3", "2")):
        net.backward(y=value)


def test_arrays_of_other_kinds_are_converted(net: caffe.Net, x: Array) -> None:
    wanted = net.forward(x=np.round(x))["y"].copy()
    np.testing.assert_allclose(
        net.forward(x=np.round(x).astype(np.int64))["y"], wanted, rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(
        net.forward(x=np.round(x).tolist())["y"], wanted, rtol=1e-6, atol=1e-6
    )


def test_names_that_are_not_there(net: caffe.Net) -> None:
    for run in (net.forward, net.backward):
        for where in ({"start": "ip3"}, {"end": "ip3"}):
            with pytest.raises(NetError, match=r'no layer is named "ip3"\. Did you mean "ip'):
                run(**where)
        with pytest.raises(NetError, match=r'net\.prototxt: no blob is named "X"\. .* "x"\?'):
            run(["X"])
        with pytest.raises(ValueError, match="no layer"):  # as pycaffe, whose users catch these
            run(end="ip3")
        with pytest.raises(KeyError, match="no blob"):
            run(["X"])


def test_forward_all(net: caffe.Net) -> None:
    x = np.random.default_rng(4).standard_normal((5, 3)).astype(np.float32)
    hidden, y = outputs_of(net, x)
    got = net.forward_all(blobs=["h"], x=x)
    assert sorted(got) == ["h", "y"]
    np.testing.assert_allclose(got["y"], y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["h"], hidden, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net.forward_all(x=x[:4])["y"], y[:4], rtol=1e-5, atol=1e-6)
    assert net.forward_all(x=x[:1])["y"].shape == (1, 2)


def test_forward_backward_all(open_net: NetOpener) -> None:
    Path("net.prototxt").write_text("force_backward: true\n" + Path("net.prototxt").read_text())
    net = open_net()
    rng = np.random.default_rng(5)
    x, dy = (rng.standard_normal((5, n)).astype(np.float32) for n in (3, 2))
    data, diffs = net.forward_backward_all(blobs=["h"], diffs=["h"], x=x, y=dy)
    hidden, y = outputs_of(net, x)
    before_tanh = (dy @ net.params["ip2"][0].data) * (1 - hidden**2)
    wanted = {"y": y, "h": hidden}
    for name in ("y", "h"):
        np.testing.assert_allclose(data[name], wanted[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(diffs["h"], before_tanh, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        diffs["x"], before_tanh @ net.params["ip1"][0].data, rtol=1e-4, atol=1e-6
    )
    assert sorted(diffs) == ["h", "x"]


def test_a_loss_has_a_value_for_each_batch() -> None:
    text = Path("net.prototxt").read_text()
    Path("sum.prototxt").write_text(
        text + 'layer { name: "s" type: "Reduction" bottom: "y" top: "s" }'
    )
    net = caffe.Net("sum.prototxt", caffe.TEST)
    x = np.random.default_rng(6).standard_normal((3, 3)).astype(np.float32)
    got = net.forward_all(blobs=["y"], x=x)
    assert got["y"].shape == (3, 2)
    assert got["s"].shape == (2,)
    assert got["s"][0] == pytest.approx(got["y"][:2].sum(), rel=1e-5)


def test_all_items_need_arrays_that_fit(net: caffe.Net) -> None:
    says = "Input blob arguments do not match net inputs"
    with pytest.raises(Exception, match=says):
        net.forward_all()
    with pytest.raises(Exception, match=says):
        net.forward_all(z=np.zeros((2, 3), np.float32))
    with pytest.raises(NetError, match="neither an input nor an output: z"):
        net.forward_backward_all(z=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"different numbers of items: x \(3, 3\), y \(2, 2\)"):
        net.forward_backward_all(x=np.zeros((3, 3)), y=np.zeros((2, 2)))
