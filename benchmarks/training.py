"""Contenders of a training step: `caffe train`'s loop and pycaffe's beside PyTorch's.

One iteration: forward, backward, update by SGD with momentum and weight decay, the loss as a
number. The data is in memory, the same for each iteration. "PyTorch" is the net as people write it
(row-major, ReLU in-place, torch.optim.SGD as it is), "channels-last" has that layout and the fused
update, torch.compile is that compiled. Moka is imported by its own contenders alone, so that memory
and the time to the first result are each contender's own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from passes import repeated
from pytorch_nets import IN_PYTORCH, GoogLeNetWithLosses, cifar_quick, for_training, lenet
from side_by_side import Contender, Run
from torch import Tensor, nn

if TYPE_CHECKING:
    from moka.schema import caffe_pb2

ROOT = Path(__file__).resolve().parent.parent
RATE, MOMENTUM, DECAY = 0.001, 0.9, 0.0005


class Case(NamedTuple):
    """A net as Caffe's file and as PyTorch's module; images (channels, height, width)."""

    file: str
    module: Callable[[], nn.Module]
    batch: int
    image: tuple[int, int, int]
    classes: int


CASES = {
    "LeNet": Case("examples/mnist/lenet_train_test.prototxt", lenet, 64, (1, 28, 28), 10),
    "CIFAR-quick": Case(
        "examples/cifar10/cifar10_quick_train_test.prototxt", cifar_quick, 100, (3, 32, 32), 10
    ),
    **{
        name: Case(f"models/{model}/train_val.prototxt", module, 10, (3, size, size), 1000)
        for name, model, module, size in (
            ("CaffeNet", "bvlc_reference_caffenet", IN_PYTORCH["bvlc_reference_caffenet"], 227),
            ("GoogLeNet", "bvlc_googlenet", GoogLeNetWithLosses, 224),
            ("SqueezeNet", "squeezenet_v1.1", IN_PYTORCH["squeezenet_v1.1"], 227),
            ("MobileNet v1", "mobilenet_v1", IN_PYTORCH["mobilenet_v1"], 224),
            ("MobileNet v2", "mobilenet_v2", IN_PYTORCH["mobilenet_v2"], 224),
            ("ResNet-50", "resnet50", IN_PYTORCH["resnet50"], 224),
            ("VGG-16", "vgg16", IN_PYTORCH["vgg16"], 224),
        )
    },
}


def data(case: Case) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(case.batch, *case.image), torch.randint(case.classes, (case.batch,))


def net_of(case: Case) -> caffe_pb2.NetParameter:
    """The file's net for training, its data given by the caller."""
    from moka.net.build import read_net

    net, _ = read_net(ROOT / case.file)
    layers = list(net.layer)
    del net.layer[:]
    given = net.layer.add(name="data", type="Input", top=["data", "label"])
    for shape in ((case.batch, *case.image), (case.batch,)):
        given.input_param.shape.add(dim=shape)
    net.layer.extend(layer for layer in layers if layer.bottom)
    return net


def solver_of(case: Case) -> caffe_pb2.SolverParameter:
    from moka.schema import caffe_pb2

    return caffe_pb2.SolverParameter(
        train_net_param=net_of(case),
        base_lr=RATE,
        momentum=MOMENTUM,
        weight_decay=DECAY,
        lr_policy="fixed",
        display=100,
        max_iter=10**6,
    )


def caffe_train(case: Case, threads: int, *, chooses: bool = True) -> Run:
    """The solver that `caffe train` runs, with its log going nowhere.

    Args:
        chooses: between one thread and all, as the command lets it.
    """
    import moka
    from moka.engine.channels_last import channels_last
    from moka.report.caffe_log import log_record
    from moka.solver.solver import Solver

    _be_quiet(threads)
    moka.keep_freed_memory()  # as `caffe train` does
    if chooses:
        moka.choose_threads()
    solver = Solver(solver_of(case), listeners=[log_record])
    for name, tensor in zip(("data", "label"), data(case), strict=True):
        # As the data layers' batches leave their feed.
        solver.net.blobs[name].data_memory.put(channels_last(tensor.float()))
    return solver.step


def pycaffe(case: Case, threads: int) -> Run:
    import caffe
    from moka.schema import write_text

    _be_quiet(threads)
    with tempfile.NamedTemporaryFile(suffix=".prototxt") as file:
        write_text(file.name, solver_of(case))
        solver = caffe.get_solver(file.name)
    for name, tensor in zip(("data", "label"), data(case), strict=True):
        solver.net.blobs[name].data[...] = tensor.numpy()
    return solver.step


def _be_quiet(threads: int) -> None:
    torch.set_num_threads(threads)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def pytorch(
    case: Case, threads: int, *, channels_last: bool = False, compiled: bool = False
) -> Run:
    torch.set_num_threads(threads)
    net: Any = for_training(case.module())
    x, y = data(case)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        net.parameters(), RATE, momentum=MOMENTUM, weight_decay=DECAY, fused=channels_last or None
    )
    run = torch.compile(net) if compiled else net

    def once() -> None:
        optimizer.zero_grad()
        found = run(x)
        first, *others = found if isinstance(found, tuple) else (found,)
        loss = F.cross_entropy(first, y)
        for other in others:
            loss = loss + 0.3 * F.cross_entropy(other, y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()

    return repeated(once)


def contenders(case: Case, threads: int, *, compiled: bool = False) -> Mapping[str, Contender]:
    found: dict[str, Contender] = {
        "caffe train": partial(caffe_train, case, threads),
        "pycaffe": partial(pycaffe, case, threads),
        "PyTorch": partial(pytorch, case, threads),
        "channels-last": partial(pytorch, case, threads, channels_last=True),
    }
    if compiled:
        found["torch.compile"] = partial(pytorch, case, threads, channels_last=True, compiled=True)
    return found
