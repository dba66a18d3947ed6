"""Lists: text files with the name of a file on each line, from whatever system they come."""

from __future__ import annotations

from moka.files import read_text_file
from moka.types import PathLike


def read_lines(source: PathLike) -> list[str]:
    """The lines of a list, empty ones too, without blanks at their ends.

    Byte order marks are left out, also where files with marks were joined. Names that are not
    UTF-8 come back by `os.fsencode`.

    Raises:
        OSError: the file cannot be read.
    """
    text = read_text_file(source).removesuffix("\n")
    return [line.lstrip("\ufeff").rstrip(" \t\r") for line in text.split("\n")]


def whole_number(word: str, end: int = 2**31) -> int | None:
    """The number from 0 to `end` - 1 that a word of digits stands for; None: it stands for none."""
    if not word.isdecimal() or len(word) > 20:  # Python reads no number of thousands of digits
        return None
    number = int(word)
    return number if number < end else None


def read_names(source: PathLike) -> list[str]:
    """The names in a list, one a line, without the blanks around them; empty lines do not count.

    Raises:
        OSError: the file cannot be read.
    """
    return [name for name in map(str.strip, read_lines(source)) if name]
