"""Answers to requests, whichever way they come."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from moka.errors import MokaError
from moka.matlab import commands
from moka.matlab.session import HandleTable
from moka.matlab.values import PlainValue, read_arguments, write_result
from moka.types import Array

_session = HandleTable()  # of MATLAB, which has one Python


def answer(head: str, numbers: Any) -> tuple[str, bytes]:
    """Run a command for MATLAB.

    Args:
        head: the request: `{"command": name, "arguments": [...]}` (see `moka.matlab.values`).
        numbers: the single arrays among the arguments one after the other, as whatever MATLAB
            makes of a row of class single: an array, a memoryview, a number if it is one element.

    Returns:
        The answer's head and body. A head has "result", or "error" with "identifier" and
        "message"; errors are no exceptions here, so MATLAB can raise its own.
    """
    if isinstance(numbers, bytes):
        numbers = np.frombuffer(numbers, np.float32)
    own = np.array(numbers, np.float32, ndmin=1)  # a blob may keep it; MATLAB's lives for the call
    result, arrays = answer_request(_session, json.loads(head), own.data.cast("B"))
    return json.dumps(result), b"".join(array.tobytes() for array in arrays)


def answer_request(
    session: HandleTable, request: dict[str, Any], body: memoryview
) -> tuple[dict[str, Any], list[Array]]:
    """The head of the answer and its arrays; a fault is part of the answer."""
    try:
        arguments = read_arguments(request["arguments"], body)
        value: PlainValue = commands.run_command(session, request["command"], arguments)
        result, arrays = write_result(value)
        return {"result": result}, arrays
    except KeyboardInterrupt:
        return _failed("Interrupted", "stopped by an interrupt."), []
    except MokaError as error:
        return _failed(type(error).__name__, str(error)), []
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _failed("FileError", f"{name}{error.strerror or error}."), []
    except Exception as error:  # noqa: BLE001  of a user's Python layer, or of PyTorch: the session lives on
        return _failed("Error", f"{type(error).__name__}: {error}"), []


def _failed(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"identifier": f"caffe:{kind}", "message": message}}
