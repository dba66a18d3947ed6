"""What `caffe doctor` says of an installation in which a package is broken or missing."""

from __future__ import annotations

import json

import pytest
from tests.fresh import run_program

PROGRAM = """
import sys
sys.modules[{package!r}] = None  # importing it raises ImportError
from moka.cli.main import main
raise SystemExit(main(["doctor", "--json"]))
"""


@pytest.mark.parametrize(
    ("package", "topics"), [("torch", {"machine", "settings", "trial"}), ("lmdb", set())]
)
def test_what_needs_a_broken_package_says_so(package: str, topics: set[str]) -> None:
    done = run_program(PROGRAM.format(package=package))
    assert done.returncode == 1, done.stderr.decode()
    facts = json.loads(done.stdout)
    broken = {fact["name"]: fact for fact in facts if fact["state"] == "broken"}
    assert f"pip install --force-reinstall {package}" in broken[package]["advice"]
    left_out = {fact["topic"] for fact in facts if fact["name"] == "all of it"}
    assert left_out == topics
    assert all(fact["advice"] for fact in broken.values())
