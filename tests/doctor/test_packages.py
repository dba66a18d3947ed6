from __future__ import annotations

import importlib
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from moka.doctor import packages as module
from moka.doctor.facts import BROKEN, FINE, WORTH_KNOWING, Fact
from moka.doctor.packages import is_older, packages, required


def fact(name: str) -> Fact:
    (found,) = [each for each in packages() if each.name == name]
    return found


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The distributions that are "installed", with their versions."""
    known = {"numpy": "2.4.6", "opencv-python-headless": "5.0.0"}
    needed = [("numpy", "1.26"), ("opencv-python-headless", "4.8")]
    monkeypatch.setattr(module, "version_of", known.get)
    monkeypatch.setattr(module, "required", lambda: needed)
    return known


def test_what_is_needed() -> None:
    texts = ["torch>=2.6", "rich >= 13", "numpy (>=1.26)", "x", 'mypy>=1.11; extra == "dev"']
    assert required(texts) == [("torch", "2.6"), ("rich", "13"), ("numpy", "1.26"), ("x", "0")]


def test_the_project_is_found() -> None:
    assert {"torch", "protobuf"} <= {name for name, _ in required()}


def test_a_project_without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert required() == []


@pytest.mark.parametrize(
    ("version", "least", "older"),
    [("1.9", "1.26", True), ("2.13.0+cpu", "2.6", False), ("2.6", "2.6", False), ("x", "1", True)],
)
def test_order_of_versions(version: str, least: str, older: bool) -> None:
    assert is_older(version, least) is older


@pytest.mark.usefixtures("versions")
def test_what_a_package_complains_of_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As matplotlib does where the home folder cannot be written."""
    text = "import logging; logging.getLogger(__name__ + '.deep').warning('no cache in %s', 'x')"
    (tmp_path / "openvino.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.setattr(module, "version_of", {"openvino": "1.0"}.get)
    monkeypatch.setattr(module, "required", list)
    found = fact("openvino")
    assert found == Fact("packages", "openvino", "1.0", WORTH_KNOWING, "no cache in x")
    sys.modules.pop("openvino")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("versions")
def test_packages_that_are_there() -> None:
    assert fact("numpy") == Fact("packages", "numpy", "2.4.6")
    assert fact("openvino").state == FINE  # nobody needs it


def test_a_package_that_is_missing(versions: dict[str, str]) -> None:
    del versions["numpy"]
    assert fact("numpy").state == BROKEN
    assert fact("numpy").advice == "pip install 'numpy>=1.26'"


def test_a_package_that_is_too_old(versions: dict[str, str]) -> None:
    versions["numpy"] = "1.25.2"
    assert fact("numpy").state == BROKEN
    assert fact("numpy").advice == "Too old: pip install 'numpy>=1.26'"


def test_any_opencv_will_do(versions: dict[str, str]) -> None:
    versions["opencv-contrib-python"] = versions.pop("opencv-python-headless")
    assert fact("opencv-contrib-python").state == FINE


def test_two_opencvs(versions: dict[str, str]) -> None:
    versions["opencv-python"] = "4.10"
    found = fact("opencv-python-headless")
    assert found.state == WORTH_KNOWING
    assert found.found == "opencv-python 4.10 and opencv-python-headless 5.0.0"


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("libGL.so.1: no such file\nmore", "pip uninstall opencv-python, then"),
        ("bad magic", "Install it anew: pip install --force-reinstall opencv-python-headless"),
    ],
)
def test_a_package_that_fails(monkeypatch: pytest.MonkeyPatch, said: str, advice: str) -> None:
    def import_module(name: str) -> Any:
        if name == "cv2":
            raise ImportError(said)

    monkeypatch.setattr(importlib, "import_module", import_module)
    found = fact("opencv-python-headless")
    assert found.state == BROKEN
    assert found.found == f"5.0.0, but importing it fails: {said.splitlines()[0]}"
    assert found.advice.startswith(advice)
