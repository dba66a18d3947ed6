"""Layers the user writes: pycaffe's with NumPy, and functions of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tests.layers.python_layers import INPUT, python_net

from moka.engine.autograd import Autograd
from moka.engine.layerwise import Layerwise
from moka.errors import NetError
from moka.layers.python import Python
from moka.net import Net
from moka.schema import caffe_pb2
from moka.weights import copy_weights, share_weights, to_message

if TYPE_CHECKING:
    from tests.conftest import NetMaker
    from tests.layers.conftest import Write

SCALE = """
class It(caffe.Layer):
    def setup(self, bottom, top):
        assert self.param_str_ == self.param_str  # its name of 2014
        self.factor = float(self.param_str_ or 3)
        self.calls = []

    def reshape(self, bottom, top):
        self.calls.append("reshape")
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        self.calls.append("forward")
        top[0].data[...] = self.factor * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        self.calls.append(list(propagate_down))
        if propagate_down[0]:
            bottom[0].diff[...] = self.factor * top[0].diff
"""


def instance(net: Net, index: int = 1) -> object:
    made = net.layers[index]
    assert isinstance(made, Python)
    assert made.on_host
    return made.users_object


def test_setup_runs_once_reshape_before_each_pass(make_net: NetMaker, write: Write) -> None:
    net = python_net(make_net, write(SCALE, param_str="2"), "2 3")
    calls = instance(net).calls  # type: ignore[attr-defined]
    assert calls == ["reshape"]
    assert net.blobs["y"].shape == (2, 3)
    engine = Layerwise(net)
    net.blobs["x"].data[...] = [[1, 2, 3], [4, 5, 6]]
    engine.forward()
    assert calls == ["reshape", "reshape", "forward"]
    assert net.blobs["y"].data.tolist() == [[2, 4, 6], [8, 10, 12]]
    net.blobs["y"].diff[...] = [[1, 0, -1], [0, 2, 0]]
    engine.backward()
    assert calls[3:] == [[True]]
    assert net.blobs["x"].diff.tolist() == [[2, 0, -2], [0, 4, 0]]


def test_it_sees_its_message_and_phase(make_net: NetMaker, write: Write) -> None:
    code = """
    class It(caffe.Layer):
        def setup(self, bottom, top):
            assert (self.type, self.phase, self.param_str) == ("Python", caffe.TEST, "")
            assert self.param_str_ == ""
            assert (len(bottom), len(top)) == (1, 1)
            assert bottom[0].num == 2 and bottom[0].count == 6
            assert not len(self.blobs)
            top[0].reshape(1)
        def reshape(self, bottom, top):
            pass
        def forward(self, bottom, top):
            top[0].data[...] = self.phase
    """
    net = python_net(make_net, write(code), "2 3")
    assert net(x=torch.zeros(2, 3))["y"].tolist() == [caffe_pb2.TEST]


def test_tops_may_change_their_shape_in_forward(make_net: NetMaker, write: Write) -> None:
    code = """
    class It(caffe.Layer):
        def reshape(self, bottom, top):
            top[0].reshape(1, 2)
        def forward(self, bottom, top):
            rows = bottom[0].data[bottom[0].data[:, 0] > 0]
            top[0].reshape(*rows.shape)
            top[0].data[...] = rows
    """
    net = python_net(make_net, write(code), "3 2")
    for x in ([[1.0, 2.0], [-1.0, 0.0], [3.0, 4.0]], [[-1.0, 0.0], [-1.0, 0.0], [5.0, 6.0]]):
        wanted = [row for row in x if row[0] > 0]
        assert net(x=torch.tensor(x))["y"].tolist() == wanted
        net.blobs["x"].data[...] = x
        Layerwise(net).forward()
        assert net.blobs["y"].data.tolist() == wanted


def test_results_of_two_passes_are_two_tensors(make_net: NetMaker, write: Write) -> None:
    net = python_net(make_net, write(SCALE), "1 1")
    first, second = (net(x=torch.full((1, 1), v))["y"] for v in (1.0, 2.0))
    assert [first.item(), second.item()] == [3, 6]


def test_what_it_writes_into_a_bottom_stays_its_own(make_net: NetMaker, write: Write) -> None:
    code = """
    class It(caffe.Layer):
        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].shape)
        def forward(self, bottom, top):
            bottom[0].data[...] += 1
            top[0].data[...] = bottom[0].data
    """
    net = python_net(make_net, write(code), "1 2")
    x = torch.zeros(1, 2)
    assert [net(x=x)["y"].tolist() for _ in range(2)] == [[[1, 1]]] * 2
    assert not x.any()


def test_in_place_it_has_one_blob_for_both(make_net: NetMaker, write: Write) -> None:
    code = """
    class It(caffe.Layer):
        def reshape(self, bottom, top):
            assert bottom[0] is top[0]
        def forward(self, bottom, top):
            self.low = bottom[0].data < 0
            top[0].data[self.low] = 0
        def backward(self, top, propagate_down, bottom):
            bottom[0].diff[self.low] = 0
    """
    text = "force_backward: true " + INPUT.format("dim: 3") + (
        'layer { name: "s" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }'
        f'layer {{ name: "it" type: "Python" bottom: "y" top: "y" {write(code)} }}'
    )  # fmt: skip
    net = make_net(text)
    net.blobs["x"].data[...] = [1, -1, 2]
    engine = Layerwise(net)
    engine.forward()
    assert net.blobs["y"].data.tolist() == [2, 0, 4]
    net.blobs["y"].diff[...] = 1
    engine.backward()
    assert net.blobs["x"].diff.tolist() == [2, 0, 2]


def test_it_may_give_a_bottom_another_shape(make_net: NetMaker, write: Write) -> None:
    code = """
    class It(caffe.Layer):
        def reshape(self, bottom, top):
            bottom[0].reshape(bottom[0].num, bottom[0].channels, bottom[0].height, bottom[0].width)
            top[0].reshape(1)
        def forward(self, bottom, top):
            top[0].data[...] = bottom[0].data.sum()
        def backward(self, top, propagate_down, bottom):
            assert bottom[0].diff.shape == (2, 3, 1, 1)
            bottom[0].diff[...] = top[0].diff[0]
    """
    net = python_net(make_net, write(code), "2 3")
    net.blobs["x"].data[...] = 2
    engine = Layerwise(net)
    engine.forward()
    assert net.blobs["y"].data.tolist() == [12]
    net.blobs["y"].diff[...] = 5
    engine.backward()
    assert net.blobs["x"].diff.tolist() == [[5, 5, 5]] * 2


OFFSET = """
class It(caffe.Layer):
    def setup(self, bottom, top):
        self.blobs.add_blob(bottom[0].shape[1])
        self.blobs[0].data[...] = 0.5
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data + self.blobs[0].data
    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += top[0].diff.sum(0)
        bottom[0].diff[...] = top[0].diff
