"""The checksums belong to the lock."""

from __future__ import annotations

import re

import pytest
from tests.programs import load_program

program = load_program("release/lock_hashes.py")


def test_every_package_of_the_lock_has_checksums() -> None:
    pinned = {(name, version) for name, version, _ in program.locked(program.LOCK.read_text())}
    text = program.HASHES.read_text()
    blocks = re.findall(
        r"^(\S+)==([^\s;]+)[^\\]*((?:\\\n    --hash=sha256:[0-9a-f]{64}\s*)+)", text, re.M
    )
    assert {(name, version) for name, version, _ in blocks} == pinned, "run: make hashes"


def test_lines_of_a_lock() -> None:
    text = '# pinned\nTorch==2.13.0\n\nplyvel==1.5.1; sys_platform == "linux"  # one\n'
    assert list(program.locked(text)) == [
        ("Torch", "2.13.0", ""),
        ("plyvel", "1.5.1", 'sys_platform == "linux"'),
    ]


@pytest.mark.parametrize(
    ("file", "release"),
    [
        ("ml_dtypes-0.6.0-cp311-cp311-win_amd64.whl", ("ml-dtypes", "0.6.0")),
        ("torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl", ("torch", "2.13.0+cpu")),
        ("opencv-python-headless-5.0.0.93.tar.gz", ("opencv-python-headless", "5.0.0.93")),
        ("rich-15.0.0.exe", None),
    ],
)
def test_names_of_files(file: str, release: tuple[str, str] | None) -> None:
    assert program.release_of(file) == release


def test_the_files_of_a_release() -> None:
    files = [
        {"filename": f"A_b-{version}-py3-none-any.whl", "hashes": {"sha256": version * 3}}
        for version in ("1.0", "1.0.1")
    ]
    assert program.hashes_of(files, "a.B", "1.0") == ["1.01.01.0"]
