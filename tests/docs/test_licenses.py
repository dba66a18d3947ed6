from __future__ import annotations

import re
import tomllib
from pathlib import Path

from moka.doctor.packages import required

ROOT = Path(__file__).parents[2]
FOR_DEVELOPMENT = ("dev", "docs", "notebooks")


def test_every_package_is_named_with_its_license() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"]]
    for extra, more in extras.items():
        if extra not in FOR_DEVELOPMENT:
            texts += more
    needed = {name for name, _ in required(texts)}
    page = (ROOT / "docs/licenses.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| ([\w-]+) \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE))
    del rows["package"]
    assert set(rows) == needed
    assert all(rows.values())
