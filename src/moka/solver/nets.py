"""The nets of a solver, built alike in every process that trains the model."""

from __future__ import annotations

import logging

import torch

from moka.context import set_random_seed
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.net import Net
from moka.net.other_meanings import tell_other_meanings
from moka.parallel.alike import check_alike, check_records
from moka.parallel.share import share_of_data, split_batches
from moka.parallel.team import Team
from moka.schema.caffe_pb2 import TRAIN
from moka.solver.config import NetToBuild, SolverConfig, test_nets, train_net
from moka.weights import load_weights, named_files

log = logging.getLogger("moka.detail")


def build_nets(
    config: SolverConfig,
    device: torch.device | None,
    team: Team,
    splits_batches: bool = False,
) -> tuple[Net, list[Net]]:
    """The net to train and the nets to test it with, with the weights that the solver names.

    Args:
        splits_batches: give each process a part of the train net's batches, instead of a batch.

    With a `random_seed` parameters and the order of the data are the same in every process of the
    team, and so in a connected team without one. What is drawn later, each process draws by itself.

    Raises:
        MokaError: a net, its data or its weights have a fault.
    """
    seed = _common_seed(config.message.random_seed, team)
    if seed is not None:
        set_random_seed(seed)
    net = _build(train_net(*config), config, device, team, splits_batches)
    if not net.loss_tops:
        log.warning(
            "%s: the train net has no loss: nothing is learned. If a program gives the diffs"
            " itself, write force_backward: true into the net.",
            config.file,
        )
    elif net.learnable and not any(blob.lr_mult for blob in net.learnable):
        log.warning("%s: all parameters have lr_mult 0: nothing is learned.", config.file)
    tests = [_build(test, config, device, team) for test in test_nets(*config)]
    if team.is_connected:
        check_alike(team, config.message, [net, *tests])
        check_records(team, net)
    if seed is not None and not team.is_first:
        set_random_seed(team.own_seed(seed))
    return net, tests


def _common_seed(random_seed: int, team: Team) -> int | None:
    """The seed from which all processes begin; None if there is none."""
    if random_seed >= 0:
        return random_seed
    if team.is_connected:
        return int(team.gather_numbers(float(torch.randint(2**52, ())))[0][0])
    return None


def _build(
    wanted: NetToBuild,
    config: SolverConfig,
    device: torch.device | None,
    team: Team,
    splits_batches: bool = False,
) -> Net:
    log.info(wanted.said)
    graph = build_graph(wanted.param, REGISTRY, file=wanted.file)
    if splits_batches:
        split = split_batches(graph, team.size)
        graph = build_graph(split, REGISTRY, phase=graph.phase, file=wanted.file)
    if graph.phase == TRAIN:
        tell_other_meanings(graph)
    net = Net(graph, device, share=share_of_data(graph.phase, team))
    load_weights(
        net,
        [file for weights in config.message.weights for file in named_files(weights)],
        announce=lambda file: log.info("Finetuning from %s", file),
        say_what_is_missing=graph.phase == TRAIN,
    )
    return net
