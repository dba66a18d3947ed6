from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 } } }
layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }
"""


def message(head: dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(head).encode()
    return struct.pack("=I", len(text)) + text + body


def messages(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    found = []
    while data:
        (length,) = struct.unpack("=I", data[:4])
        head = json.loads(data[4 : 4 + length])
        data = data[4 + length :]
        result = head.get("result")
        size = result.get("single") if isinstance(result, dict) else None
        count = 4 * int(np.prod(size)) if size else 0
        found.append((head, data[:count]))
        data = data[count:]
    return found


def ask(*requests: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """All messages of a process that is given these requests and then closed."""
    done = subprocess.run(
        [sys.executable, "-m", "moka.matlab"],
        input=b"".join(requests),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return messages(done.stdout)


def test_a_session(tmp_path: Path) -> None:
    (tmp_path / "n.prototxt").write_text(NET)
    said = ask(
        message({"id": 1, "command": "version", "arguments": []}),
        message({"id": 2, "command": "get_net", "arguments": [str(tmp_path / "n.prototxt"), "x"]}),
        message({"id": 3, "command": "get_net",
                 "arguments": [str(tmp_path / "n.prototxt"), "test"]}),
        message({"id": 4, "command": "write_mean",
                 "arguments": [{"single": [2, 2]}, str(tmp_path / "m")]},
                np.arange(4, dtype=np.float32).tobytes()),
        message({"id": 5, "command": "read_mean", "arguments": [str(tmp_path / "m")]}),
    )  # fmt: skip
    hello, *answers = said
    assert list(hello[0]) == ["init_key"]
    logs = "".join(head["log"] for head, _ in answers if "log" in head)
    assert "Creating layer p" in logs
    by_id = {head["id"]: (head, body) for head, body in answers if "id" in head}
    assert by_id[1][0]["result"] == "1.0.0"
    assert by_id[2][0]["error"]["identifier"] == "caffe:UsageError"
    assert by_id[3][0]["result"]["init_key"] == hello[0]["init_key"]
    assert by_id[4][0]["result"] is None
    assert by_id[5][0]["result"] == {"single": [2, 2, 1, 1]}
    assert np.frombuffer(by_id[5][1], np.float32).tolist() == [0, 1, 2, 3]


def test_a_request_that_is_cut_ends_it() -> None:
    assert len(ask(message({"id": 1, "command": "version", "arguments": []})[:9])) == 1


def test_where_the_m_files_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "moka.matlab", "--path"], capture_output=True, text=True, check=True
    )
    assert (Path(done.stdout.strip()) / "+caffe" / "Net.m").is_file()
