"""What each process was given; tests/command/test_processes.py has two that differ."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.training_runs import PLAIN, database, solver_message

from moka.errors import SolverError
from moka.net import build_net
from moka.parallel.alike import check_alike, check_records
from moka.parallel.team import Alone
from moka.schema import caffe_pb2, parse_text

__all__ = ["database"]


class Told(Alone):
    """A team whose other member was given what is told here."""

    def __init__(self, message: bytes) -> None:
        super().__init__(0, 2)
        self.message = message

    def gather_messages(self, own: bytes) -> dict[int, bytes]:
        return {0: own, 1: self.message or own}


@pytest.mark.usefixtures("database")
def test_files_may_lie_elsewhere_but_not_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net = build_net(parse_text(PLAIN, caffe_pb2.NetParameter), caffe_pb2.TRAIN)
    config = solver_message("")
    check_alike(Told(b""), config, [net])
    with pytest.raises(SolverError, match="was given another solver than the first: none instead"):
        check_alike(Told(b"{}"), config, [net])
    check_records(Alone(0, 10), net)
    with pytest.raises(SolverError, match="11 processes cannot share 10 records"):
        check_records(Alone(0, 11), net)
    net.close()
