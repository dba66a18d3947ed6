from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.caffe.conftest import outputs_of

import caffe
from moka.errors import MokaError
from moka.report import glog
from moka.types import Array

if TYPE_CHECKING:
    from tests.caffe.conftest import NetOpener

INPUT_NAMED_DATA = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "act" type: "TanH" bottom: "data" top: "y" }
"""
IMAGES = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 1 dim: 2 dim: 3 } } }
layer { name: "flat" type: "Flatten" bottom: "x" top: "y" }
"""


def test_what_is_in_a_net(net: caffe.Net) -> None:
    assert net.name == "small"
    assert list(net.blobs) == ["x", "h", "y"]
    assert [tuple(blob.shape) for blob in net.blobs.values()] == [(2, 3), (2, 4), (2, 2)]
    assert {name: [b.data.shape for b in blobs] for name, blobs in net.params.items()} == {
        "ip1": [(4, 3), (4,)],
        "ip2": [(2, 4), (2,)],
    }
    assert [layer.type for layer in net.layers] == ["Input", "InnerProduct", "TanH", "InnerProduct"]
    assert [len(layer.blobs) for layer in net.layers] == [0, 2, 0, 2]
    assert list(net.layer_dict) == ["in", "ip1", "act", "ip2"]
    assert net.layer_dict["act"].type == "TanH"
    assert (net.inputs, net.outputs) == (["x"], ["y"])
    assert net.top_names["ip1"] == ["h"]
    assert net.bottom_names["ip2"] == ["h"]
    assert net.blob_loss_weights == {"x": 0.0, "h": 0.0, "y": 0.0}


def test_forward(net: caffe.Net, x: Array) -> None:
    net.blobs["x"].data[...] = x
    got = net.forward()
    hidden, y = outputs_of(net, x)
    assert list(got) == ["y"]
    # Sums of at most four terms in float32.
    np.testing.assert_allclose(got["y"], y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net.blobs["h"].data, hidden, rtol=1e-5, atol=1e-6)


def test_arrays_without_a_name(net: caffe.Net, x: Array) -> None:
    for given in ([x], x, {"x": x}):
        with pytest.raises(TypeError, match=r"blobs are given by name, as in net\.forward\(data="):
            net.forward(given)  # type: ignore[arg-type]


def test_forward_with_keywords_and_more_blobs(net: caffe.Net, x: Array) -> None:
    got = net.forward(blobs=["h"], x=x)
    hidden, y = outputs_of(net, x)
    assert list(got) == ["y", "h"]
    np.testing.assert_allclose(got["h"], hidden, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["y"], y, rtol=1e-5, atol=1e-6)


def test_constant_data_of_another_shape(tmp_path: Path) -> None:
    """As in BVLC Caffe, DummyData leaves a constant's shape to the user."""
    (tmp_path / "dummy.prototxt").write_text("""
    layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 dim: 3 } } }
    layer { name: "y" type: "TanH" bottom: "x" top: "y" }
    """)
    net = caffe.Net(str(tmp_path / "dummy.prototxt"), caffe.TEST)
    net.blobs["x"].reshape(4, 5)
    net.reshape()
    assert list(net.blobs["y"].shape) == [4, 5]
    net.blobs["x"].data[...] = 1
    np.testing.assert_allclose(net.forward()["y"], np.full((4, 5), np.tanh(1)), rtol=1e-6)


def test_start_and_end(net: caffe.Net, x: Array) -> None:
    got = net.forward(end="ip1", x=x)
    assert list(got) == ["h"]
    w, b = (blob.data for blob in net.params["ip1"])
    np.testing.assert_allclose(got["h"], x @ w.T + b, rtol=1e-5, atol=1e-6)  # before the TanH
    assert not net.blobs["y"].data.any()
    net.blobs["h"].data[...] = 0.25
    got = net.forward(start="ip2")
    w, b = (blob.data for blob in net.params["ip2"])
    np.testing.assert_allclose(got["y"], np.full((2, 4), 0.25) @ w.T + b, rtol=1e-5, atol=1e-6)


def test_arrays_are_live(net: caffe.Net, x: Array) -> None:
    data, y, weight = net.blobs["x"].data, net.blobs["y"].data, net.params["ip2"][0].data
    data[...] = x
    net.forward()
    before = y.copy()
    assert before.any()
    weight *= 2
    net.forward()
    bias = net.params["ip2"][1].data
    np.testing.assert_allclose(y, 2 * (before - bias) + bias, rtol=1e-5, atol=1e-6)
    assert net.blobs["y"].data is not before
    assert np.shares_memory(net.blobs["y"].data, y)


