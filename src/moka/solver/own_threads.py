"""Whether a solver may choose its number of threads, and the choice."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from moka.net import Net
from moka.net.cost import multiply_adds
from moka.parallel.team import Team
from moka.schema.caffe_pb2 import SolverParameter
from moka.threads import ThreadChoice, may_choose

LARGE = 2 * 10**9  # multiplications of a pass; larger steps take seconds and lose little by waiting


def measured_steps(
    config: SolverParameter, net: Net, team: Team
) -> Callable[[], AbstractContextManager[None]]:
    """What a solver runs each step in: a choice of the number of threads, where it is free and can
    matter; else nothing."""
    most = torch.get_num_threads()
    is_free = may_choose() and config.random_seed < 0 and not team.is_connected
    can_matter = net.device.type == "cpu" and most > 1
    if is_free and can_matter and config.iter_size * multiply_adds(net) < LARGE:
        return ThreadChoice(most, torch.set_num_threads).step
    return nullcontext
