from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "digits" / "classify.py"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--help"], "INDEX is the number of a held-out digit, from 0; found '--help'"),
        ([], "lenet_iter_1500.caffemodel yet: `make digits` trains it"),
    ],
)
def test_one_sentence(tmp_path: Path, words: list[str], says: str) -> None:
    copy = tmp_path / "digits" / "classify.py"
    copy.parent.mkdir()
    copy.write_bytes(SCRIPT.read_bytes())
    done = subprocess.run([sys.executable, copy, *words], capture_output=True, text=True)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
