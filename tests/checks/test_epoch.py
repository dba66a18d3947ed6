"""How many records and how large a batch a net trains with."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.training_runs import LINEAR, RANDOM, database

from moka.checks.epoch import Epoch, epoch_of
from moka.errors import DataError
from moka.schema import caffe_pb2, parse_text
from moka.solver.config import NetToBuild

__all__ = ["database"]


def net(text: str) -> NetToBuild:
    message = parse_text(text, caffe_pb2.NetParameter)
    message.state.phase = caffe_pb2.TRAIN
    return NetToBuild(message, "net.prototxt", "")


def test_a_database(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert epoch_of(net(RANDOM)) == Epoch(records=10, batch=4)


def test_a_net_without_files() -> None:
    assert epoch_of(net(LINEAR)) is None


def test_code_of_the_user_does_not_run() -> None:
    text = 'layer { type: "Python" name: "x" top: "x" python_param { module: "os" layer: "no" } }'
    assert epoch_of(net(text)) is None


def test_data_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="db"):
        epoch_of(net(RANDOM))
