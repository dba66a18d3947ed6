"""Work on a CPU that is run again from its operators."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from moka.engine.captured import CannotRecordError, Inputs
from moka.engine.host_reads import OperatorMode
from moka.engine.tape import OperatorRecorder, Tape

Work = Callable[[Inputs], Any]


def recorded(work: Work, x: Tensor) -> Callable[[Tensor], Any]:
    """The recorded work as a function of x, which has run once."""
    replay = OperatorRecorder().record(work, {"x": x})
    replay({"x": x})
    return lambda given: replay({"x": given})


def batch(seed: int) -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


class Convolved:
    """A loss of a small net; its gradients are handed over."""

    def __init__(self) -> None:
        self.calls = 0
        self.kernel = torch.randn(4, 3, 3, 3, requires_grad=True)
        self.bias = torch.randn(4, requires_grad=True)

    def __call__(self, inputs: Inputs) -> list[Tensor]:
        self.calls += 1
        y = torch.nn.functional.conv2d(inputs["x"], self.kernel, self.bias)
        y = torch.nn.functional.max_pool2d(y, 2).relu_().tanh()
        loss = (y * y).mean() + self.kernel.square().sum()
        self.kernel.grad = self.bias.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        assert self.kernel.grad is not None
        assert self.bias.grad is not None
        return [loss.detach(), self.kernel.grad, self.bias.grad]


def test_it_runs_both_passes_on_new_inputs_and_parameters() -> None:
    work = Convolved()
    replay = recorded(work, batch(0))
    for seed in (1, 2):
        with torch.no_grad():
            work.kernel *= 1.25
        found = replay(batch(seed))
        assert work.calls == seed  # the recording, and the comparison below
        assert all(map(torch.equal, found, work({"x": batch(seed)})))


def test_the_first_call_gives_what_was_done_meanwhile() -> None:
    total = torch.zeros(3)

    def work(inputs: Inputs) -> Tensor:
        total.add_(inputs["x"])
        return total * 1

    replay = OperatorRecorder().record(work, {"x": torch.ones(3)})
    assert total.tolist() == [1, 1, 1]
    assert replay({"x": torch.ones(3)}).tolist() == [1, 1, 1]
    assert replay({"x": 2 * torch.ones(3)}).tolist() == [3, 3, 3]
    assert total.tolist() == [3, 3, 3]


def test_random_numbers_are_new_in_each_run() -> None:
    def work(inputs: Inputs) -> Tensor:
        return torch.nn.functional.dropout(inputs["x"], 0.5) + torch.rand(64)

    torch.manual_seed(7)
    wanted = [work({"x": torch.ones(64)}) for _ in range(3)]
    torch.manual_seed(7)
    replay = OperatorRecorder().record(work, {"x": torch.ones(64)})
    found = [replay({"x": torch.ones(64)}) for _ in range(3)]
    assert all(map(torch.equal, found, wanted))
    assert not torch.equal(found[1], found[2])


class Parts(NamedTuple):
    named: dict[str, Tensor]
    rest: tuple[Tensor | None, str, object]


def test_a_result_may_have_parts_and_other_things() -> None:
    thing = object()

    def work(inputs: Inputs) -> Parts:
        x = inputs["x"]
        return Parts({"x": x, "y": -x}, (None, "text", thing))

    found = recorded(work, torch.ones(2))(torch.tensor([3.0, 4.0]))
    assert isinstance(found, Parts)
    assert [found.named["x"].tolist(), found.named["y"].tolist()] == [[3, 4], [-3, -4]]
    assert found.rest == (None, "text", thing)


def test_tensors_of_a_result_may_be_one_or_none() -> None:
    def work(inputs: Inputs) -> list[Tensor | None]:
        doubled = inputs["x"] * 2
        return [doubled, None, doubled]

    first, nothing, again = recorded(work, torch.ones(2))(torch.tensor([3.0, 4.0]))
    assert first is again
    assert nothing is None
    assert again.tolist() == [6, 8]
    assert recorded(lambda _: ("done",), torch.ones(2))(torch.ones(2)) == ("done",)


def test_the_function_gives_a_plain_tuple() -> None:
    """torch.fx of PyTorch 2.6 cannot write named ones."""
    tape = Tape({"x": torch.ones(2)})
    tape.function(Parts({"x": torch.ones(2)}, (None, "text", None)))
    (output,) = tape._graph.find_nodes(op="output")
    assert type(output.args[0]) is tuple


def test_what_is_written_into_a_view_counts() -> None:
    def work(inputs: Inputs) -> Tensor:
        table = torch.zeros(2, 3)
        table[1].copy_(inputs["x"])
        table.t()[0] += 1
        return table * 2

    replay = recorded(work, torch.ones(3))
    assert replay(torch.tensor([5.0, 6.0, 7.0])).tolist() == [[2, 0, 0], [12, 12, 14]]


def test_lists_of_tensors() -> None:
    kept = [torch.ones(2), torch.ones(3)]

    def work(inputs: Inputs) -> Tensor:
        torch._foreach_mul_(kept, 2.0)
        one, two = torch.split(inputs["x"], 2)
        return torch.cat([kept[0], two, one])

    replay = recorded(work, torch.zeros(4))
    assert replay(torch.arange(4.0)).tolist() == [4, 4, 2, 3, 0, 1]
    assert kept[1].tolist() == [4, 4, 4]


class Seen(OperatorMode):
    """The names of all operators that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def run_operator(self, func: Any, args: Any, kwargs: Any) -> Any:
        self.names.append(func.name())
        return func(*args, **kwargs)


