"""The packages that Moka needs, those that add something, and whether they can be imported."""

from __future__ import annotations

import importlib
import logging
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata

from moka import __version__
from moka.doctor.facts import BROKEN, FINE, WORTH_KNOWING, Fact
from moka.telemetry import report_nothing

TOPIC = "packages"
DISTRIBUTION = "moka-caffe"
OPENCVS = (
    "opencv-python",
    "opencv-contrib-python",
    "opencv-python-headless",
    "opencv-contrib-python-headless",
)
MODULES = {  # of distributions that are not imported by their own names
    **dict.fromkeys(OPENCVS, "cv2"),
    "protobuf": "google.protobuf",
    "scikit-learn": "sklearn",
}
OPTIONAL = {  # distribution: what it adds
    "openvino": "another engine for nets in testing",
    "plyvel": "writing LevelDB (reading needs nothing)",
    "safetensors": "exporting and importing safetensors",
    "matplotlib": "charts of training logs",
}


def packages() -> Iterator[Fact]:
    """Yield a fact for Moka, for Python and for each package."""
    yield Fact(TOPIC, "moka", __version__)
    yield Fact(TOPIC, "python", f"{platform.python_version()} ({sys.executable})")
    for name, least in required():
        yield _needed(name, least)
    for name, purpose in OPTIONAL.items():
        version = version_of(name)
        if version is None:
            yield Fact(TOPIC, name, f"not installed; it adds {purpose}")
        else:
            yield _imported(name, version)


def required(requirements: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """The distributions that Moka needs, each with the oldest version that will do.

    Args:
        requirements: as package metadata has them; None: Moka's own.
    """
    if requirements is None:
        try:
            requirements = metadata.requires(DISTRIBUTION) or ()
        except metadata.PackageNotFoundError:  # run from its source
            requirements = ()
    found = []
    for text in requirements:
        name, marker = re.split(r"[\s;<>=!~\[(]", text, maxsplit=1)[0], text.partition(";")[2]
        if "extra" not in marker:
            least = re.search(r">=\s*([\w.]+)", text)
            found.append((name, least[1] if least else "0"))
    return found


def version_of(distribution: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def is_older(version: str, least: str) -> bool:
    """Whether a version comes before another, by the numbers that they begin with."""
    return _numbers(version) < _numbers(least)


def _numbers(version: str) -> tuple[int, ...]:
    begin = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in begin[0].split(".")) if begin else ()


def _needed(name: str, least: str) -> Fact:
    candidates = OPENCVS if name in OPENCVS else (name,)
    found = {each: version for each in candidates if (version := version_of(each)) is not None}
    if not found:
        return Fact(TOPIC, name, "not installed", BROKEN, f"pip install '{name}>={least}'")
    if len(found) > 1:
        return Fact(
            TOPIC,
            name,
            " and ".join(f"{each} {version}" for each, version in found.items()),
            WORTH_KNOWING,
            "These write the same module cv2 over each other: uninstall all of them, then install"
            " one.",
        )
    ((installed, version),) = found.items()
    if is_older(version, least):
        return Fact(
            TOPIC, installed, version, BROKEN, f"Too old: pip install '{installed}>={least}'"
        )
    return _imported(installed, version)


def _imported(name: str, version: str) -> Fact:
    """A fact about a package that is installed: whether importing it works, and what it logs."""
    module = MODULES.get(name, name)
    heard = _Heard()
    report_nothing()
    logger = logging.getLogger(module)
    logger.addHandler(heard)
    propagate, logger.propagate = logger.propagate, False
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
        said = (str(error).splitlines() or [type(error).__name__])[0]
        advice = f"Install it anew: pip install --force-reinstall {name}"
        if "libGL" in said:
            advice = "pip uninstall opencv-python, then pip install opencv-python-headless"
        return Fact(TOPIC, name, f"{version}, but importing it fails: {said}", BROKEN, advice)
    finally:
        logger.removeHandler(heard)
        logger.propagate = propagate
    return Fact(TOPIC, name, version, WORTH_KNOWING if heard.warnings else FINE, heard.text())


class _Heard(logging.Handler):
    """Keeps the warnings of a package."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.warnings: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.warnings.append(record.getMessage())

    def text(self) -> str:
        return " ".join(self.warnings)
