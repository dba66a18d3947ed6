"""Whether all processes that train one model were given the same net, solver and data."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping

from moka.errors import SolverError
from moka.net import Net
from moka.parallel.team import Team
from moka.schema.caffe_pb2 import SolverParameter

PLACES = ("snapshot_prefix", "net", "train_net", "test_net", "weights")  # may differ by machine


def check_alike(team: Team, config: SolverParameter, nets: Iterable[Net]) -> None:
    """Compare what each process was given; all of them call this.

    Texts are compared by their checksum, data by the number of records.

    Args:
        nets: the net that is trained, then those it is tested with.

    Raises:
        SolverError: one process was given something else than the first; or there are more
            processes than records to train on.
    """
    own = _facts(config, list(nets))
    told = team.gather_messages(json.dumps(own).encode())
    first: Mapping[str, str] = json.loads(told[0])
    for rank, message in told.items():
        given: Mapping[str, str] = json.loads(message)
        for name in dict.fromkeys((*first, *given)):
            if first.get(name) != given.get(name):
                raise SolverError(
                    f"process {rank} of {team.size} was given another {name} than the first:"
                    f" {given.get(name, 'none')} instead of {first.get(name, 'none')}.",
                    advice="Give all machines the same files.",
                )


def check_records(team: Team, net: Net) -> None:
    """Raises SolverError if a process would get no record of its own in an epoch."""
    for name, source in net.sources:
        count = source.record_count()
        if count is not None and count < team.size:
            raise SolverError(
                f"{team.size} processes cannot share {count} records.",
                advice="Train with fewer processes.",
            ).at(file=net.graph.file, layer=name, layer_type=source.config.type)


def _facts(config: SolverParameter, nets: list[Net]) -> dict[str, str]:
    """What has to be equal, by its name in messages."""
    solver = SolverParameter()
    solver.CopyFrom(config)
    for name in PLACES:
        solver.ClearField(name)
    facts = {"solver": _checksum(solver.SerializeToString(deterministic=True))}
    for index, net in enumerate(nets):
        kind = f"test net {index - 1}" if index else "train net"
        layers = (node.layer.SerializeToString(deterministic=True) for node in net.graph.nodes)
        facts[kind] = _checksum(b"".join(layers))
        for name, source in net.sources:
            count = source.record_count()
            if count is not None:
                facts[f'database for layer "{name}" of the {kind}'] = f"{count} records"
    return facts


def _checksum(text: bytes) -> str:
    return f"checksum {zlib.crc32(text):08x}"
