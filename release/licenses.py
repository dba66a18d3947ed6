"""Write docs/licenses.md: what an installation consists of, and under which licenses.

    python release/licenses.py

Licenses are what the installed packages say of themselves, so it wants the lock's versions
(`make install`); `make docs` runs it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/licenses.md"
FOR_DEVELOPMENT = ("dev", "docs", "notebooks")
PURPOSES = {
    "torch": "tensors, gradients, CUDA",
    "numpy": "arrays",
    "protobuf": "prototxt, caffemodel",
    "lmdb": "writing LMDB",
    "h5py": "HDF5",
    "opencv-python-headless": "decoding and resizing images",
    "cramjam": "Snappy, of LevelDB",
    "onnx": "export and import of ONNX",
    "onnxruntime": "nets in testing",
    "rich": "tables and progress on a terminal",
    "plyvel": "writing LevelDB",
    "matplotlib": "charts",
    "scikit-learn": "the examples' images",
    "safetensors": "safetensors",
    "starlette": "pages in a browser",
    "uvicorn": "pages in a browser",
    "python-multipart": "uploads of pages",
    "pydot": "`caffe.draw.get_pydot_graph`",
}
NOTES = {
    "opencv-python-headless": "; the wheels contain FFmpeg under LGPL-2.1",
    "torch": "; its CUDA build brings NVIDIA's libraries under NVIDIA's licenses",
}
SPDX = {  # other words for a license
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0, with Matplotlib's name",
}
VAGUE = ("BSD", "BSD License")  # of two clauses, or of three
HEAD = """\
# Licenses of others

Moka is under the BSD 2-Clause license, and contains no code of Caffe or its forks. It installs, or
with an extra can install, these packages, each under its own license:

| package | what for | license |
|---|---|---|
"""
BROUGHT = """
These bring others with them:

| package | brought by | license |
|---|---|---|
"""
TAIL = """
Development takes more (extras `dev`, `docs` and `notebooks`), none of which is part of an
installation; one of them, axe-playwright-python (MIT), holds axe-core (MPL-2.0), with which the
tests look at the pages. A list of all packages of an installation with their versions, CycloneDX in
JSON, comes with each release; `make sbom` makes one.

Made by `make docs` from what the packages say of themselves.
"""


class Need(NamedTuple):
    """A line of requirements: a package, which of its extras, and for whom it counts."""

    name: str
    extras: tuple[str, ...]
    marker: str


def need_of(requirement: str) -> Need:
    """A requirement as pyproject.toml and packages have it."""
    text, _, marker = requirement.partition(";")
    match = re.match(r"\s*([\w.-]+)\s*(?:\[([\w\s,.-]*)\])?", text)
    assert match is not None, requirement
    extras = tuple(extra.strip() for extra in (match[2] or "").split(",") if extra.strip())
    return Need(normalized(match[1]), extras, marker)


def normalized(name: str) -> str:
    """A project's name as indexes have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def direct(project: dict[str, Any]) -> dict[str, list[str]]:
    """What pyproject.toml names, each with the extras that it comes with (none: always)."""
    found: dict[str, list[str]] = {need_of(text).name: [] for text in project["dependencies"]}
    for extra, texts in project["optional-dependencies"].items():
        if extra not in FOR_DEVELOPMENT:
            for text in texts:
                found.setdefault(need_of(text).name, []).append(extra)
    return found


def brought(names: Iterable[str]) -> dict[str, list[str]]:
    """What these packages need, and what that needs, each with those that ask for it."""
    found: dict[str, list[str]] = {}
    todo, seen = list(names), set(names)
    while todo:
        name = todo.pop(0)
        for text in metadata.requires(name) or ():
            need = need_of(text)
            if "extra" in need.marker or not is_installed(need.name):
                continue
            found.setdefault(need.name, []).append(name)
            if need.name not in seen:
                seen.add(need.name)
                todo.append(need.name)
    return found


def is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def license_of(name: str) -> str:
    """The license of an installed package, as an SPDX expression where it can be told."""
    package = metadata.distribution(name)
    expression = package.metadata.get("License-Expression")
    if expression:
        return expression
    field = package.metadata.get("License") or ""
    classifiers = [
        classifier.rpartition(" :: ")[2]
        for classifier in package.metadata.get_all("Classifier") or ()
        if classifier.startswith("License ::")
    ]
    words = field if 0 < len(field) < 40 and "\n" not in field else ", ".join(classifiers)
    if words in VAGUE:
        texts = [field, *license_texts(package)]
        return f"BSD-{3 if any('endorse' in text for text in texts) else 2}-Clause"
    return SPDX.get(words, words)


def license_texts(package: metadata.Distribution) -> Iterator[str]:
    """The texts of the licenses that lie beside a package's metadata."""
    for file in package.files or ():
        if re.match(r"(LICEN[CS]E|COPYING)", file.name, re.IGNORECASE) and ".py" not in file.name:
            yield Path(str(file.locate())).read_text("utf-8", "replace")


def page() -> str:
    """The page as it should be with the packages that are installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    ours = direct(project)
    lines = [HEAD]
    for name, extras in ours.items():
        word = "extra" if len(extras) == 1 else "extras"
        of = f" ({word} {', '.join(f'`{extra}`' for extra in extras)})" if extras else ""
        lines.append(
            f"| {name} | {PURPOSES[name]}{of} | {license_of(name)}{NOTES.get(name, '')} |\n"
        )
    lines.append(BROUGHT)
    for name, by in sorted(brought(ours).items()):
        if name not in ours:
            lines.append(f"| {name} | {', '.join(sorted(set(by)))} | {license_of(name)} |\n")
    return "".join([*lines, TAIL])


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
