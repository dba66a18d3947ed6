"""What a process does because others train the same model: all of it in one place for the loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from torch import nn

from moka.net import Net
from moka.parallel.pace import Pace
from moka.parallel.shard import Sharding
from moka.parallel.sync import SharedStatistics
from moka.parallel.team import Team
from moka.schema.caffe_pb2 import SolverParameter


class Together:
    """The parts of parallel training that a solver's message asks for.

    Args:
        net: this process's copy of the model.
        team: the processes.
        config: the solver's message.

    Attributes:
        pace: how fast each process works.
        is_sharded: whether each process keeps a part of the parameters only.
    """

    def __init__(self, net: Net, team: Team, config: SolverParameter) -> None:
        self._net = net
        self._team = team
        divides = config.shard and team.is_connected
        self._sharding = Sharding(net, team) if divides else None
        self._statistics = SharedStatistics(net, team, everywhere=config.sync_bn)
        self.pace = Pace(team)

    @property
    def is_sharded(self) -> bool:
        return self._sharding is not None

    def join(self, team: Team) -> None:
        """Talk to these processes from now on."""
        self._team = self._statistics.team = self.pace.team = team

    def passing(self) -> AbstractContextManager[None]:
        """Around a pass of the net."""
        return self._team.calls_of_pytorch() if self._sharding else nullcontext()

    def whole(self) -> AbstractContextManager[None]:
        """Inside, which all processes enter, this one has all parameters to read and test."""
        return self._sharding.whole() if self._sharding else nullcontext()

    def take_over(self, parameters: Sequence[nn.Parameter]) -> None:
        """Within `whole`: keep what was written to the parameters, those of `net.learnable`."""
        if self._sharding:
            self._sharding.take_over(self._net, parameters)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, which all processes enter, this one can run the net without the others."""
        with ExitStack() as stack:
            stack.enter_context(self._statistics.left_out())
            if self._sharding:
                stack.enter_context(self._sharding.alone())
            yield
