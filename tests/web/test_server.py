"""Where a server listens, and how it says so."""

from __future__ import annotations

import socket

import pytest

from moka.errors import UsageError
from moka.web import server
from moka.web.security import Access


def test_the_address_that_is_printed() -> None:
    assert server.address("127.0.0.1", 8321, Access.to("127.0.0.1")) == "http://127.0.0.1:8321/"
    assert server.address("::1", 1, Access.to("::1")) == "http://[::1]:1/"
    far = Access.to("0.0.0.0")
    shown = server.address("0.0.0.0", 8321, far)
    assert shown == f"http://{socket.gethostname()}:8321/?token={far.token}"
    assert far.knows(socket.gethostname())


def test_a_port_that_is_taken() -> None:
    with (
        server.listen("127.0.0.1", 0) as taken,
        pytest.raises(UsageError, match="cannot be listened at"),
    ):
        server.listen("127.0.0.1", taken.getsockname()[1])
