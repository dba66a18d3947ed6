"""Random nets: equal for equal seeds, of many types, and with numbers that can be compared."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import random_nets
from layer_kinds import KINDS, LOSSES
from random_nets import SIZES, STEADY, TEST, TRAIN, Input, _Generator, random_net

from moka.export.difference import difference_of
from moka.export.reference import reference
from moka.layers import REGISTRY
from moka.schema import caffe_pb2, parse_text
from moka.types import Array

SEEDS = range(5)


def types_of(text: str) -> list[str]:
    return re.findall(r'type: "(\w+)"', text)


@pytest.mark.parametrize("phase", [TEST, TRAIN])
def test_the_same_seed_makes_the_same_net(phase: caffe_pb2.Phase) -> None:
    one, same, other = (random_net(seed, phase) for seed in (3, 3, 4))
    assert one.text == same.text != other.text
    for name, values in one.given(1).items():
        np.testing.assert_array_equal(values, same.given(1)[name])
    for layer, arrays in one.parameters.items():
        for array, again in zip(arrays, same.parameters[layer], strict=True):
            np.testing.assert_array_equal(array, again)


def test_nets_are_of_many_types_and_can_be_built() -> None:
    types: Counter[str] = Counter()
    for seed in SEEDS:
        for phase in (TEST, TRAIN):
            made = random_net(seed, phase)
            net = made.build()
            types.update(types_of(made.text))
            for place in net.places:
                for weight, values in zip(
                    place.layer.weights, made.parameters.get(place.node.name, ()), strict=True
                ):
                    np.testing.assert_array_equal(weight.detach().numpy(), values)
            reference(net, made.given(0), list(net.graph.outputs))
    assert len(types) > 35
    assert types.keys() <= {"Input", *(kind.type for kind in (*KINDS, *LOSSES))}


def test_nets_for_training_have_losses_and_gradients() -> None:
    losses = 0
    for seed in SEEDS:
        net = random_net(seed, TRAIN).build()
        losses += bool(net.loss_tops)
        assert all(p.layer.entry.differentiable for p in net.places if p.node.bottoms)
    assert losses > len(SEEDS) / 2


def test_numbers_are_of_moderate_size_and_steady() -> None:
    """No ties that rounding decides: where the inputs move a little, no blob moves much."""
    moves = 0
    for seed in SEEDS:
        made = random_net(seed, TEST)
        net, given, moved = made.build(), made.given(0), replace(made, shake=1e-7).given(0)
        differ = {name for name, values in given.items() if (moved[name] != values).any()}
        assert all(made.inputs[name].is_real for name in differ)
        moves += bool(differ)
        names = list(net.graph.outputs)
        found, wanted = reference(net, moved, names), reference(net, given, names)
        for name in names:
            assert np.abs(wanted[name]).max() < 10 * SIZES[1]
            assert difference_of(found[name], wanted[name], name).relative < 5 * STEADY
    assert moves > len(SEEDS) / 2


def test_ties_and_sums_that_cancel_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_kept(fields: str, values: Array) -> bool:
        generator = _Generator(0, TEST)
        monkeypatch.setattr(random_nets, "_normal", lambda draw, shape: values)
        generator._show("x", Input(values.shape, random_nets._normal))
        line = f'layer {{ name: "it" bottom: "x" top: "y" {fields} }}'
        return generator._keep_if_safe("it", line, ["x"], ["y"])

    different = np.asarray([[0.5, 3, -1, 2]], np.float32)
    assert is_kept('type: "ArgMax"', different)
    assert not is_kept('type: "ArgMax"', np.asarray([[3, 0.5, -1, 3]], np.float32))
    sums = 'type: "Reduction" reduction_param { axis: 1 }'
    assert is_kept(sums, different)
    assert not is_kept(sums, np.asarray([[1, -1, 2, -2]], np.float32))
    assert not is_kept('type: "Exp" exp_param { scale: 50 }', different)


def test_another_batch() -> None:
    for seed in SEEDS:
        made = random_net(seed, TEST)
        for name, values in made.given(0, made.batch + 2).items():
            shape = made.inputs[name].shape
            assert values.shape[1:] == shape[1:]
            assert values.shape[0] == (made.batch + 2 if shape[0] == made.batch else shape[0])


def test_every_kind_of_the_table_can_be_drawn() -> None:
    """Each has a message whose fields exist, once its choices are made."""
    generator = _Generator(0, TEST)
    for kind in (*KINDS, *LOSSES):
        assert kind.type in REGISTRY
        for _ in range(20):
            text = generator._drawn(kind.message, (2, 4, 5, 6))
            parse_text(f'layer {{ type: "{kind.type}" {text} }}', caffe_pb2.NetParameter)


def test_layers_share_parameters_in_training() -> None:
    nets = (random_net(seed, TRAIN) for seed in range(40))
    shared = next(net for net in nets if len(re.findall('"shared_', net.text)) > 1)
    assert shared.build().learnable
