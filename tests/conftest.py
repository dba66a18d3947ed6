"""Fixtures for all tests: where a net runs, nets from short texts, one seed for everything."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from moka import context
from moka.net import Net, build_net
from moka.schema import caffe_pb2, parse_text

pytest_plugins = ["tests.training_runs", "tests.messages"]
NetMaker = Callable[..., Net]


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, since many tests wait for processes that they start."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The browser's tests come first: they take longest, and wait most of their time."""
    items.sort(key=lambda item: "tests/web/" not in item.nodeid)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Nets this small run much slower on several threads than on one."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _few_loggers() -> None:
    """pytest listens to each logger that does not propagate, of which PyTorch has dozens; to attach
    to them and to detach took a tenth of the tests' time."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("torch") and isinstance(logger, logging.Logger):
            logger.propagate = True


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    """As torch.manual_seed, which also formats the stack for each kind of device that is not there:
    a fifth of the tests' time."""
    torch.default_generator.manual_seed(1701)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(1701)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each place a net can run in; nets built during the test run there."""
    if request.param == "cpu":
        return torch.device("cpu")
    found: torch.device = request.getfixturevalue("gpu")
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--played-gpu",
        action="store_true",
        help="where there is no GPU, let the CPU play one (tests.played_gpu)",
    )


ON_GPU = re.compile(r"mark\.gpu|\bdevice: torch\.device(?! \|)")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`pytest -m gpu` looks only into files that have such tests: it shall run where PyTorch is
    installed and little else."""
    if config.getoption("markexpr") != "gpu" or not collection_path.match("test_*.py"):
        return None
    return None if ON_GPU.search(collection_path.read_text()) else True


@pytest.fixture
def gpu(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """A GPU, for tests marked gpu; nets built during the test run there."""
    if torch.cuda.is_available():
        yield from _in_gpu_mode()
    elif request.config.getoption("--played-gpu"):
        from tests.played_gpu import playing_a_gpu  # imports the solver

        with playing_a_gpu():
            yield from _in_gpu_mode()
    else:
        pytest.skip("no CUDA device")


def _in_gpu_mode() -> Iterator[torch.device]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False  # TF32 keeps 10 bits, float32 has 23
    context.set_mode_gpu()
    yield torch.device("cuda", 0)
    context.set_mode_cpu()
    matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.fixture
def make_net() -> NetMaker:
    """Builds a net from prototxt text: make_net(text, phase=TEST, **build_net's)."""

    def make(text: str, phase: caffe_pb2.Phase = caffe_pb2.TEST, **more: object) -> Net:
        param = parse_text(text, caffe_pb2.NetParameter)
        return build_net(param, phase, **more)  # type: ignore[arg-type]

    return make
