"""The page of licenses names every package of an installation."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from tests.programs import load_program

program = load_program("release/licenses.py")
lock = load_program("release/lock_hashes.py")


def test_every_package_of_ours_is_named_with_its_license() -> None:
    project = tomllib.loads((program.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    page = program.PAGE.read_text("utf-8")
    rows = dict(re.findall(r"^\| ([\w-]+) \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE))
    assert set(program.direct(project)) <= set(rows)
    assert all(rows.values())


def test_the_page_is_up_to_date() -> None:
    for name, version, marker in lock.locked(lock.LOCK.read_text("utf-8")):
        installed = metadata.version(name) if program.is_installed(name) else ""
        if not marker and installed.partition("+")[0] != version:
            pytest.skip(f"the lock has {name} {version}, installed is {installed or 'none'}")
    assert program.PAGE.read_text("utf-8") == program.page(), "run: python release/licenses.py"


def install(
    site: Path, name: str, fields: str, text: str = "", requires: tuple[str, ...] = ()
) -> None:
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.4", f"Name: {name}", *([fields] if fields else [])]
    lines += [f"Requires-Dist: {need}" for need in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "LICENSE").write_text(text)
    (info / "RECORD").write_text(f"{info.name}/METADATA,,\n{info.name}/LICENSE,,\n")


@pytest.mark.parametrize(
    ("fields", "text", "license"),
    [
        ("License-Expression: MIT OR Apache-2.0", "", "MIT OR Apache-2.0"),
        ("License: OLDAP-2.8", "", "OLDAP-2.8"),
        ("License: Apache 2.0", "", "Apache-2.0"),
        ("Classifier: License :: OSI Approved :: MIT License", "", "MIT"),
        ("License: BSD", "may not be used to endorse products", "BSD-3-Clause"),
        ("Classifier: License :: OSI Approved :: BSD License", "as is", "BSD-2-Clause"),
        (
            "License: a text of more than forty letters that no table can hold\n"
            "Classifier: License :: OSI Approved :: Apache Software License",
            "",
            "Apache-2.0",
        ),
    ],
)
def test_the_license_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: str, text: str, license: str
) -> None:
    install(tmp_path, "some-package", fields, text)
    monkeypatch.syspath_prepend(tmp_path)
    assert program.license_of("some-package") == license


def test_what_packages_bring_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "one-a", "", requires=("Two.B>=1", 'gone-c; extra == "more"', "absent-d"))
    install(tmp_path, "two-b", "", requires=("one-a", "three-e[fast]"))
    install(tmp_path, "three-e", "")
    monkeypatch.syspath_prepend(tmp_path)
    assert program.brought(["one-a"]) == {
        "two-b": ["one-a"],
        "one-a": ["two-b"],
        "three-e": ["two-b"],
    }


def test_the_extras_of_a_package() -> None:
    project = {
        "dependencies": ["one>=1"],
        "optional-dependencies": {"web": ["two[fast]>=1"], "plot": ["two"], "dev": ["three"]},
    }
    assert program.direct(project) == {"one": [], "two": ["web", "plot"]}
