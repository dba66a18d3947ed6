from __future__ import annotations

import pytest
from tests.fresh import run_program

from moka.errors import UsageError
from moka.web import installed

# An installation without the extra `web`.
PROGRAM = """
import sys
sys.modules |= {name: None for name in ("starlette", "uvicorn", "multipart")}
from moka.cli.main import main
print(main(["web"]), main(["serve", "--model=deploy.prototxt"]))
"""


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    installed.check_installed()
    monkeypatch.setattr(installed, "NEEDED", {"starlette": "starlette", "no_such_module": "such"})
    with pytest.raises(UsageError, match=r"needs such\..*pip install -U starlette such"):
        installed.check_installed()


def test_commands_without_the_extra_end_with_a_sentence() -> None:
    done = run_program(PROGRAM)
    assert done.stdout.decode().split() == ["1", "1"]
    said = done.stderr.decode().splitlines()
    assert len(said) == 2
    assert all("needs starlette, uvicorn, python-multipart." in line for line in said)
