"""Builds of PyTorch without libuv, such as those for Windows and Debian's.

Stores over TCP take libuv unless they are told not to, and PyTorch's elastic agent tells its own
stores nothing.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import torch.distributed as dist


@cache
def has_libuv() -> bool:
    """Whether stores over TCP can take libuv here."""
    try:
        dist.TCPStore(  # type: ignore[attr-defined]
            "127.0.0.1", 0, is_master=True, wait_for_workers=False, use_libuv=True
        )
    except RuntimeError as error:
        return "libuv" not in str(error)
    return True


def meeting_place(host: str) -> dict[str, Any]:
    """Where an elastic agent meets itself, as arguments of its rendezvous.

    Without libuv this is a file, and the first process is the one that hosts the processes' store.
    """
    if has_libuv():
        return {"endpoint": f"{host}:0"}
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    return {"endpoint": "", "store_type": "file"}
