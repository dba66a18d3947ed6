"""One protocol for everything that a snapshot keeps."""

from __future__ import annotations

from typing import Protocol

from moka.schema.caffe_pb2 import SolverState


class Stateful(Protocol):
    """A part of a run that lives across iterations.

    The parts' states, merged, are the message of a snapshot; each part reads its own fields back.
    """

    def state(self) -> SolverState:
        """A message with this part's fields set, for a snapshot."""

    def load_state(self, state: SolverState) -> None:
        """Go on from a snapshot's state, whole or as another Caffe wrote it."""
