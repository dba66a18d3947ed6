"""Processes that outlive the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moka.web.processes import Process, process_of, start_caffe


def test_a_process_is_known_by_its_number_and_start() -> None:
    program = "print(flush=True); import time; time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert child.stdout is not None
    process = process_of(child.pid)
    try:
        child.stdout.readline()  # until then it may hold no memory yet
        assert process.is_running()
        if process.began:
            assert not Process(child.pid, "1").is_running()
            assert (process.memory_bytes() or 0) > 0
            assert process.cpu_s() is not None
    finally:
        process.send(signal.SIGKILL)
        child.communicate()
    assert not process.is_running()
    process.send(signal.SIGTERM)  # nobody is there


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")
def test_a_process_that_is_only_waited_for_is_over() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = process_of(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not process.is_running()
    child.wait()


def test_caffe_starts_in_a_session_of_its_own(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as out:
        child = start_caffe(["--version"], tmp_path, out)
    assert os.getsid(child.pid) == child.pid
    assert child.wait(120) == 0
    assert "caffe version" in (tmp_path / "out").read_text()