def test_what_an_operator_writes_without_saying_so_is_written() -> None:
    mean, variance = torch.zeros(3), torch.ones(3)

    def work(inputs: Inputs) -> Tensor:
        torch.nn.functional.batch_norm(inputs["x"], mean, variance, training=True)
        return inputs["x"].sum()

    replay = recorded(work, batch(0))
    replay(batch(1))
    found = mean.clone(), variance.clone()
    mean.zero_()
    variance.fill_(1)
    for seed in (0, 1):
        work({"x": batch(seed)})
    assert all(map(torch.equal, found, (mean, variance)))


def test_conjugate_and_negative_views_are_values_of_their_own() -> None:
    def work(inputs: Inputs) -> Tensor:
        z = torch.complex(inputs["x"], 2 * inputs["x"])
        return torch.view_as_real(z @ z.conj().t()) + z.conj().imag.sum()

    replay = recorded(work, torch.rand(4, 4))
    x = torch.rand(4, 4)
    assert torch.equal(replay(x), work({"x": x}))


@pytest.mark.parametrize(
    ("work", "sums"),
    [
        (lambda x: x.exp() + x, ["add_"]),
        (lambda x: x + x.exp(), ["add_"]),  # in that of the other term
        (lambda x: (x.exp() + x).exp() + x.sin() + x.cos(), ["add_"] * 3),
        (lambda x: x + x, ["add"]),  # an input's
        (lambda x: x.view(2, 2) + 1, ["add"]),
        (lambda x: (y := x.exp()) + y, ["add"]),
        (lambda x: (y := x.exp()) + x + y, ["add", "add_"]),  # read again
        (lambda x: (y := x.exp())[:1] + y, ["add"]),  # one is a part of the other
        (lambda x: x.exp()[0] + x, ["add"]),  # of another shape
        (lambda x: torch.as_strided(x.exp()[2:] + x[:2], (1,), (1,), 1), ["add"]),  # not whole
        (lambda x: (y := x.exp(), y.view(2, 2), y + x)[1:], ["add"]),  # seen by another name
        (lambda x: 2 + x.exp(), ["add_"]),
        (lambda x: (x.exp() + x, x * 2)[1], ["add_"]),  # nobody reads it
    ],
)
def test_sums_take_the_memory_of_a_term(work: Callable[[Tensor], Any], sums: list[str]) -> None:
    x = torch.rand(4)
    replay = recorded(lambda inputs: work(inputs["x"]), x)
    x = torch.rand(4)
    given = x.clone()
    with Seen() as seen:
        found = replay(given)
    assert torch.equal(given, x)
    added = [name for name in seen.names if name.startswith("aten::add")]
    assert added == [f"aten::{name}.Tensor" for name in sums]
    torch.testing.assert_close(found, work(x), rtol=0, atol=0)


