from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import NetMaker

from moka import two_ways
from moka.export.onnx import model_file
from moka.export.onnx.model_file import write_beside
from moka.huge_pages import NewMemory
from moka.inference import onnx_runtime
from moka.inference.contract import Task
from moka.inference.onnx_runtime import OnnxRuntime
from moka.inference.pressure import Pressure
from moka.rewrite import Model
from moka.types import Array

NET = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 12 dim: 12 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
"""


class Sessions:
    """Counts the runs of each session that is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs: list[int] = []
        make = onnx_runtime._session

        def counted(*args: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
            session, shared = make(*args, **options)
            self.runs.append(0)
            return _Counted(session, self.runs, len(self.runs) - 1), shared

        monkeypatch.setattr(onnx_runtime, "_session", counted)


class _Counted:
    def __init__(self, session: Any, runs: list[int], number: int) -> None:
        self._session, self._runs, self._number = session, runs, number

    def run(self, outputs: Sequence[str], feed: dict[str, Any]) -> Any:
        self._runs[self._number] += 1
        return self._session.run(outputs, feed)


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Sessions:
    return Sessions(monkeypatch)


@pytest.fixture
def _trying_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pressure, "is_felt", lambda _: True)
    monkeypatch.setattr(two_ways, "GROUP_S", 0.0)
    monkeypatch.setattr(two_ways, "TRY_EVERY_S", 0.0)
    monkeypatch.setattr(two_ways, "TRIAL_S", 0.0)


def task(make_net: NetMaker, threads: int) -> Task:
    return Task(Model.of(make_net(NET)), ("data",), ("ip",), threads)


@pytest.mark.usefixtures("_trying_all_the_time")
def test_both_sessions_give_the_same_bits(make_net: NetMaker, sessions: Sessions) -> None:
    run = OnnxRuntime().make(task(make_net, 2))
    x = torch.rand(2, 3, 12, 12)
    made = [run([x])[0].numpy() for _ in range(30)]
    assert len(sessions.runs) == 2
    assert min(sessions.runs) > 0
    for values in made:
        np.testing.assert_array_equal(values, made[0])


@pytest.mark.usefixtures("_trying_all_the_time")
def test_several_threads_run_them_at_once(make_net: NetMaker, sessions: Sessions) -> None:
    run = OnnxRuntime().make(task(make_net, 2))
    inputs = [torch.rand(2, 3, 12, 12) for _ in range(40)]
    alone = [run([x])[0] for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda x: run([x])[0], inputs))
    assert all(map(torch.equal, alone, together))
    assert sum(sessions.runs) == 81  # one more, by which the second session takes its memory


def test_on_a_quiet_machine_there_is_one_session(
    make_net: NetMaker, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_ways, "GROUP_S", 0.0)
    monkeypatch.setattr(two_ways, "TRY_EVERY_S", 0.0)
    monkeypatch.setattr(Pressure, "is_felt", lambda _: False)
    run = OnnxRuntime().make(task(make_net, 2))
    for _ in range(5):
        run([torch.rand(2, 3, 12, 12)])
    assert sessions.runs == [5]


def test_one_thread_waits_for_nobody(make_net: NetMaker, sessions: Sessions) -> None:
    OnnxRuntime().make(task(make_net, 1))
    assert len(sessions.runs) == 1


def test_large_weights_are_kept_once(
    make_net: NetMaker, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_runtime, "SMALL_BYTES", 100)
    OnnxRuntime().make(task(make_net, 2))
    assert len(sessions.runs) == 1


@pytest.fixture
def made_both_ways(make_net: NetMaker, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Whether a session gives the same bits as one whose constants lie in memory, if it may get
    them through a file."""

    def made() -> bool:
        of_net, x = task(make_net, 1), torch.rand(2, 3, 12, 12)
        in_memory = OnnxRuntime().make(of_net)
        monkeypatch.setattr(onnx_runtime, "FILE_BYTES", 100)
        run = OnnxRuntime().make(of_net)
        return torch.equal(run([x])[0], in_memory([x])[0])

    return made


def test_large_constants_go_to_the_session_through_a_file(
    made_both_ways: Callable[[], bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files: list[Path] = []

    def seen(head: bytes, large: dict[str, Array], file: Path) -> None:
        write_beside(head, large, file)
        files.extend(file.parent.iterdir())

    monkeypatch.setattr(model_file, "write_beside", seen)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert made_both_ways()
    assert {file.name for file in files} == {"net.onnx", "net.onnx.data"}
    assert [*tmp_path.iterdir()] == []


def test_without_room_for_a_file_constants_go_through_memory(
    made_both_ways: Callable[[], bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert made_both_ways()


def test_a_full_disk_leaves_the_constants_in_memory(
    made_both_ways: Callable[[], bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def write_a_part(head: bytes, large: dict[str, Array], file: Path) -> None:
        file.write_bytes(head[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(model_file, "write_beside", write_a_part)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert made_both_ways()
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(("most", "has_pattern"), [(10**6, True), (100, False)])
def test_large_passes_take_no_memory_at_once(
    make_net: NetMaker, monkeypatch: pytest.MonkeyPatch, most: int, has_pattern: bool
) -> None:
    monkeypatch.setattr(onnx_runtime, "MOST_IN_PATTERN", most)
    run: Any = OnnxRuntime().make(task(make_net, 1))
    assert run._session.get_session_options().enable_mem_pattern == has_pattern


@pytest.mark.usefixtures("_trying_all_the_time")
def test_the_second_session_lies_on_large_pages_too(
    make_net: NetMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(onnx_runtime, "put_on_large_pages", asked.append)
    monkeypatch.setattr(NewMemory, "ranges", lambda _: [(0, 1)])
    run = OnnxRuntime().make(task(make_net, 2))
    for _ in range(30):
        run([torch.rand(2, 3, 12, 12)])
    assert asked == [[(0, 1)]]
