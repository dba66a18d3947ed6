from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.inference.test_parameters import COUNTED
from tests.inference.twins import unseen
from torch import Tensor

from moka.errors import DataError
from moka.huge_pages import NewMemory, range_of
from moka.inference import engines, parameters
from moka.inference import fast as fast_module
from moka.inference.contract import Run, Task
from moka.inference.engines import engine_is, set_engine
from moka.inference.fast import Fast
from moka.inference.folded import Folded

if TYPE_CHECKING:
    from tests.conftest import NetMaker

TEXT = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "ip" top: "relu" }
layer { name: "prob" type: "Softmax" bottom: "relu" top: "prob" }
"""


def given(rows: int = 2) -> dict[str, Tensor]:
    return {"data": torch.randn(rows, 3)}


def passes(
    fast: Fast, count: int, wanted: Collection[str] = ("prob",), rows: int = 2
) -> list[bool]:
    """Run some passes; which were a program's."""
    seen = []
    for _ in range(count):
        x = given(rows)
        made = fast.run(x, wanted)
        seen.append(made is not None)
        with unseen(), torch.no_grad():
            truth = fast.net.propagate(x, wanted)
        if made is None:
            fast.learn(x, wanted)
        else:
            for name in wanted:
                torch.testing.assert_close(made[name], truth[name])
    return seen


def is_settled(fast: Fast) -> bool:
    """Whether the next pass takes the short way; where nobody can count references, none does."""
    return (fast.settled(given(), ("prob",)) is not None) or parameters.USERS_OF_MEMORY is None


@pytest.fixture
def slow_layers(programs_take: Callable[[float], None]) -> None:
    """Let every program win."""
    programs_take(0.0)


@pytest.mark.usefixtures("slow_layers")
def test_the_first_passes_go_layer_by_layer(make_net: NetMaker) -> None:
    fast = Fast(make_net(TEXT))
    assert passes(fast, 4) == [False, False, True, True]
    assert passes(fast, 3, rows=5) == [False, False, True]
    assert passes(fast, 1) == [True]  # its shape's program is still there


def test_another_engine_than_auto_does_not_wait(make_net: NetMaker) -> None:
    with engine_is("torch"):
        assert passes(Fast(make_net(TEXT)), 2) == [True, True]
    with engine_is("layerwise"):
        assert passes(Fast(make_net(TEXT)), 4) == [False] * 4


def test_if_the_layers_are_fastest_they_run(
    make_net: NetMaker, programs_take: Callable[[float], None]
) -> None:
    programs_take(9.0)
    fast = Fast(make_net(TEXT))
    assert passes(fast, 5) == [False] * 5
    programs_take(0.0)
    others = passes(fast, fast_module.FIRST_CONTEST_AGAIN)  # the machine is not busy any more
    assert others.index(True) == fast_module.FIRST_CONTEST_AGAIN - 3


