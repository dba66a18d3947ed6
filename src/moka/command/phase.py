"""The flag --phase of commands that show a net without running it."""

from __future__ import annotations

from moka.errors import UsageError
from moka.schema import caffe_pb2

_PHASES = {"ALL": None, "TRAIN": caffe_pb2.TRAIN, "TEST": caffe_pb2.TEST}


def phase_of(flag: str) -> caffe_pb2.Phase | None:
    """The phase whose layers to show; None for all layers. Raises UsageError for another word."""
    if flag not in _PHASES:
        raise UsageError(f"--phase is TRAIN, TEST or ALL, found '{flag}'.")
    return _PHASES[flag]
