"""`solver_type: ADAM` of a solver becomes `type: "Adam"`, as do other spellings of that name."""

from __future__ import annotations

from moka.errors import SchemaError
from moka.schema import caffe_pb2
from moka.schema.upgrade.step import Step

TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}


def needed(solver: caffe_pb2.SolverParameter) -> bool:
    """Whether the solver has `solver_type`."""
    return solver.HasField("solver_type")


def upgrade(solver: caffe_pb2.SolverParameter) -> caffe_pb2.SolverParameter:
    """A copy with `type` instead.

    Raises:
        SchemaError: the solver has both.
    """
    name = caffe_pb2.SolverParameter.SolverType.Name(solver.solver_type)
    if solver.HasField("type"):
        raise SchemaError(
            f'it has both solver_type: {name} and type: "{solver.type}".',
            advice="Leave out solver_type, the older form.",
        )
    new = caffe_pb2.SolverParameter()
    new.CopyFrom(solver)
    new.ClearField("solver_type")
    new.type = TYPES[name]
    return new


def with_todays_name(solver: caffe_pb2.SolverParameter) -> caffe_pb2.SolverParameter:
    """Return the solver with its type's name in today's spelling; `solver` does not change."""
    today = TYPES.get(solver.type.upper(), solver.type)
    if today == solver.type:
        return solver
    new = caffe_pb2.SolverParameter()
    new.CopyFrom(solver)
    new.type = today
    return new


STEP = Step(
    attempt="Attempting to upgrade input file specified using deprecated 'solver_type' field"
    " (enum)'",
    success="Successfully upgraded file specified using deprecated 'solver_type' field (enum) to"
    " 'type' field (string).",
    needed=needed,
    upgrade=upgrade,
)
