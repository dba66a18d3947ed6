"""The nets that lie in a folder as text, for the page Nets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moka.errors import UsageError
from moka.files import read_text_file
from moka.web.answers import wanted
from moka.web.folder import Folder

NETS = (".prototxt", ".pbtxt", ".pt")
MOST_FILES = 1000
MOST_BYTES = 8 << 20


def net_names(folder: Folder) -> list[str]:
    """Names of the files below a folder that are nets by their ending."""
    found = (
        folder.name(place / entry.name)
        for place, entries in folder.walk()
        for entry in entries
        if entry.name.endswith(NETS) and entry.is_file()
    )
    return [name for name, _ in zip(found, range(MOST_FILES), strict=False)]


def net_text(folder: Folder, values: Mapping[str, Any]) -> dict[str, str]:
    """The text of the net `name`.

    Raises:
        UsageError: no such file in the folder, or one that is no text of a net.
    """
    name = wanted(values, "name")
    path = folder.existing(name)
    if path.suffix not in NETS or not path.is_file():
        raise UsageError(f"{name} is no text of a net: it has to end with {', '.join(NETS)}.")
    if path.stat().st_size > MOST_BYTES:
        raise UsageError(f"{name} has more than {MOST_BYTES:,} bytes.")
    return {"text": read_text_file(path)}
