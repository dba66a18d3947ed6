from __future__ import annotations

import pytest
from mutation_points import mutants, sample


def changed(source: str) -> set[str]:
    return {m.applied(source) for m in mutants(source)}


@pytest.mark.parametrize(
    ("source", "others"),
    [
        ("a < b", {"(a <= b)", "(a >= b)"}),
        ("a is b", {"(a is not b)"}),
        ("a in b", {"(a not in b)"}),
        ("a < b == c", {"(a <= b == c)", "(a >= b == c)", "(a < b != c)"}),
        ("a - b * c", {"(a + b * c)", "a - (b / c)"}),
        ("a and b", {"(a or b)"}),
        ("not a", {"(a)"}),
        ("-a", {"(a)"}),
        ("x = True", {"x = (False)"}),
        ("x = y[1:]", {"x = y[(2):]", "x = y[(0):]"}),
        ("x = a if b else c", {"x = (c if b else a)"}),
        ("x = min(a, b)", {"x = (max)(a, b)"}),
        ("x = f(a, b)", {"x = (f(b, a))"}),
        ("x = f(a, a)", set()),
        ("x = f(a, b=c)", {"x = (f(a))"}),
        ("x = zip(a, *b, strict=True)", set()),
        ("f()", {"pass"}),
        ("x.y = z", {"pass"}),
        ("x += y", {"pass"}),
        ("while a:\n  break", {"while a:\n  continue"}),
        ("if a: b", {"if not (a): b"}),
        ("if TYPE_CHECKING: f()", set()),
        ("def f(x: A[1] = y) -> B[2]:\n  return x", {"def f(x: A[1] = y) -> B[2]:\n  return None"}),
        ("assert a < b", set()),
        ("'text'", set()),
        ("x = f'{a + b}'", set()),
        ("é = 'é' < a", {"é = ('é' <= a)", "é = ('é' >= a)"}),
    ],
)
def test_what_is_changed(source: str, others: set[str]) -> None:
    assert changed(source) == others


def test_lines_and_time_of_the_statement() -> None:
    source = "x = 1\n\n@d(\n  2)\ndef f(\n  a=3,\n):\n  return g(\n    a, 4)\n"
    places = {(m.old, m.first, m.last, m.at_import) for m in mutants(source)}
    assert places == {
        ("1", 1, 1, True),
        ("2", 3, 7, True),
        ("3", 3, 7, True),
        ("return g(\n    a, 4)", 8, 9, False),
        ("g(\n    a, 4)", 8, 9, False),
        ("4", 8, 9, False),
    }


def test_a_sample_takes_different_lines_and_only_what_compiles() -> None:
    source = "".join(f"x = {i} + 1\n" for i in range(20)) + "for i in x: y = i\nelse:\n  f(1)\n"
    chosen = sample(source, 10, "a")
    assert len({m.first for m in chosen}) == 10
    assert chosen == sample(source, 10, "a")
    assert chosen != sample(source, 10, "b")
    assert len(sample(source, 100, "a")) == 21
    for mutant in chosen:
        compile(mutant.applied(source), "mutant", "exec")
