from __future__ import annotations

from plan import COMPILER, COMPILERS_SHARE, FEWEST, MOST, RATE, Cell, planned


def cell(net: str, seconds: float, *names: str, layers: int = 10) -> Cell:
    return Cell(False, net, 1, seconds * RATE, layers, names or ("ONNX Runtime",))


def test_all_fits() -> None:
    plan = planned([cell("small", 0.01), cell("large", 1.0)], 1000)
    assert [c.net for c in plan.cells] == ["small", "large"]
    assert plan.rounds == MOST
    assert not plan.left_out
    assert plan.seconds < 1000


def test_the_longest_is_left_out() -> None:
    plan = planned([cell("small", 0.01), cell("large", 100.0), cell("middle", 0.1)], 60)
    assert [c.net for c in plan.cells] == ["small", "middle"]
    assert plan.left_out == ["large, 1"]


def test_the_time_chooses_the_rounds() -> None:
    cells = [cell("middle", 1.0)]
    few = planned(cells, cells[0].seconds(FEWEST) + 0.1)
    more = planned(cells, cells[0].seconds(FEWEST + 2) + 0.1)
    assert (few.rounds, more.rounds) == (FEWEST, FEWEST + 2)


def test_compiling_gets_a_part_of_the_time() -> None:
    both = ("ONNX Runtime", COMPILER)
    cells = [cell("deep", 0.01, *both, layers=100), cell("flat", 0.01, *both, layers=5)]
    plan = planned(cells, 100)
    assert [COMPILER in c.contenders for c in plan.cells] == [False, True]
    assert plan.left_out == [f"{COMPILER} of deep, 1"]
    assert plan.cells[1].start_s(COMPILER) <= 100 * COMPILERS_SHARE
