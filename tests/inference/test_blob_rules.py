"""`caffe.Net` on programs: each rule of its blobs by itself."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
from tests.inference.twins import BRANCHES, Twins, close

from moka.inference import blobs


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    """Twins on PyTorch's programs, after some passes."""
    twins = Twins(BRANCHES, tmp_path, "torch", 0)
    twins.forwards()
    return twins


def runs_programs(twins: Twins) -> bool:
    """Whether the next pass is a program's."""
    twins.write_inputs()
    twins.forward_quietly()
    return bool(twins.engine_of_fast.promised)


def test_a_promised_blob_belongs_to_the_pass_whose_inputs_have_been_overwritten(
    twins: Twins,
) -> None:
    twins.forward_quietly()
    twins.write_inputs()
    twins.compare("conv")
    twins.read_all()


def test_a_blob_that_is_read_is_an_output_of_the_next_pass(twins: Twins) -> None:
    assert runs_programs(twins)
    assert twins.engine_of_fast.promised >= {"conv", "pool"}
    twins.compare("conv")
    assert not twins.engine_of_fast.promised
    twins.forward_quietly()
    assert "conv" not in twins.engine_of_fast.promised
    assert "pool" in twins.engine_of_fast.promised
    for _ in range(blobs.REMEMBERED):
        twins.forward_quietly()
    assert runs_programs(twins)


def test_while_an_array_of_a_blob_is_held_it_stays_live(twins: Twins) -> None:
    array = twins.fast.blobs["conv"].data[0, 1:]  # a view counts too
    for _ in range(5):
        twins.write_inputs()
        twins.forward_quietly()
        assert "conv" not in twins.engine_of_fast.promised
        close("conv", array, twins.slow.blobs["conv"].data[0, 1:])


def test_a_parameter_that_is_written_through_an_old_array(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "PAUSE", 0)
    held = [net.params["ip"][0].data for net in (twins.fast, twins.slow)]
    assert not runs_programs(twins)  # nobody knows when it is written to
    for array in held:
        array *= 3
    twins.compare("sum")  # of before
    twins.forward_quietly()
    twins.compare("prob")
    for array in held:
        array += 1
    del held, array
    assert runs_programs(twins)
    twins.compare("prob")


def test_a_parameter_is_read_after_a_pass_and_written_before_a_blob_is_read(twins: Twins) -> None:
    assert runs_programs(twins)
    for net in (twins.fast, twins.slow):
        net.params["conv"][0].data[...] = 0
    twins.read_all()
    twins.forward()
    twins.compare("prob")


def test_a_backward_pass_and_the_next_passes_go_layer_by_layer(twins: Twins) -> None:
    assert runs_programs(twins)
    twins.backward()
    assert not runs_programs(twins)
    for _ in range(blobs.PAUSE):
        twins.forward_quietly()
    assert runs_programs(twins)


def test_nets_that_share_parameters(twins: Twins, tmp_path: Path) -> None:
    other = Twins(BRANCHES, tmp_path, "torch", 1)
    for mine, theirs in ((twins.fast, other.fast), (twins.slow, other.slow)):
        mine.share_with(theirs)
    assert not runs_programs(twins)
    for net in (other.fast, other.slow):
        net.params["conv"][0].data[...] *= 2
    twins.forward_quietly()
    twins.read_all()


def test_nothing_is_kept_twice(twins: Twins) -> None:
    """Promised blobs take no memory, and there are no gradients."""
    assert runs_programs(twins)
    memories = {name: blob.data_memory for name, blob in twins.fast.blobs.items()}
    assert {n for n, m in memories.items() if m._host is not None} == {"data", "prob"}
    assert not twins.fast._engine._records
    assert all(w.grad is None for w in twins.fast._net.parameters())


def test_the_first_passes_of_a_shape_make_no_program(tmp_path: Path) -> None:
    twins = Twins(BRANCHES, tmp_path, "auto", 0)
    twins.forward_quietly()
    assert not twins.engine_of_fast.promised
    for _ in range(2):
        twins.forward_quietly()
    assert twins.engine_of_fast.promised
    for net in (twins.fast, twins.slow):
        net.blobs["data"].reshape(1, 3, 12, 12)
    twins.write_inputs()
    twins.forward_quietly()
    assert not twins.engine_of_fast.promised


def test_large_blobs_are_promised_by_passes_of_the_layers_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = Twins(BRANCHES, tmp_path, "auto", 0)
    numbers = sum(
        blob.count for name, blob in twins.fast.blobs.items() if name not in ("data", "prob")
    )
    monkeypatch.setattr(blobs, "MOST_KEPT", numbers)
    twins.forward_quietly()
    assert not twins.engine_of_fast.promised
    monkeypatch.setattr(blobs, "MOST_KEPT", numbers - 1)
    twins = Twins(BRANCHES, tmp_path, "auto", 0)
    twins.forward_quietly()
    assert twins.engine_of_fast.promised == {*twins.fast.blobs} - {"data", "prob"}
    twins.write_inputs()
    twins.read_all()


TRAINING = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 } } }
layer { name: "in" type: "ReLU" bottom: "data" top: "data" }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "rnn" type: "Reshape" bottom: "ip" top: "out" reshape_param { shape { dim: -1 } } }
"""


def test_an_input_that_a_layer_overwrites(tmp_path: Path) -> None:
    twins = Twins(TRAINING, tmp_path, "torch", 0)
    twins.both(lambda net: net.forward())
    assert not twins.engine_of_fast.promised
    twins.both(lambda net: net.forward())
    twins.read_all()


@pytest.mark.parametrize("keep", ["blob", "blobs", "nothing"])
def test_a_blob_that_outlives_its_net(twins: Twins, keep: str) -> None:
    assert runs_programs(twins)
    wanted = twins.slow.blobs["conv"].data.copy()
    thing: Any = None
    if keep != "nothing":
        thing = twins.fast.blobs if keep == "blobs" else twins.fast.blobs["conv"]
    gone = weakref.ref(twins.fast._net)
    gc.collect()
    gc.disable()
    try:
        del twins.fast
        assert (gone() is None) or thing is not None
    finally:
        gc.enable()
    if thing is not None:
        close("conv", (thing if keep == "blob" else thing["conv"]).data, wanted)