def test_memory_is_freed_after_its_last_use() -> None:
    made: list[weakref.ref[Any]] = []

    def work(inputs: Inputs) -> Tensor:
        y = inputs["x"].exp()
        made.append(weakref.ref(y.untyped_storage()))
        return y.sum()

    replay = OperatorRecorder().record(work, {"x": torch.ones(3)})
    assert [memory() for memory in made] == [None]
    assert replay({"x": torch.ones(3)}).item() == pytest.approx(3 * 2.7182817)
    assert replay({"x": torch.zeros(3)}).item() == 3


def unseen(x: Tensor) -> Tensor:
    with _disable_current_modes():
        return x[:1]


@pytest.mark.parametrize(
    ("work", "why"),
    [
        (lambda x: x * x.sum().item(), "aten::_local_scalar_dense needs values on the host"),
        (lambda x: x[x > 0], "aten::index.Tensor takes a mask as its index"),
        (lambda x: x.to_sparse().to_dense(), "is no array"),
        (lambda x: 2 * unseen(x + 1), "a value has come to be without an operator"),
        (lambda x: torch.empty(0).set_((x + 1).untyped_storage()), "memory that is no tensor"),
    ],
)
def test_what_operators_do_not_say_is_refused_with_its_result(
    work: Callable[[Tensor], Tensor], why: str
) -> None:
    x = torch.tensor([1.0, -2.0])
    with pytest.raises(CannotRecordError, match=why) as caught:
        OperatorRecorder().record(lambda inputs: work(inputs["x"]), {"x": x})
    (result,) = caught.value.result
    assert torch.equal(result, work(x))


def test_inputs_need_memory_of_their_own() -> None:
    x = torch.ones(4)
    with pytest.raises(CannotRecordError, match="b lies in the memory of another input"):
        OperatorRecorder().record(lambda given: given["a"] + given["b"], {"a": x, "b": x[:1]})


def random_program(seed: int) -> Work:
    """Work of views, sums, and writes into memory of its own, on x (4, 4) and a constant."""
    choose = Random(seed)
    constant = torch.arange(16.0).view(4, 4)
    steps = [[choose.random() for _ in range(3)] for _ in range(choose.randrange(4, 20))]

    def work(inputs: Inputs) -> list[Tensor]:
        values = [inputs["x"], constant, inputs["x"].view(16).view(4, 4)]
        for kind, *places in steps:
            one, two = (values[int(place * len(values))] for place in places)
            made = one.clone()
            made[1:3].add_(two[:2])
            ways = (
                lambda one=one, two=two: one + two,
                lambda one=one, two=two: one.exp().clamp(max=3) + two.t(),
                lambda one=one: one.t(),
                lambda one=one: one + 0.5,
                lambda one=one, two=two: torch.cat([one[1:], two[:1]]),
                lambda one=one, two=two: one.split(2)[1].repeat(2, 1) + two,
                lambda made=made: made,
                lambda made=made: made.tanh_().reshape(2, 8).cos().view(4, 4),
            )
            values.append(ways[int(kind * len(ways))]())
        return values[-3:]

    return work


def test_random_programs_give_the_same_again() -> None:
    for seed in range(200):
        work = random_program(seed)
        replay = recorded(work, torch.rand(4, 4))
        for _ in range(2):
            x = torch.rand(4, 4)
            given = x.clone()
            assert all(map(torch.equal, replay(given), work({"x": x}))), seed
            assert torch.equal(given, x), seed
