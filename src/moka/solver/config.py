"""Reading a solver: its message, the nets it names, and a check of every field before training."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from moka.errors import MokaError, SolverError
from moka.net import read_net
from moka.schema import caffe_pb2, read_text
from moka.schema.forks import FIRST_FORK_NUMBER
from moka.schema.upgrade import upgrade_solver
from moka.solver.average_precision import check_evaluation
from moka.solver.averaged_weights import check_average
from moka.solver.best_test import check_best
from moka.solver.choose import rule_class
from moka.solver.policy import check_other_policies, check_policy
from moka.solver.sparse_weights import SPARSITY, check_sparsity
from moka.solver.update import check_regularization
from moka.types import PathLike

log = logging.getLogger("moka.detail")


class SolverConfig(NamedTuple):
    """A solver's message in today's form, its snapshot prefix resolved, and the file to name in
    messages."""

    message: caffe_pb2.SolverParameter
    file: PathLike


SolverLike = PathLike | caffe_pb2.SolverParameter | SolverConfig


# Options of forks that solvers here have. What tests report (`eval_type`, `ap_version` of SSD)
# changes nothing in training.
FORKS_OPTIONS = frozenset(
    (
        "eval_type",
        "ap_version",
        "momentum_policy",
        "max_momentum",
        "momentum_power",
        "weight_decay_policy",
        "weight_decay_power",
        "clip_weights",
        "clamp_weights_lower",
        "clamp_weights_upper",
        "adamw_decay",
        "larc_turbo",
        "max_weight_decay",
        "disabled_update",
        "test_offset",
        "show_per_class_result",
        "local_lr_auto",
        "local_gw_ratio",
        *SPARSITY,
    )
)


@dataclass(frozen=True)
class NetToBuild:
    """A net the solver names, with the state it is built for."""

    param: caffe_pb2.NetParameter
    file: PathLike
    said: str  # where it came from, in Caffe's words


def read_solver(solver: SolverLike, file: PathLike | None = None) -> SolverConfig:
    """Read a solver; a config that has been read already is returned as it is.

    Args:
        solver: a prototxt file, or a message, which is copied.
        file: where a message came from.

    Raises:
        SchemaError: missing file, text that cannot be parsed, or an inconsistent old form.
    """
    if isinstance(solver, SolverConfig):
        return solver
    message = caffe_pb2.SolverParameter()
    if isinstance(solver, caffe_pb2.SolverParameter):
        file = file or "(given message)"
        message.CopyFrom(upgrade_solver(solver, file))
    else:
        file = file or solver
        message = upgrade_solver(read_text(solver, caffe_pb2.SolverParameter), file)
    _resolve_snapshot_prefix(message, file)
    return SolverConfig(message, file)


def _resolve_snapshot_prefix(config: caffe_pb2.SolverParameter, file: PathLike) -> None:
    """Say where snapshots go: as given, else by the solver file's name; within a folder by its
    stem."""
    stem = Path(file).with_suffix("")
    is_given = bool(config.snapshot_prefix)
    prefix = config.snapshot_prefix or str(stem)
    config.snapshot_prefix = str(Path(prefix) / stem.name) if os.path.isdir(prefix) else prefix
    if not is_given:
        log.info("snapshot_prefix was not specified and is set to %s", config.snapshot_prefix)


def check_solver(config: caffe_pb2.SolverParameter, file: PathLike) -> None:
    """Raises SolverError for what would fail, or be ignored, only later."""
    try:
        rule_class(config)
        check_policy(config)
        check_other_policies(config)
        check_evaluation(config)
        check_regularization(config)
        check_average(config)
        check_best(config)
        check_sparsity(config)
        _check_shard(config)
        if config.max_iter < 0:
            raise SolverError(f"max_iter must be >= 0, got {config.max_iter}.")
        if config.iter_size < 1:
            raise SolverError(f"iter_size must be > 0, got {config.iter_size}.")
        if config.average_loss < 1:
            raise SolverError(f"average_loss must be > 0, got {config.average_loss}.")
        for field, value in config.ListFields():
            if (
                field.number >= FIRST_FORK_NUMBER
                and field.name not in FORKS_OPTIONS
                and value != field.default_value
            ):
                raise SolverError(f"{field.name} is an option of a fork that no solver here has.")
        for name in ("snapshot", "snapshot_keep", "skip_nonfinite"):
            if getattr(config, name) < 0:
                raise SolverError(f"{name} must be >= 0, got {getattr(config, name)}.")
    except MokaError as error:
        raise error.at(file=file) from None


def _check_shard(config: caffe_pb2.SolverParameter) -> None:
    """Raises SolverError for what needs whole parameters while they are divided."""
    for name in ("larc", "local_lr_auto", "ema_decay", "sparse_mode") if config.shard else ():
        if getattr(config, name):
            raise SolverError(
                f"shard and {name} do not go together: {name} needs whole parameters.",
                advice=f"Leave out shard or {name}.",
            )


def check_precision(config: caffe_pb2.SolverParameter, processes: int, file: PathLike) -> None:
    """Raises SolverError if the precision does not go with this number of processes."""
    if config.precision == caffe_pb2.SolverParameter.FP16 and processes > 1:
        raise SolverError(
            f"precision FP16 works in one process, here are {processes}: each would scale its loss"
            " by itself.",
            file=file,
            advice="Set precision: BF16.",
        )


def train_net(config: caffe_pb2.SolverParameter, file: PathLike) -> NetToBuild:
    """The one net to train: train_net_param, train_net, net_param or net.

    Raises:
        SolverError: none of them, or more than one.
    """
    fields = ("net", "net_param", "train_net", "train_net_param")
    given = [name for name in fields if config.HasField(name)]
    if len(given) != 1:
        raise SolverError(
            "SolverParameter must specify a train net using one of these fields: "
            f"{', '.join(fields)}; found {', '.join(given) or 'none'}.",
            file=file,
        )
    name = given[0]
    if name.endswith("_param"):
        said = f"Creating training net specified in {name}."
        net, net_file = read_net(getattr(config, name))[0], file
    else:
        kind = "train_net" if name == "train_net" else "net"
        said = f"Creating training net from {kind} file: {getattr(config, name)}"
        net, net_file = read_net(getattr(config, name))
    return _with_state(net, net_file, said, caffe_pb2.TRAIN, config.train_state)


def test_nets(config: caffe_pb2.SolverParameter, file: PathLike) -> list[NetToBuild]:
    """The nets to test with: test_net_param, then test_net, then net or net_param for the rest.

    Raises:
        SolverError: the number of test_iter or test_state does not fit.
    """
    general = config.HasField("net") + config.HasField("net_param")
    named = len(config.test_net_param) + len(config.test_net)
    if general:
        if len(config.test_iter) < named:
            raise SolverError("test_iter must be specified for each test network.", file=file)
    elif len(config.test_iter) != named:
        raise SolverError("test_iter must be specified for each test network.", file=file)
    count = len(config.test_iter)
    if count and min(config.test_iter) < 0:
        raise SolverError(f"test_iter must be >= 0, got {min(config.test_iter)}.", file=file)
    if config.test_state and len(config.test_state) != count:
        raise SolverError(
            "test_state must be unspecified or specified once per test net: "
            f"{len(config.test_state)} for {count}.",
            file=file,
        )
    if count and config.test_interval <= 0:
        raise SolverError("test_iter needs a test_interval > 0.", file=file)
    nets: list[tuple[caffe_pb2.NetParameter, PathLike, str]] = [
        (read_net(param)[0], file, "test_net_param") for param in config.test_net_param
    ]
    nets += [(*read_net(name), f"test_net file: {name}") for name in config.test_net]
    while len(nets) < count:
        if config.HasField("net_param"):
            nets.append((read_net(config.net_param)[0], file, "net_param"))
        else:
            nets.append((*read_net(config.net), f"net file: {config.net}"))
    states = list(config.test_state) or [caffe_pb2.NetState()] * count
    return [
        _with_state(
            net, net_file, f"Creating test net (#{i}) specified by {said}", caffe_pb2.TEST, state
        )
        for i, ((net, net_file, said), state) in enumerate(zip(nets, states, strict=True))
    ]


def _with_state(
    net: caffe_pb2.NetParameter,
    file: PathLike,
    said: str,
    phase: caffe_pb2.Phase,
    state: caffe_pb2.NetState,
) -> NetToBuild:
    merged = caffe_pb2.NetState(phase=phase)
    own = caffe_pb2.NetState()
    own.CopyFrom(net.state)
    own.ClearField("phase")
    merged.MergeFrom(own)
    merged.MergeFrom(state)
    with_state = caffe_pb2.NetParameter()
    with_state.CopyFrom(net)
    with_state.state.CopyFrom(merged)
    return NetToBuild(with_state, file, said)
