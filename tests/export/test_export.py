from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import NetMaker
from tests.export.onnx.conftest import one_layer
from tests.fresh import run_program

import moka
from moka.errors import UsageError
from moka.export import format_of


def test_the_package_is_a_function(make_net: NetMaker, tmp_path: Path) -> None:
    done = moka.export(make_net(one_layer('type: "ReLU"', "2 3")), tmp_path / "net.onnx")
    assert done.files == (tmp_path / "net.onnx",)


def test_before_and_after_its_modules_are_imported() -> None:
    program = "import moka; callable(moka.export) and callable(moka.load) or exit(1)\n"
    program += "import moka.export.onnx.table; callable(moka.export) or exit(2)"
    assert run_program(program).returncode == 0


def test_formats() -> None:
    assert format_of("a/net.ONNX") == "onnx"
    assert format_of("net.bin", "onnx") == "onnx"
    with pytest.raises(UsageError, match=r'"net\.bin" does not end like a file of a known format'):
        format_of("net.bin")
    with pytest.raises(UsageError, match=r'unknown format "onx" .* Did you mean "onnx"\?'):
        format_of("net.onnx", "onx")
