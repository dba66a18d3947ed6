"""Whether `caffe`, as a command and as a module, is Moka's."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import moka
from moka.doctor.facts import BROKEN, WORTH_KNOWING, Fact
from moka.own_caffe import as_programs_import

TOPIC = "names"


def names() -> Iterator[Fact]:
    """Yield a fact for the program `caffe` and one for the module."""
    yield program()
    yield module()


def program() -> Fact:
    """What a shell runs as `caffe`."""
    found = shutil.which("caffe")
    own = Path(sys.prefix)
    if found is None:
        return Fact(
            TOPIC,
            "command caffe",
            "not on PATH",
            WORTH_KNOWING,
            f"Activate the environment in {own}, or say python -m moka.",
        )
    if not Path(found).is_relative_to(own):
        return Fact(
            TOPIC,
            "command caffe",
            found,
            WORTH_KNOWING,
            f"It belongs to another installation: activate the environment in {own}, or say"
            " python -m moka.",
        )
    return Fact(TOPIC, "command caffe", found)


def module() -> Fact:
    """What a program imports as `caffe`."""
    ours = Path(moka.__file__).parents[1] / "caffe"
    with as_programs_import():
        spec = importlib.util.find_spec("caffe")
    found = Path(spec.origin) if spec is not None and spec.origin else None
    if found is not None and found.parent == ours:
        return Fact(TOPIC, "import caffe", str(ours))
    others = [
        name for name in metadata.packages_distributions().get("caffe", ()) if "moka" not in name
    ]
    advice = "Take its folder off PYTHONPATH, or start Python in another folder."
    if others:
        advice = f"pip uninstall {' '.join(sorted(set(others)))}, then install Moka anew."
    return Fact(TOPIC, "import caffe", f"is not Moka's, but {found}", BROKEN, advice)
