"""Turn older forms of nets and solvers into today's form as they are read.

Each module is one step, and the steps run in BVLC Caffe's order. All other code sees only the
newest form.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypeVar

from moka.errors import MokaError
from moka.schema import caffe_pb2
from moka.schema.upgrade import batch_norm, inputs, solver_type, transformation, v0, v1
from moka.schema.upgrade.engine_options import without_engine_options
from moka.schema.upgrade.forms import with_forms
from moka.schema.upgrade.stacked import with_single_layers
from moka.schema.upgrade.step import Step
from moka.types import PathLike

M = TypeVar("M")

NET_STEPS = (v0.STEP, transformation.STEP, v1.STEP, inputs.STEP, batch_norm.STEP)
SOLVER_STEPS = (solver_type.STEP,)
log = logging.getLogger("moka")


def net_needs_upgrade(net: caffe_pb2.NetParameter) -> bool:
    """Whether anything in the net is in an older form."""
    return any(step.needed(net) for step in NET_STEPS)


def solver_needs_upgrade(solver: caffe_pb2.SolverParameter) -> bool:
    """Whether anything in the solver is in an older form; nets inside it are not asked."""
    return any(step.needed(solver) for step in SOLVER_STEPS)


def upgrade_net(net: caffe_pb2.NetParameter, file: PathLike = "(text)") -> caffe_pb2.NetParameter:
    """Return the net in today's form; `net` itself does not change.

    What has no place in today's form is dropped with an error in the log (see `net_problems`).
    Options that only steer another engine are left out with a line in the log, and layers get the
    defaults of the form that their fork means.

    Raises:
        SchemaError: the old form is inconsistent.
    """
    return with_single_layers(with_forms(without_engine_options(_run(NET_STEPS, net, file), file)))


def upgrade_solver(
    solver: caffe_pb2.SolverParameter, file: PathLike = "(text)"
) -> caffe_pb2.SolverParameter:
    """Return the solver in today's form, but for nets inside it; `solver` itself does not change.

    Raises:
        SchemaError: the old form is inconsistent.
    """
    new = solver_type.with_todays_name(_run(SOLVER_STEPS, solver, file))
    return without_engine_options(new, file)


def net_problems(net: caffe_pb2.NetParameter) -> list[str]:
    """Return a sentence for each field that `upgrade_net` would drop."""
    return [p for step in NET_STEPS if step.needed(net) for p in step.problems(net)]


def _run(steps: Sequence[Step[M]], message: M, file: PathLike) -> M:
    try:
        for step in steps:
            if not step.needed(message):
                continue
            log.info("%s: %s", step.attempt, file)
            problems = step.problems(message)
            for problem in problems:
                log.error("%s", problem)
            message = step.upgrade(message)
            if problems:
                log.error("Warning: had one or more problems upgrading (see above);"
                          " continuing anyway.")  # fmt: skip
            else:
                log.info("%s", step.success)
    except MokaError as error:
        raise error.at(file=file) from None
    return message
