"""Layers that run code of the user."""

from __future__ import annotations

from moka.export.onnx.table import refuse
from moka.layers import REGISTRY

refuse(
    "it runs Python code, which has no form in ONNX: write it with Caffe's own layers.",
    *{entry.make for entry in REGISTRY.values() if entry.runs_user_code},
)