def test_backward(open_net: NetOpener, x: Array) -> None:
    Path("net.prototxt").write_text("force_backward: true\n" + Path("net.prototxt").read_text())
    net = open_net()
    net.forward(x=x)
    dy = np.random.default_rng(2).standard_normal((2, 2)).astype(np.float32)
    got = net.backward(diffs=["h"], y=dy)
    assert list(got) == ["x", "h"]
    hidden, _ = outputs_of(net, x)
    w1, w2 = net.params["ip1"][0].data, net.params["ip2"][0].data
    before_tanh = (dy @ w2) * (1 - hidden**2)
    wanted = {
        ("ip2", 0): dy.T @ hidden,
        ("ip2", 1): dy.sum(0),
        ("ip1", 0): before_tanh.T @ x,
        ("ip1", 1): before_tanh.sum(0),
    }
    for (layer, k), value in wanted.items():
        np.testing.assert_allclose(net.params[layer][k].diff, value, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got["x"], before_tanh @ w1, rtol=1e-4, atol=1e-6)
    net.backward(y=dy)
    np.testing.assert_allclose(  # parameters' diffs add up
        net.params["ip2"][1].diff, 2 * dy.sum(0), rtol=1e-4, atol=1e-6
    )
    net.clear_param_diffs()
    assert not any(blob.diff.any() for blobs in net.params.values() for blob in blobs)


def test_backward_from_start_to_end(open_net: NetOpener, x: Array) -> None:
    Path("net.prototxt").write_text("force_backward: true\n" + Path("net.prototxt").read_text())
    net = open_net()
    net.forward(x=x)
    net.blobs["y"].diff[...] = 1
    got = net.backward(end="ip2")
    assert list(got) == ["h"]
    w2 = net.params["ip2"][0].data
    np.testing.assert_allclose(got["h"], np.ones((2, 2)) @ w2, rtol=1e-5, atol=1e-6)
    assert not net.params["ip1"][0].diff.any()
    net.backward(start="act")
    assert net.params["ip1"][0].diff.any()


def test_backward_without_a_loss_does_nothing(net: caffe.Net, x: Array) -> None:
    net.forward(x=x)
    net.backward(y=np.ones((2, 2), np.float32))
    assert not any(blob.diff.any() for blobs in net.params.values() for blob in blobs)


def test_a_backward_pass_that_does_nothing_is_told_once(
    open_net: NetOpener, x: Array, caplog: pytest.LogCaptureFixture
) -> None:
    net = open_net()
    net.forward(x=x)
    net.backward()
    net._backward(3, 0)
    assert [record.message for record in caplog.records if "backward" in record.message] == [
        "net.prototxt: no layer goes backward, and all diffs stay as they are: no parameter that is"
        " trained leads to a loss. To have gradients, write force_backward: true into the prototxt."
    ]


def test_a_backward_pass_that_does_something_is_not_told(
    open_net: NetOpener, x: Array, caplog: pytest.LogCaptureFixture
) -> None:
    Path("net.prototxt").write_text("force_backward: true\n" + Path("net.prototxt").read_text())
    net = open_net()
    net.forward(x=x)
    net.backward()
    assert "backward" not in caplog.text


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("z", (2, 3), "Input blob arguments do not match net inputs."),
        ("x", (5, 3), "^Input is not batch sized"),
        ("x", (3,), "^Input is not batch sized"),
    ],
)
def test_keywords_that_do_not_fit(
    net: caffe.Net, name: str, shape: tuple[int, ...], says: str
) -> None:
    with pytest.raises(Exception, match=says) as raised:
        net.forward(None, None, None, **{name: np.zeros(shape, np.float32)})
    if name == "x":
        assert str(raised.value) == says.removeprefix("^")
        assert raised.value.__notes__ == [f'Blob "x" has shape (2, 3), got an array of {shape}.']


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("h", (2, 2), "Top diff arguments do not match net outputs."),
        ("y", (5, 2), "Diff is not batch sized"),
    ],
)
def test_diffs_that_do_not_fit(
    net: caffe.Net, name: str, shape: tuple[int, ...], says: str
) -> None:
    net.forward()
    with pytest.raises(Exception, match=says):
        net.backward(None, None, None, **{name: np.zeros(shape, np.float32)})


def test_the_nearest_input_is_named() -> None:
    Path("data.prototxt").write_text(INPUT_NAMED_DATA)
    net = caffe.Net("data.prototxt", caffe.TEST)
    with pytest.raises(Exception, match=r'do not match net inputs\. Did you mean "data"\?'):
        net.forward(dta=np.zeros((2, 3), np.float32))


def test_a_note_names_the_inputs(net: caffe.Net) -> None:
    with pytest.raises(Exception, match="do not match") as caught:
        net.forward(nope=np.zeros((2, 3), np.float32))
    assert caught.value.__notes__ == ["Give an array for each of x."]


def test_a_net_is_shown_as_a_table(net: caffe.Net) -> None:
    assert repr(net).splitlines()[2].split() == ["in", "Input", "x", "2x3"]
    assert net._repr_html_().startswith("<table>")


def test_a_net_cannot_be_pickled(net: caffe.Net) -> None:
    with pytest.raises(MokaError, match="a Net cannot be pickled: make it in each process"):
        pickle.dumps(net)


