"""Where a run stands in its data and random numbers.

BVLC Caffe's files cannot hold this, but an exact resume needs it: the position in the data, random
generators, and what layers hand from pass to pass.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Sequence

import torch

from moka.context import random_states, set_random_seed, set_random_states
from moka.data.place import CursorState
from moka.layers.base import Layer
from moka.layers.source import Source
from moka.net import Net
from moka.parallel.team import Team
from moka.schema import blobproto
from moka.schema.caffe_pb2 import RankState, RunState, SolverState

log = logging.getLogger("moka")


class Position:
    """The position of one process.

    Args:
        nets: the net that is trained, then those it is tested with.
        rank, size: which one it is of how many that train one model.
    """

    def __init__(self, nets: Sequence[Net], rank: int = 0, size: int = 1) -> None:
        self._nets = nets
        self._rank = rank
        self._size = size

    @property
    def _device(self) -> torch.device:
        return self._nets[0].device

    def state(self) -> SolverState:
        """Generators, cursors and layers of this process, as if it were alone."""
        run = RunState()
        for name, random in random_states(self._device).items():
            run.random.add(name=name, state=random.numpy().tobytes())
        for key, source in self._sources():
            cursor = source.state()
            if cursor is not None:
                run.cursor.add(layer=key, records_read=cursor.records_read, seed=cursor.seed)
        for key, layer in self._layers():
            if tensors := layer.run_state():
                arrays = (tensor.detach().cpu().numpy() for tensor in tensors)
                run.layer.add(layer=key, blob=map(blobproto.from_array, arrays))
        return SolverState(run_state=run)

    def of_others(self, team: Team) -> list[RankState]:
        """The positions of all processes but the first, in order. All of them call this."""
        run = self.state().run_state
        own = RankState(random=run.random, cursor=run.cursor, layer=run.layer)
        told = team.gather_messages(own.SerializeToString())
        return [RankState.FromString(told[rank]) for rank in sorted(told) if rank]

    def load_state(self, state: SolverState) -> None:
        """Go on from this process's part of a state.

        If the state has none, the data goes on with the records after the first process's.
        """
        if not state.HasField("run_state"):
            return
        first = state.run_state
        ranks: list[RunState | RankState] = [first, *first.other_rank]
        own = ranks[self._rank] if self._rank < len(ranks) else None
        self._load_cursors(own or first)
        if own is not None:
            self._load_layers(own)
            self._load_random(own)
        else:
            self._draw_anew(first)
        size = len(ranks)
        if size != self._size and not self._rank:
            log.warning("This state is of a run of %d, not %d, processes: it goes on with the next"
                        " records, but draws other random numbers.", size, self._size)  # fmt: skip

    def _load_cursors(self, run: RunState | RankState) -> None:
        cursors = {cursor.layer: cursor for cursor in run.cursor}
        for key, source in self._sources():
            if key in cursors:
                cursor = cursors[key]
                seed = cursor.seed if cursor.HasField("seed") else None
                source.load_state(CursorState(cursor.records_read, seed))

    def _load_layers(self, run: RunState | RankState) -> None:
        states = {state.layer: state.blob for state in run.layer}
        for key, layer in self._layers():
            if key in states:
                arrays = map(blobproto.to_array, states[key])
                tensors = [torch.tensor(array, device=self._device) for array in arrays]
                layer.load_run_state(tensors)

    def _load_random(self, run: RunState | RankState) -> None:
        random = {
            generator.name: torch.frombuffer(bytearray(generator.state), dtype=torch.uint8)
            for generator in run.random
        }
        set_random_states(random, self._device)

    def _draw_anew(self, run: RunState) -> None:
        """Seed the random generators of a process that a state does not know, by the state and the
        process's number: whatever it has drawn before, it draws the same."""
        kept = b"".join(generator.state for generator in run.random)
        set_random_seed(zlib.crc32(kept) + self._rank)

    def _sources(self) -> Iterator[tuple[str, Source]]:
        """(key, source) of all data layers; keys are unique, names of layers need not be."""
        for which, net in enumerate(self._nets):
            for index, (name, source) in enumerate(net.sources):
                yield f"{which}/{index}/{name}", source

    def _layers(self) -> Iterator[tuple[str, Layer]]:
        """(key, layer) of all layers; keys are unique."""
        for which, net in enumerate(self._nets):
            for index, (name, layer) in enumerate(net.named_layers()):
                yield f"{which}/{index}/{name}", layer
