from __future__ import annotations

import ctypes
import platform
from itertools import islice

import pytest

from moka.layers.c_random import rand


def test_the_first_numbers() -> None:
    """Those that programs print which never call srand."""
    first = [1804289383, 846930886, 1681692777, 1714636915, 1957747793]
    assert list(islice(rand(1), 5)) == first


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks the GNU C library")
@pytest.mark.parametrize("seed", [1, 7, 2**31 - 2])
def test_the_c_library_agrees(seed: int) -> None:
    library = ctypes.CDLL("libc.so.6")
    library.srand(seed)
    assert [library.rand() for _ in range(500)] == list(islice(rand(seed), 500))