@pytest.mark.usefixtures("slow_layers")
def test_too_small_a_net_gets_no_program(
    make_net: NetMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moka.inference.best.SMALLEST_S", 9.0)
    assert passes(Fast(make_net(TEXT)), 5) == [False] * 5


@pytest.mark.usefixtures("slow_layers")
def test_programs_that_do_not_pay_are_made_later(make_net: NetMaker) -> None:
    net = make_net(TEXT)
    fast = Fast(net)
    waited = []
    for _ in range(3):
        waited.append(passes(fast, 40).index(True))
        with torch.no_grad():
            net.layers[1].weights[0].mul_(2)
        for case in fast._cases.values():
            case.used = 0
    assert waited == [2, 8, 32]


@pytest.mark.usefixtures("slow_layers")
def test_more_blobs_are_wanted_and_then_fewer(make_net: NetMaker) -> None:
    fast = Fast(make_net(TEXT))
    passes(fast, 3)
    assert passes(fast, 3, ["prob", "relu"]) == [False, True, True]
    (case,) = fast._cases.values()
    assert passes(fast, fast_module.UNNEEDED_PASSES - 1) == [True] * 19
    assert case.program is not None
    assert case.program.outputs == {"prob", "relu"}
    passes(fast, 2)
    assert case.program.outputs == {"prob"}


def test_a_few_shapes_have_programs_at_a_time(make_net: NetMaker) -> None:
    fast = Fast(make_net(TEXT))
    with engine_is("torch"):
        for rows in range(1, 9):
            assert passes(fast, 1, rows=rows) == [True]
    assert len(fast._cases) == fast_module.MOST_SHAPES


def failing(error: Exception) -> Callable[[Any, Task], Run]:
    def make(backend: Folded, task: Task) -> Run:
        count = 0

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            nonlocal count
            count += 1
            if count > 5:
                raise error
            return right(inputs)

        right = real(backend, task)
        return run

    real = Folded.make
    return make


def test_a_backend_that_fails_is_not_asked_again(
    make_net: NetMaker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Folded, "make", failing(RuntimeError("out of steam")))
    fast = Fast(make_net(TEXT))
    with engine_is("torch"):
        assert passes(fast, 4) == [True, False, False, False]
    assert "torch has failed: out of steam; the net runs layer by layer." in caplog.text


def test_a_layers_own_error_is_raised(make_net: NetMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folded, "make", failing(DataError("a label is wrong.")))
    fast = Fast(make_net(TEXT))
    with engine_is("torch"):
        passes(fast, 1)
        with pytest.raises(DataError, match="a label is wrong"):
            fast.run(given(), ["prob"])


def test_a_backend_with_other_numbers_is_refused(
    make_net: NetMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Folded.make

    def wrong(backend: Folded, task: Task) -> Run:
        run = real(backend, task)
        return lambda inputs: [tensor + 0.01 for tensor in run(inputs)]

    monkeypatch.setattr(Folded, "make", wrong)
    with engine_is("torch"):
        assert passes(Fast(make_net(TEXT)), 3) == [False] * 3


@pytest.mark.parametrize(
    "more",
    [
        """layer { name: "draw" type: "Dropout" bottom: "relu" top: "draw"
          dropout_param { sample_weights_test: true } }
        layer { name: "over" type: "ReLU" bottom: "draw" top: "draw" }""",
        """layer { name: "abs" type: "AbsVal" bottom: "relu" top: "abs" }
        layer { name: "in" type: "Dropout" bottom: "abs" top: "abs"
          dropout_param { sample_weights_test: true } }""",
        """layer { name: "write" type: "HDF5Output" bottom: "relu" bottom: "prob"
          hdf5_output_param { file_name: "x.h5" } }""",
    ],
    ids=["what it made is overwritten", "in place", "no tops"],
)
def test_layers_that_act_and_leave_nothing_to_keep(make_net: NetMaker, more: str) -> None:
    fast = Fast(make_net(TEXT + more))
    assert not fast.is_possible
    with engine_is("torch"):
        assert fast.run(given(), ["prob"]) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_makes_programs_of_its_own(make_net: NetMaker) -> None:
    fast = Fast(make_net(TEXT))
    torch.set_num_threads(2)  # so that ONNX Runtime has threads, which the child does not have
    try:
        with engine_is("onnxruntime"):
            assert passes(fast, 5) == [True] * 5
            assert is_settled(fast)
            child = os.fork()
            if not child:
                code = 1
                try:
                    is_new = fast.settled(given(), ("prob",)) is None
                    code = 0 if is_new and passes(fast, 2) == [True, True] else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert passes(fast, 2) == [True, True]
    finally:
        torch.set_num_threads(1)


@pytest.mark.usefixtures("slow_layers")
def test_what_a_program_uses_lies_on_large_pages_after_some_passes(
    make_net: NetMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory that it has added, its input, and large weights."""
    added = [(0, 1)]
    asked: list[list[tuple[int, int]]] = []
    monkeypatch.setattr(fast_module, "put_on_large_pages", lambda r: asked.append(list(r)))
    monkeypatch.setattr(NewMemory, "ranges", lambda _: added)
    monkeypatch.setattr(fast_module, "LARGE_WEIGHT", 12)
    monkeypatch.setattr(fast_module, "SETTLED_PASSES", fast_module.PAYS_LARGE_PAGES)
    fast = Fast(make_net(TEXT))
    x = given()
    passes(fast, 2)
    for _ in range(fast_module.PAYS_LARGE_PAGES - 1):
        fast.run(x, ["prob"])
    assert asked == []
    for _ in range(30):
        fast.run(x, ["prob"])
    (weight,) = [w for w in fast.net.parameters() if w.numel() == 12]
    assert asked == [[*added, range_of(x["data"]), range_of(weight)]]


def _write_through_numpy(fast: Fast) -> None:
    fast.net.layer_blobs(1)[0].data[...] = 1.0


def _write_in_pytorch(fast: Fast) -> None:
    with torch.no_grad():
        fast.net.places[1].layer.weights[0].fill_(1.0)


def _share(fast: Fast) -> None:
    fast.net.shares_parameters = True


CHANGES: dict[str, Callable[[Fast], object]] = {
    "nothing": lambda _: None,
    "NumPy": _write_through_numpy,
    "PyTorch": _write_in_pytorch,
    "shared": _share,
    "threads": lambda _: torch.set_num_threads(2),
    "engine": lambda _: set_engine("torch"),
    "layers": lambda _: set_engine("layerwise"),
}


@COUNTED
@pytest.mark.usefixtures("slow_layers")
@pytest.mark.parametrize("what", CHANGES)
def test_passes_settle_until_something_changes(
    make_net: NetMaker, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(engines, "_chosen", "auto")
    monkeypatch.setattr(fast_module, "SETTLED_PASSES", 3)
    threads = torch.get_num_threads()
    fast = Fast(make_net(TEXT))
    passes(fast, 2)
    x = given()
    for _ in range(4):
        assert fast.settled(x, ("prob",)) is None
        assert fast.run(x, ("prob",)) is not None
    program = fast.settled(x, ("prob",))
    assert program is not None
    try:
        CHANGES[what](fast)
        assert (fast.settled(x, ("prob",)) is program) == (what == "nothing")
        passes(fast, 12)
    finally:
        torch.set_num_threads(threads)


@COUNTED
@pytest.mark.usefixtures("slow_layers")
def test_other_passes_than_the_settled_ones(make_net: NetMaker) -> None:
    fast = Fast(make_net(TEXT))
    passes(fast, 5)
    assert fast.settled(given(), ("prob",)) is not None
    assert fast.settled(given(rows=3), ("prob",)) is None
    assert fast.settled(given(), ("prob", "ip")) is None
    assert fast.settled({}, ("prob",)) is None


@COUNTED
@pytest.mark.usefixtures("slow_layers")
def test_settled_passes_need_all_blobs_of_their_program(make_net: NetMaker) -> None:
    """Other passes in between, which want fewer, do not make it a program of too many; only many
    such passes in a row do."""
    fast = Fast(make_net(TEXT))
    both = frozenset({"prob", "relu"})
    passes(fast, 8, both)
    program = fast.settled(given(), both)
    assert program is not None
    for _ in range(25):
        passes(fast, 1)
        passes(fast, 4, both)
    assert fast.settled(given(), both) is program
    passes(fast, 25)
    assert fast.settled(given(), both) is None


@COUNTED
@pytest.mark.usefixtures("slow_layers")
def test_a_settled_shape_counts_as_used(make_net: NetMaker) -> None:
    """Others are forgotten before it, though its passes look nothing up."""
    fast = Fast(make_net(TEXT))
    passes(fast, 2)
    for rows in range(3, 10):
        assert passes(fast, 5) == [True] * 5
        assert is_settled(fast)
        passes(fast, 1, rows=rows)
