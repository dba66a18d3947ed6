from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from moka.inference import parameters
from moka.inference.parameters import ROW, Watch, print_of
from moka.net import Net

if TYPE_CHECKING:
    from tests.conftest import NetMaker

TEXT = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3000 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" } } }
"""
NO_COUNT = "this build of PyTorch cannot say how many use a memory"
COUNTED = pytest.mark.skipif(parameters.USERS_OF_MEMORY is None, reason=NO_COUNT)


@pytest.mark.parametrize("count", [0, 1, 7, ROW, ROW + 1, 5 * ROW + 3])
def test_any_change_shows_in_the_print(count: int) -> None:
    values = torch.randn(count)
    before = print_of(values)
    assert before.equals(print_of(values.clone()))
    changes = [values * 2, -values, values + 1e-3, values.flip(0), values.roll(1)]
    for changed in changes if count > 1 else []:
        assert not print_of(changed).equals(before)
    for k in range(0, count, 97):
        changed = values.clone()
        changed[k] += 1e-3
        assert not print_of(changed).equals(before)
    if count > ROW:
        changed = values.clone()
        changed[0], changed[ROW] = values[ROW], values[0]
        assert not print_of(changed).equals(before)


def test_the_print_of_odd_memory() -> None:
    values = torch.randn(4 * ROW + 1)
    assert print_of(values[1:]).equals(print_of(values[1:].clone()))  # not aligned to 8 bytes
    table = torch.randn(ROW, 8)
    assert print_of(table.t()).equals(print_of(table.t().contiguous()))
    nan = torch.full((ROW,), torch.nan)
    assert print_of(nan).equals(print_of(nan.clone()))


@pytest.fixture
def net(make_net: NetMaker) -> Net:
    return make_net(TEXT)


def watch_of(net: Net) -> Watch:
    watch = Watch(net)
    watch.look()
    assert not watch.has_changed()
    return watch


def test_a_held_array_is_looked_at_again_and_again(net: Net) -> None:
    watch = watch_of(net)
    array = net.layer_blobs(1)[0].data
    for _ in range(2):
        assert not watch.has_changed()
    array[0, 0] += 1
    assert watch.has_changed()
    watch.look()
    array[0, 0] += 1
    del array
    assert watch.has_changed()


def test_a_held_parameter_is_looked_at_again_and_again(net: Net) -> None:
    watch = watch_of(net)
    values = net.get_parameter("ip.weight").data
    for _ in range(3):
        assert not watch.has_changed()
    values[0, 0] += 1
    assert watch.has_changed()
    watch.look()
    values[0, 0] += 1
    del values
    assert watch.has_changed()


def test_what_was_held_before_the_watch_counts_as_held(net: Net) -> None:
    values = net.get_parameter("ip.weight").data
    watch = watch_of(net)
    assert not watch.has_changed()
    values[0, 0] += 1
    assert watch.has_changed()


def test_without_a_count_of_memory_whoever_got_hold_of_a_parameter_may_hold_it(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parameters, "USERS_OF_MEMORY", None)
    watch = watch_of(net)
    array = net.get_parameter("ip.weight").detach().numpy()
    for _ in range(3):
        assert not watch.has_changed()
        assert net.layers[1].exposures
    array[0, 0] += 1
    assert watch.has_changed()


def test_a_change_back_is_none(net: Net) -> None:
    watch = watch_of(net)
    weight = net.layers[1].weights[0]
    with torch.no_grad():
        weight.mul_(2)
        weight.div_(2)
    assert not watch.has_changed()


def test_a_change_through_the_weights_of_a_layer(net: Net) -> None:
    watch = watch_of(net)
    for _ in range(9):
        assert not watch.has_changed()
    net.layers[1].weights[0].data.mul_(2)
    assert watch.has_changed()


@COUNTED
def test_references_of_programs_do_not_count(net: Net) -> None:
    watch = Watch(net)
    with watch.our_own_references():
        ours = [weight.detach() for weight in net.layers[1].weights]
    watch.look()
    assert net.get_parameter("ip.weight").shape == (3, 3000)
    assert not watch.has_changed()
    assert not net.layers[1].exposures
    theirs = net.get_parameter("ip.weight")
    assert not watch.has_changed()
    assert net.layers[1].exposures
    del theirs, ours


@COUNTED
def test_it_gets_calm_when_nobody_holds_a_parameter_any_more(net: Net) -> None:
    watch = watch_of(net)
    graph = net(torch.ones(1, 3000))  # which leads to the parameters
    for _ in range(9):
        assert not watch.has_changed()
        assert not watch.is_calm()
    del graph
    for _ in range(9):
        assert not watch.has_changed()
    assert watch.is_calm()


@pytest.fixture
def calm(net: Net, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """A watch that looks at no parameter, for nobody has got hold of one for a while."""
    if parameters.USERS_OF_MEMORY is None:
        pytest.skip(NO_COUNT)
    watch = watch_of(net)
    for _ in range(99):
        assert not watch.has_changed()
    assert watch._calm == watch._last
    looks: list[Watch] = []
    glance = Watch._glance_now

    def counted(watch: Watch) -> object:
        looks.append(watch)
        return glance(watch)

    monkeypatch.setattr(Watch, "_glance_now", counted)
    assert not watch.has_changed()
    assert not looks
    return watch


def test_after_a_calm_time_every_change_is_noticed(net: Net, calm: Watch) -> None:
    with torch.no_grad():
        net.layers[1].weights[0].mul_(2)
    assert calm.has_changed()


def test_after_a_calm_time_another_parameter_is_noticed(net: Net, calm: Watch) -> None:
    net.layers[1].share_weight(0, torch.nn.Parameter(torch.ones(3, 3000)))
    assert calm.has_changed()


def test_it_is_not_calm_while_somebody_holds_a_parameter(net: Net, calm: Watch) -> None:
    held = net.layers[1].weights[0]
    for _ in range(4):
        assert not calm.has_changed()
    with torch.no_grad():
        held.mul_(2)
    assert calm.has_changed()