def test_a_copy_is_a_net_of_its_own(net: caffe.Net, x: Array) -> None:
    net.name = "mine"
    for _ in range(4):  # so that a program has run
        want = net.forward(x=x)["y"].copy()
    net.after_forward(lambda _: pytest.fail("a callback was copied"))
    copied = copy.deepcopy(net)
    assert copied.name == "mine"
    np.testing.assert_allclose(copied.blobs["y"].data, want, rtol=1e-5)
    net.params["ip2"][0].data[...] = 0
    np.testing.assert_allclose(copied.forward(x=x)["y"], want, rtol=1e-5)
    assert copied.blobs["y"] is not net.blobs["y"]


def test_a_copy_keeps_what_a_program_has_added(open_net: NetOpener) -> None:
    open_net().save("w.caffemodel")
    Path("net.prototxt").write_text(IMAGES)
    made = caffe.Classifier("net.prototxt", "w.caffemodel", mean=np.ones(1))
    copied = copy.deepcopy(made)
    assert type(copied) is caffe.Classifier
    assert copied.transformer is not made.transformer
    assert copied.transformer.mean["x"].tolist() == [[[1]]]
    assert copied.predict([np.ones((2, 3, 1))]).shape == (1, 6)


def test_reshape(net: caffe.Net) -> None:
    net.blobs["x"].reshape(5, 3)
    net.reshape()
    assert tuple(net.blobs["y"].shape) == (5, 2)
    x = np.ones((5, 3), np.float32)
    assert net.forward(x=x)["y"].shape == (5, 2)


def test_callbacks(net: caffe.Net) -> None:
    calls: list[tuple[str, int]] = []
    net.before_forward(lambda i: calls.append(("before forward", i)))
    net.after_forward(lambda i: calls.append(("after forward", i)))
    net.before_backward(lambda i: calls.append(("before backward", i)))
    net.after_backward(lambda i: calls.append(("after backward", i)))
    net.forward(start="ip1", end="act")
    net.backward(start="act", end="ip1")
    assert calls == [
        ("before forward", 1),
        ("after forward", 1),
        ("before forward", 2),
        ("after forward", 2),
        ("before backward", 2),
        ("after backward", 2),
        ("before backward", 1),
        ("after backward", 1),
    ]


OWN = """
import caffe

class Count(caffe.Layer):
    def setup(self, bottom, top):
        self.value = 0
        self.blobs.add_blob(2)
    def set_value(self, value):
        self.value = value
    def reshape(self, bottom, top):
        top[0].reshape(1)
    def forward(self, bottom, top):
        top[0].data[...] = self.value
"""


def test_a_python_layer_is_the_users_own_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "count_layer.py").write_text(OWN)
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "c" type: "Python" top: "y"'
        ' python_param { module: "count_layer" layer: "Count" } }'
    )
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    made = net.layers[0]
    assert (made.type, made.phase, [tuple(b.shape) for b in made.blobs]) == (
        "Python",
        caffe.TEST,
        [(2,)],
    )
    assert net.layer_dict["c"] is made
    made.set_value(7)
    assert net.forward()["y"].tolist() == [7]
    made.blobs[0].data[...] = 3
    assert net.params["c"][0].data.tolist() == [3, 3]


def test_the_log_is_glogs() -> None:
    """tests/report/test_glog.py says what they do."""
    assert caffe.init_log is glog.init_log
    assert caffe.log is glog.log


@pytest.mark.parametrize("debug_info", [True, False])
def test_the_debug_info_of_a_net(caplog: pytest.LogCaptureFixture, debug_info: bool) -> None:
    caplog.set_level("INFO", "moka")
    text = Path("train.prototxt").read_text()
    Path("debug.prototxt").write_text(f"debug_info: {str(debug_info).lower()} {text}")
    net = caffe.Net("debug.prototxt", caffe.TRAIN)
    caplog.clear()
    net.forward(end="ip")
    net.backward()
    said = [r.getMessage().strip().rpartition(": ")[0] for r in caplog.records]
    assert said == debug_info * [
        "[Forward] Layer data, top blob x data",
        "[Forward] Layer data, top blob t data",
        "[Forward] Layer ip, top blob y data",
        "[Forward] Layer ip, param blob 0 data",
        "[Forward] Layer ip, param blob 1 data",
        "[Backward] Layer loss, bottom blob y diff",
        "[Backward] Layer ip, param blob 0 diff",
        "[Backward] Layer ip, param blob 1 diff",
    ]


def test_two_nets_in_two_threads(open_net: NetOpener, x: Array) -> None:
    nets = [open_net(), open_net()]
    wrong: list[int] = []

    def run(k: int) -> None:
        caffe.set_mode_cpu()
        for n in range(100):
            got = nets[k].forward(x=x + n)["y"]
            if not np.allclose(got, outputs_of(nets[k], x + n)[1], rtol=1e-4, atol=1e-5):
                wrong.append(k)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_callback_may_use_autograd(net: caffe.Net) -> None:
    seen: list[bool] = []
    net.after_forward(lambda _: seen.append(torch.is_grad_enabled()))
    net.forward()
    assert seen == [True] * 4


def test_places_of_blobs_by_name(net: caffe.Net) -> None:
    """As programs of deepsim look them up."""
    for name, place in net._blob_names_index.items():
        assert net._blobs[place] is net.blobs[name]
    assert len(net._blob_names_index) == len(net.blobs)
