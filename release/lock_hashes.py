"""Write requirements.hashes: the lock, with the checksums of all files of each release.

`pip install --require-hashes -r requirements.hashes` then takes nothing but what PyPI had when the
lock was made. Run it after a change of requirements.lock (`make hashes`); it asks pypi.org.
PyTorch's builds without CUDA are not on PyPI; name their wheels as arguments to add them:

    python release/lock_hashes.py [WHEEL ...]
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK, HASHES = ROOT / "requirements.lock", ROOT / "requirements.hashes"
INDEX = "https://pypi.org/simple/{}/"
JSON = "application/vnd.pypi.simple.v1+json"
HEAD = "# Made of requirements.lock by release/lock_hashes.py: make hashes\n"


def locked(text: str) -> Iterator[tuple[str, str, str]]:
    """(name, version, marker) for each line of a lock."""
    for line in text.splitlines():
        requirement, _, marker = line.partition("#")[0].partition(";")
        name, _, version = requirement.strip().partition("==")
        if name:
            yield name, version, marker.strip()


def normalized(name: str) -> str:
    """A project's name as indexes have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def release_of(file: str) -> tuple[str, str] | None:
    """(normalized name, version) of a wheel's or sdist's file name."""
    if file.endswith(".whl"):
        name, version, *_ = file.split("-")
    elif file.endswith(".tar.gz"):
        name, _, version = file.removesuffix(".tar.gz").rpartition("-")
    else:
        return None
    return normalized(name), version


def hashes_of(files: Sequence[dict[str, object]], name: str, version: str) -> list[str]:
    """SHA-256 sums of a release among the files of an index's page."""
    wanted = normalized(name), version
    found = [
        str(file["hashes"]["sha256"])  # type: ignore[index]
        for file in files
        if release_of(str(file["filename"])) == wanted
    ]
    return sorted(found)


def page(name: str) -> list[dict[str, object]]:
    """The files of a project, as PyPI lists them."""
    request = urllib.request.Request(INDEX.format(normalized(name)), headers={"Accept": JSON})
    with urllib.request.urlopen(request, timeout=60) as answer:
        files: list[dict[str, object]] = json.load(answer)["files"]
    return files


def main(wheels: Sequence[str]) -> None:
    more: dict[tuple[str, str], list[str]] = {}
    for wheel in map(Path, wheels):
        release = release_of(wheel.name)
        if release is None:
            sys.exit(f"{wheel}: no wheel and no sdist.")
        key = release[0], release[1].partition("+")[0]
        more.setdefault(key, []).append(hashlib.sha256(wheel.read_bytes()).hexdigest())
    blocks = []
    for name, version, marker in locked(LOCK.read_text()):
        sums = hashes_of(page(name), name, version) + more.get((normalized(name), version), [])
        if not sums:
            sys.exit(f"{LOCK.name}: PyPI has no {name} {version}.")
        first = f"{name}=={version}" + (f"; {marker}" if marker else "")
        blocks.append(" \\\n    ".join([first, *(f"--hash=sha256:{each}" for each in sums)]))
    HASHES.write_text(HEAD + "\n".join(blocks) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
