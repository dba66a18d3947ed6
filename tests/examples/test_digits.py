from __future__ import annotations

from pathlib import Path

import pytest
from tests.fresh import run_program

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
    program = "import runpy, sys; sys.argv = {}; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = run_program(program.format([str(copy), *words]))
    assert done.returncode == 1
    assert says in done.stderr.decode()
    assert b"Traceback" not in done.stderr
