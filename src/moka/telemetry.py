"""Keeps libraries from reporting what they do to those who make them."""

from __future__ import annotations

import os

VARIABLE = "ORT_DISABLE_TELEMETRY"


def report_nothing() -> None:
    """Called before ONNX Runtime is imported.

    Its builds of 2026 report to Microsoft from the moment of their import, and leave an identifier
    of the machine in the home folder. What the environment says about it counts more.
    """
    os.environ.setdefault(VARIABLE, "1")
