"""What training on several devices will take: a model of one iteration, as plain arithmetic.

A process's iteration by itself, and when its buckets of gradients become complete in it, are
measured (`timing_here.py`) or estimated (`devices.py`). The model adds what the processes tell each
other.

**All-reduce** of n bytes over p members with bandwidth B and latency a (a message takes a + n/B):

    ring    2 (p - 1) a + 2 (p - 1) / p n / B      every member sends its part on, p - 1 times twice
    tree    2 ceil(log2 p) a + 2 n / B             up and down two trees that share the load

The faster one counts where the library chooses (NCCL); gloo makes rings. With several machines the
g devices of one first add up among themselves, so that each holds n / g; those parts are added over
the machines, whose bandwidth they share; then each machine spreads the result:

    2 x ((g - 1) a + (g - 1) / g n / B)  +  all-reduce of n over the machines

**Overlap.** Buckets travel one after the other: bucket k starts when it is complete and the one
before it has arrived. What has not arrived at the end of the backward pass is waited for. Then the
means are copied into the gradients.

**Decisions.** Once an iteration all processes tell each other a few numbers over the CPU, p - 1
messages. Between processes on one CPU that is measured, since whoever waits has to be woken, and
all wait for the slowest.

**Cores.** Processes on one CPU share its cores, and copying for a message is their work, too. With
c seconds of a core for a byte that travels it takes N c bytes / cores, and only what fits into the
time in which N iterations of t seconds leave cores unused, t - N w / cores with w seconds of a core
in each, costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2


@dataclass(frozen=True)
class Bucket:
    """Gradients that travel together.

    Attributes:
        size: in bytes.
        left_s: how long the backward pass goes on after they are complete.
    """

    size: int
    left_s: float


@dataclass(frozen=True)
class Step:
    """One process's iteration, with nobody to talk to.

    Attributes:
        whole_s: its time.
        buckets: in the order in which they are sent.
        core_s: the time of cores that it takes; 0 on a GPU.
        decided_s: how long telling each other numbers takes, beside other processes; None: it
            follows from the latency of messages.
    """

    whole_s: float
    buckets: Sequence[Bucket]
    core_s: float = 0.0
    decided_s: float | None = None

    @property
    def size(self) -> int:
        """Bytes of all gradients."""
        return sum(bucket.size for bucket in self.buckets)


@dataclass(frozen=True)
class Link:
    """How members of a group reach each other.

    Attributes:
        bytes_s: bandwidth in one direction, in bytes a second.
        latency_s: of a message, in seconds.
        rings_only: whether trees are out of the question.
        core_s: seconds of a core for a byte that travels.
    """

    bytes_s: float
    latency_s: float
    rings_only: bool = False
    core_s: float = 0.0

    def ring_s(self, size: float, members: int) -> float:
        """Seconds of an all-reduce around a ring."""
        moved = 2 * (members - 1) / members * size
        return 2 * (members - 1) * self.latency_s + moved / self.bytes_s

    def tree_s(self, size: float, members: int) -> float:
        """Seconds of an all-reduce over two trees."""
        if members == 1:
            return 0.0
        return 2 * ceil(log2(members)) * self.latency_s + 2 * size / self.bytes_s

    def all_reduce_s(self, size: float, members: int) -> float:
        """Seconds of an all-reduce in the faster way."""
        ring = self.ring_s(size, members)
        return ring if self.rings_only else min(ring, self.tree_s(size, members))


@dataclass(frozen=True)
class Cluster:
    """Where the processes run.

    Attributes:
        devices: of each machine.
        machines: how many.
        inside: between the devices of a machine.
        between: between machines; its bandwidth is a machine's.
        told: between processes, for a few numbers over the CPU.
        copied_bytes_s: how fast gradients are copied.
        cores: that all processes of a machine share; 0: each has its own device.
    """

    devices: int
    machines: int
    inside: Link
    between: Link
    told: Link
    copied_bytes_s: float
    cores: int = 0

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.devices * self.machines

    def all_reduce_s(self, size: float) -> float:
        """Seconds of an all-reduce over all processes."""
        g, own = self.devices, self.inside
        spread = (g - 1) * own.latency_s + (g - 1) / g * size / own.bytes_s
        if self.machines == 1:
            return own.all_reduce_s(size, g)
        return 2 * spread + self.between.all_reduce_s(size, self.machines)


@dataclass(frozen=True)
class Forecast:
    """What the model says of an iteration, in seconds.

    Attributes:
        step_s: its time.
        alone_s: that of a process by itself.
        all_reduce_s: what averaging the gradients takes.
        waited_s: the part of it that the backward pass does not hide.
        copied_s: copying the means.
        decided_s: telling each other numbers.
        speedup: how many processes' work is done in a process's time alone.
    """

    step_s: float
    alone_s: float
    all_reduce_s: float
    waited_s: float
    copied_s: float
    decided_s: float
    speedup: float

    @property
    def hidden(self) -> float:
        """The share of the all-reduce that the backward pass hides."""
        return 1 - self.waited_s / self.all_reduce_s if self.all_reduce_s else 1.0


def forecast(step: Step, cluster: Cluster, *, alone_s: float = 0.0, share: float = 1.0) -> Forecast:
    """What an iteration of several processes takes.

    Args:
        step: one process's own work, beside the others if they share cores.
        alone_s: an iteration of one process that has the machine to itself; 0: as `step`.
        share: of a whole batch, what a process takes of it (`--strong`).
    """
    alone_s = alone_s or step.whole_s
    if cluster.size == 1:
        return Forecast(step.whole_s, alone_s, 0, 0, 0, 0, alone_s / step.whole_s)
    arrived, whole = float("-inf"), 0.0
    for bucket in step.buckets:
        takes = cluster.all_reduce_s(bucket.size)
        arrived = max(arrived, -bucket.left_s) + takes
        whole += takes
    waited = max(0.0, arrived)
    copied = step.size / cluster.copied_bytes_s
    decided = step.decided_s
    if decided is None:
        decided = (cluster.size - 1) * cluster.told.latency_s
    step_s = step.whole_s + waited + copied + decided
    if cluster.cores:
        moved = 2 * (cluster.size - 1) / cluster.size * step.size
        copying = cluster.size * cluster.inside.core_s * moved / cluster.cores
        unused = max(0.0, step.whole_s - cluster.size * step.core_s / cluster.cores)
        step_s = max(step_s, step.whole_s + max(0.0, copying - unused) + decided)
    speedup = cluster.size * share * alone_s / step_s
    return Forecast(step_s, alone_s, whole, waited, copied, decided, speedup)
