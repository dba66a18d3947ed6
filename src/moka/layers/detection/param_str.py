"""The `param_str` of a Python layer, as far as py-faster-rcnn writes it: a small piece of YAML."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

from moka.errors import NetError

_ENTRY = re.compile(r"""\s*(['"]?)([\w ]+)\1\s*:\s*(.*?)\s*$""", re.DOTALL)


def parse_param_str(text: str) -> dict[str, Any]:
    """The keys and values of a param_str.

    "'feat_stride': 16 \\n'scales': !!python/tuple [4, 8]" -> {"feat_stride": 16, "scales": [4, 8]}.
    Entries stand on lines of their own or, in braces or not, between commas.

    Raises:
        NetError: an entry without a key.
    """
    text = text.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    found: dict[str, Any] = {}
    for entry in _entries(text):
        match = _ENTRY.match(entry)
        if match is None:
            raise NetError(f'param_str must hold entries "key: value", got "{entry.strip()}".')
        found[match[2].strip()] = _value(match[3])
    return found


def _entries(text: str) -> list[str]:
    """The text cut at line ends and commas outside of brackets; comments are left out."""
    parts: list[list[str]] = [[]]
    depth = 0
    for line in text.splitlines():
        for letter in line.split("#")[0]:
            depth += (letter in "[({") - (letter in "])}")
            if letter == "," and not depth:
                parts.append([])
            else:
                parts[-1].append(letter)
        if not depth:
            parts.append([])
    return [entry for part in parts if (entry := "".join(part)).strip()]


def _value(text: str) -> Any:
    """A number, a list, a truth value, or else the text itself."""
    text = re.sub(r"!!python/tuple\s*", "", text).strip()
    lowered = text.lower()
    if lowered in ("true", "false", "yes", "no"):
        return lowered in ("true", "yes")
    return literal(text, text)


def literal(text: str, default: Any) -> Any:
    """The value of a literal of Python; `default` if the text is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unknown escapes in strings
            return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return default