"""


def test_its_blobs_are_learned(make_net: NetMaker, write: Write, device: torch.device) -> None:
    param = write(OFFSET)
    loss = (
        'layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 2 dim: 3 } } }'
        'layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }'
    )
    net = python_net(make_net, param, "2 3", loss)
    assert [blob.shape for blob in net.layer_blobs(1)] == [(3,)]
    step = Autograd(net)
    for passes in (1, 2):  # gradients add up
        step.forward_backward()
        (weight,) = net.layers[1].weights
        assert weight.grad is not None
        assert weight.grad.tolist() == [0.5 * passes] * 3  # (0.5 - 0) / 2 for each of two rows
    assert weight.grad is not None
    with torch.no_grad():
        weight.sub_(weight.grad)
    assert float(step.forward()) == pytest.approx(6 * 0.25 / 4)  # 0.5 - 1, squared
    share_weights(other := python_net(make_net, param, "2 3", loss), net)
    assert other(x=torch.zeros(2, 3), t=torch.zeros(2, 3))["loss"].item() == pytest.approx(0.375)
    copy_weights(third := python_net(make_net, param, "2 3"), to_message(net))
    assert third(x=torch.zeros(2, 3))["y"].tolist() == [[-0.5] * 3] * 2


def test_an_array_taken_in_setup_is_the_parameter(make_net: NetMaker, write: Write) -> None:
    code = OFFSET.replace("= 0.5", "= 0.5\n        self.taken = self.blobs[0].data")
    net = python_net(make_net, write(code), "2 3")
    net.layer_blobs(1)[0].data[...] = 7
    assert instance(net).taken.tolist() == [7, 7, 7]  # type: ignore[attr-defined]


def test_without_bottoms_it_makes_data(make_net: NetMaker, write: Write) -> None:
    code = """
    class It(caffe.Layer):
        def setup(self, bottom, top):
            self.count = 0
        def reshape(self, bottom, top):
            top[0].reshape(2, 1)
        def forward(self, bottom, top):
            self.count += 1
            top[0].data[...] = self.count
    """
    text = (
        f'layer {{ name: "it" type: "Python" top: "x" {write(code)} }}'
        'layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 10 } }'
    )
    net = make_net(text)
    assert [net()["y"].tolist() for _ in range(2)] == [[[10], [10]], [[20], [20]]]
    assert net(x=torch.ones(2, 1))["y"].tolist() == [[10], [10]]


def test_without_tops_it_watches(make_net: NetMaker, write: Write) -> None:
    code = """
    class It(caffe.Layer):
        seen = []
        def reshape(self, bottom, top):
            pass
        def forward(self, bottom, top):
            self.seen.append(float(bottom[0].data.sum()))
    """
    net = make_net(
        INPUT.format("dim: 2") + f'layer {{ name: "it" type: "Python" bottom: "x" {write(code)} }}'
    )
    net(x=torch.ones(2))
    assert instance(net).seen == [2]  # type: ignore[attr-defined]


def test_images_are_row_major_for_it(make_net: NetMaker, write: Write) -> None:
    code = SCALE + "        assert bottom[0].data.flags.c_contiguous\n"
    layer = python_net(make_net, write(code), "2 3 4 4").layers[1]
    x = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(x)[0], 3 * x)


def test_a_pass_that_is_no_longer_the_last_is_run_again(make_net: NetMaker, write: Write) -> None:
    code = """
    class It(caffe.Layer):
        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].shape)
        def forward(self, bottom, top):
            self.x = bottom[0].data.copy()
            top[0].data[...] = self.x ** 2
        def backward(self, top, propagate_down, bottom):
            bottom[0].diff[...] = 2 * self.x * top[0].diff
    """
    layer = python_net(make_net, write(code), "1").layers[1]
    a, b = (torch.tensor([v], requires_grad=True) for v in (3.0, 5.0))
    (first,), (second,) = layer(a), layer(b)
    (first + second).sum().backward()
    assert (a.grad, b.grad) == (torch.tensor([6.0]), torch.tensor([10.0]))


@pytest.mark.parametrize("method", ["setup", "reshape", "forward", "backward"])
def test_what_it_raises_comes_out_with_its_name(
    make_net: NetMaker, write: Write, method: str
) -> None:
    code = SCALE.replace(f"def {method}(self,", f"def {method}(self, *_):\n        oops()\n\n"
                         f"    def other_{method}(self,")  # fmt: skip
    param = write(code)

    def everything() -> None:
        net = python_net(make_net, param, "2 3")
        engine = Layerwise(net)
        engine.forward()
        engine.backward()

    with pytest.raises(NameError, match="oops") as raised:
        everything()
    assert raised.value.__notes__ == ['raised by layer "it" (Python, user_layers_0.It)']
    assert any(entry.name == method for entry in raised.traceback)  # the user's own line shows


def test_a_gradient_that_nobody_wrote(make_net: NetMaker, write: Write) -> None:
    code = SCALE.replace("def backward", "def something_else")
    net = python_net(make_net, write(code), "2 3")
    engine = Layerwise(net)
    engine.forward()
    with pytest.raises(NetError, match=r"It has no backward\(self, top, propagate_down, bottom\)"):
        engine.backward()


def test_a_tensor_layer_runs_once_on_a_new_size(make_net: NetMaker, write: Write) -> None:
    code = """
    class It(moka.Layer):
        def setup(self, *_):
            self.sizes = []

        def forward(self, x):
            self.sizes.append(x.shape[0])
            return 2 * x
    """
    net = python_net(make_net, write(code), "2")
    net.blobs["x"].reshape(5)
    Layerwise(net).forward()
    assert net.layers[1].sizes == [2, 5]
    assert net.blobs["y"].shape == (5,)


LOSS = """
class It(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        top[0].data[...] = (bottom[0].data ** 2).sum() / 2
        bottom[0].diff[...] = bottom[0].data

    def backward(self, top, propagate_down, bottom):
        pass
"""


def test_a_gradient_may_be_written_in_forward(make_net: NetMaker, write: Write) -> None:
    net = python_net(make_net, write(LOSS), "3")
    engine = Layerwise(net)
    for shape, x in (((3,), [1, 2, 3]), ((2,), [5, 4])):
        net.blobs["x"].reshape(*shape)
        net.blobs["x"].data[...] = x
        engine.forward()
        engine.backward()
        engine.backward()
        assert net.blobs["x"].diff.tolist() == x


AUTOGRAD = """
class It(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        self.x = torch.from_numpy(bottom[0].data).clone().requires_grad_()
        self.y = self.x**2
        top[0].data[...] = self.y.detach().numpy()

    def backward(self, top, propagate_down, bottom):
        (x_diff,) = torch.autograd.grad(self.y, self.x, torch.from_numpy(top[0].diff))
        bottom[0].diff[...] = x_diff.numpy()
"""


@pytest.mark.parametrize("engine_class", [Layerwise, Autograd])
def test_it_may_use_autograd_itself(
    make_net: NetMaker, write: Write, engine_class: type[Layerwise] | type[Autograd]
) -> None:
    ending = 'layer { name: "s" type: "Reduction" bottom: "y" top: "s" loss_weight: 1 }'
    net = python_net(make_net, write(AUTOGRAD), "2", ending)
    net.blobs["x"].data[...] = [3, 4]
    engine = engine_class(net)
    if isinstance(engine, Autograd):
        engine.forward_backward()
    else:
        engine.forward()
        engine.backward()
        assert net.blobs["x"].diff.tolist() == [6, 8]
    assert net.blobs["s"].data == 25


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ('module: "" layer: "It"', '"" is not the name of a module'),
        ('module: ".up" layer: "It"', '".up" is not the name of a module'),
        (
            'module: "here/mine.py" layer: "It"',
            'Write module: "mine" and put the folder here on PYTHONPATH',
        ),
        ('module: "mine.py" layer: "It"', 'Write module: "mine" and put its folder on PYTHONPATH'),
        ('module: "sys" layer: "It"', r'the module "sys" \(built in\) has no layer "It"'),
        ('module: "no_such_module" layer: "It"', 'cannot import the module "no_such_module"'),
        (
            'module: "voc_layers" layer: "VOCSegDataLayer"',
            r'cannot import the module "voc_layers"\. It may be that of FCN \(shelhamer',
        ),
        ('module: "user_layers_0.more" layer: "It"', 'cannot import the module "user_layers_0.m'),
        ('module: "user_layers_0" layer: "Its"', r"user_layers_0\.py\) has no layer \"Its\""),
        ('module: "user_layers_0" layer: "np"', 'has no layer "np"'),
        ('module: "collections" layer: "OrderedDict"', 'has no layer "OrderedDict"'),
        ('layer: "It"', "module is missing"),
        ('module: "user_layers_0"', "layer is missing"),
    ],
)
def test_refused(make_net: NetMaker, write: Write, param: str, message: str) -> None:
    write(SCALE)
    with pytest.raises(NetError, match=f'layer "it".*{message}'):
        python_net(make_net, f"python_param {{ {param} }}", "2")


def test_a_module_that_cannot_import_something_itself(make_net: NetMaker, write: Write) -> None:
    param = write("import not_installed_here")
    with pytest.raises(ModuleNotFoundError, match="not_installed_here") as raised:
        python_net(make_net, param, "2")
    assert "user_layers_0.It" in raised.value.__notes__[0]
