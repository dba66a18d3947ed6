"""What programs say."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

Messages = Callable[[], list[str]]


@pytest.fixture
def messages(capsys: pytest.CaptureFixture[str]) -> Messages:
    """Gives what was logged since it was asked last, "I A total of ...": severity and text.

    Nothing may have gone to standard output.
    """

    def messages() -> list[str]:
        out, err = capsys.readouterr()
        assert out == ""
        return [re.sub(r"^([IWEF])\d{4} .*?\] ", r"\1 ", line) for line in err.splitlines()]

    return messages
