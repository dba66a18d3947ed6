from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import caffe
from moka.errors import MokaError, NetError, WeightsError
from moka.report import glog
from moka.types import Array

if TYPE_CHECKING:
    from tests.caffe.conftest import NetOpener


INPUT_NAMED_DATA = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "act" type: "TanH" bottom: "data" top: "y" }
"""


@pytest.fixture
def net(open_net: NetOpener) -> caffe.Net:
    return open_net()


@pytest.fixture
def x() -> Array:
    return np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32)


def outputs_of(net: caffe.Net, x: Array) -> tuple[Array, Array]:
    """Hidden values and outputs, by the formula."""
    w1, b1 = (blob.data for blob in net.params["ip1"])
    w2, b2 = (blob.data for blob in net.params["ip2"])
    hidden = np.tanh(x @ w1.T + b1)
    return hidden, hidden @ w2.T + b2


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


def test_forward_with_keywords_and_more_blobs(net: caffe.Net, x: Array) -> None:
    got = net.forward(blobs=["h"], x=x)
    hidden, y = outputs_of(net, x)
    assert list(got) == ["y", "h"]
    np.testing.assert_allclose(got["h"], hidden, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["y"], y, rtol=1e-5, atol=1e-6)


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


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("z", (2, 3), "Input blob arguments do not match net inputs."),
        ("x", (5, 3), "Input is not batch sized"),
    ],
)
def test_keywords_that_do_not_fit(
    net: caffe.Net, name: str, shape: tuple[int, ...], says: str
) -> None:
    with pytest.raises(Exception, match=says):
        net.forward(None, None, None, **{name: np.zeros(shape, np.float32)})


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


def same_parameters(a: caffe.Net, b: caffe.Net) -> bool:
    return all(
        np.array_equal(x.data, y.data)
        for name in a.params
        for x, y in zip(a.params[name], b.params[name], strict=True)
    )


def test_save_and_copy_from(open_net: NetOpener) -> None:
    one, other = open_net(), open_net()
    assert not same_parameters(one, other)
    one.save("w.caffemodel")
    other.copy_from("w.caffemodel")
    assert same_parameters(one, other)
    assert same_parameters(one, open_net(weights="w.caffemodel"))
    one.params["ip1"][0].data[...] = 7
    assert not same_parameters(one, other)


def test_save_hdf5_and_load_it(open_net: NetOpener) -> None:
    one, other = open_net(), open_net()
    one.save_hdf5("w.h5")
    other.load_hdf5("w.h5")
    assert same_parameters(one, other)
    assert same_parameters(one, open_net(weights="w.h5"))
    with pytest.raises(RuntimeError, match=r"Could not open file gone\.h5"):
        other.load_hdf5("gone.h5")


def test_share_with(open_net: NetOpener, x: Array) -> None:
    one, other = open_net(), open_net()
    other.share_with(one)
    assert same_parameters(one, other)
    one.params["ip1"][0].data[...] = 0.5
    assert (other.params["ip1"][0].data == 0.5).all()
    np.testing.assert_array_equal(one.forward(x=x)["y"], other.forward(x=x)["y"])


@pytest.mark.parametrize("weights", [None, "gone.caffemodel"])
def test_files_that_are_missing(weights: str | None) -> None:
    file = "net.prototxt" if weights else "gone.prototxt"
    with pytest.raises(RuntimeError, match=r"Could not open file gone\."):
        caffe.Net(file, caffe.TEST, weights=weights)


def test_a_null_character_in_the_name_of_a_file() -> None:
    with pytest.raises(RuntimeError, match=r"Could not open file a\\0b"):
        caffe.Net("a\0b", caffe.TEST)


def test_weights_that_do_not_fit(open_net: NetOpener) -> None:
    open_net().save("w.caffemodel")
    text = Path("net.prototxt").read_text()
    Path("net.prototxt").write_text(text.replace("num_output: 2", "num_output: 3"))
    with pytest.raises(WeightsError, match=r"w\.caffemodel: .*'ip2'.*2 4 \(8\).*3 4 \(12\)"):
        open_net(weights="w.caffemodel")


def test_phases_levels_and_stages() -> None:
    rules = ("phase: TRAIN", "phase: TEST", 'stage: "more"', "min_level: 2")
    layers = "\n".join(
        f'layer {{ name: "l{i}" type: "Silence" bottom: "x" include {{ {rule} }} }}'
        for i, rule in enumerate(rules)
    )
    text = Path("net.prototxt").read_text()
    Path("net.prototxt").write_text(text + layers)

    def chosen(*args: Any, **more: Any) -> list[str]:
        net = caffe.Net("net.prototxt", *args, **more)
        return [name for name in net.layer_dict if name.startswith("l")]

    assert chosen(caffe.TRAIN) == ["l0"]
    assert chosen(caffe.TEST) == ["l1"]
    assert chosen(caffe.TEST, stages=["more"]) == ["l1", "l2"]
    assert chosen(caffe.TEST, level=2) == ["l1", "l3"]


def test_layer_type_list() -> None:
    types = caffe.layer_type_list()
    assert {"Convolution", "SoftmaxWithLoss", "Data"} <= set(types)
    assert list(types) == sorted(types)


def test_a_net_with_a_fault() -> None:
    Path("bad.prototxt").write_text('layer { name: "a" type: "ReLU" bottom: "b" top: "c" }')
    with pytest.raises(NetError, match=r"bad\.prototxt: Unknown bottom blob 'b'"):
        caffe.Net("bad.prototxt", caffe.TEST)


def test_set_random_seed(open_net: NetOpener) -> None:
    caffe.set_random_seed(5)
    one = open_net()
    caffe.set_random_seed(5)
    other = open_net()
    third = open_net()
    assert same_parameters(one, other)
    assert not same_parameters(one, third)


def test_the_oldest_form_of_the_constructor(open_net: NetOpener, tmp_path: Path) -> None:
    new = open_net()
    weights = tmp_path / "w.caffemodel"
    new.save(str(weights))
    old = caffe.Net("net.prototxt", str(weights), caffe.TEST)  # type: ignore[arg-type]
    for name, blobs in new.params.items():
        for a, b in zip(blobs, old.params[name], strict=True):
            np.testing.assert_array_equal(a.data, b.data)


def test_a_layer_that_is_not_there(net: caffe.Net) -> None:
    with pytest.raises(NetError, match="no layer is named"):
        net.forward(start="nowhere")


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
    np.testing.assert_array_equal(net.forward(x=np.round(x).astype(np.int64))["y"], wanted)
    np.testing.assert_array_equal(net.forward(x=np.round(x).tolist())["y"], wanted)


def test_names_that_are_not_there(net: caffe.Net) -> None:
    for run in (net.forward, net.backward):
        for where in ({"start": "ip3"}, {"end": "ip3"}):
            with pytest.raises(NetError, match=r'no layer is named "ip3"\. Did you mean "ip'):
                run(**where)
        with pytest.raises(NetError, match=r'net\.prototxt: no blob is named "X"\. .* "x"\?'):
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
