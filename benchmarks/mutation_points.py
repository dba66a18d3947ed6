"""Mutants of a Python file: one operator, constant, argument or statement is another."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

# Each operator and what it becomes.
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
OTHER_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
SAME_IN_ANY_ORDER = {"min", "max", "gcd", "isinstance", "issubclass", "cast"}
# Keywords that check or describe, and change no result of a correct call.
CHECKS = {"strict", "frozen", "slots", "repr", "eq", "kw_only", "stacklevel"}


@dataclass(frozen=True)
class Mutant:
    """The text from `start` to `end` (bytes of the file) becomes `new`.

    first, last: lines of the statement that is changed (of a compound statement, its head).
    at_import: the statement runs when the module is imported.
    """

    kind: str
    start: int
    end: int
    old: str
    new: str
    first: int
    last: int
    at_import: bool

    def applied(self, source: str) -> str:
        data = source.encode()
        return (data[: self.start] + self.new.encode() + data[self.end :]).decode()


def mutants(source: str) -> list[Mutant]:
    """All mutants of a file; a few of them may not compile."""
    return _Finder(source).found


def sample(source: str, count: int, seed: str) -> list[Mutant]:
    """`count` mutants of different lines (fewer if there are no more), the same for a seed."""
    by_line: dict[int, list[Mutant]] = {}
    for mutant in mutants(source):
        by_line.setdefault(mutant.first, []).append(mutant)
    draw = random.Random(seed)
    lines = draw.sample(sorted(by_line), min(count, len(by_line)))
    chosen = [draw.choice(by_line[line]) for line in sorted(lines)]
    return [mutant for mutant in chosen if _compiles(mutant.applied(source))]


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


class _Finder(ast.NodeVisitor):
    def __init__(self, source: str) -> None:
        self.found: list[Mutant] = []
        self._data = source.encode()
        self._line_starts = [0]
        for line in self._data.splitlines(keepends=True):
            self._line_starts.append(self._line_starts[-1] + len(line))
        self._functions = 0
        self._statement = (1, 1)
        self.visit(ast.parse(source))

    # Statements

    def visit(self, node: ast.AST) -> None:
        if not isinstance(node, ast.stmt):
            super().visit(node)
            return
        if isinstance(node, ast.Assert | ast.Import | ast.ImportFrom) or _is_text(node):
            return
        outer = self._statement
        self._statement = (_first_line(node), _head_end(node))
        for kind, new in _statements(node):
            self._add(kind, node, new)
        super().visit(node)
        self._statement = outer

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for part in (*node.decorator_list, *node.args.defaults, *node.args.kw_defaults):
            if part is not None:
                self.visit(part)
        self._functions += 1
        for statement in node.body:
            self.visit(statement)
        self._functions -= 1

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self._add("condition", node.test, f"not ({ast.unparse(node.test)})")
            self.generic_visit(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._functions += 1
        self.visit(node.body)
        self._functions -= 1

    # Expressions

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Words for users; Python 3.11 does not know the places of their parts."""

    def visit_Compare(self, node: ast.Compare) -> None:
        for index, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                changed = deepcopy(node)
                changed.ops[index] = other()
                self._replace("comparison", node, changed)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not isinstance(node.left, ast.JoinedStr) and type(node.op) in ARITHMETIC:
            changed = ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
            self._replace("arithmetic", node, changed)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._replace("and, or", node, ast.BoolOp(other, node.values))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not | ast.USub):
            self._replace("sign", node, node.operand)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._replace("condition", node, ast.IfExp(node.test, node.orelse, node.body))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace("constant", node, ast.Constant(not node.value))
        elif isinstance(node.value, int | float):
            for step in (1, -1):
                self._replace("constant", node, ast.Constant(node.value + step))

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in OTHER_NAMES:
            self._replace("function", node, ast.Name(OTHER_NAMES[node.id]))

    def visit_Call(self, node: ast.Call) -> None:
        starred = any(isinstance(a, ast.Starred) for a in node.args)
        name = ast.unparse(node.func).rpartition(".")[2]
        if len(node.args) > 1 and not starred and name not in SAME_IN_ANY_ORDER:
            for i in range(len(node.args) - 1):
                changed = deepcopy(node)
                changed.args[i : i + 2] = changed.args[i + 1], changed.args[i]
                self._replace("arguments", node, changed)
        for i, keyword in enumerate(node.keywords):
            if keyword.arg not in CHECKS:
                changed = deepcopy(node)
                del changed.keywords[i]
                self._replace("keyword", node, changed)
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg not in CHECKS:
            self.generic_visit(node)

    def _replace(self, kind: str, node: ast.expr, new: ast.expr) -> None:
        text = ast.unparse(ast.fix_missing_locations(new))
        if text != ast.unparse(node):
            self._add(kind, node, f"({text})")

    def _add(self, kind: str, node: ast.expr | ast.stmt, new: str) -> None:
        start = self._line_starts[node.lineno - 1] + node.col_offset
        end = self._line_starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)
        old = self._data[start:end].decode()
        place = (*self._statement, self._functions == 0)
        self.found.append(Mutant(kind, start, end, old, new, *place))


def _statements(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """Each kind and text that a whole statement can become."""
    match node:
        case ast.Return(value=value) if value is not None and ast.unparse(value) != "None":
            yield "return", "return None"
        case ast.Break():
            yield "loop", "continue"
        case ast.Continue():
            yield "loop", "break"
        case ast.Raise() | ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield "statement", "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "statement", "pass"


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _first_line(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])


def _head_end(node: ast.stmt) -> int:
    body = getattr(node, "body", None) or getattr(node, "cases", None)
    if not body:
        return node.end_lineno or node.lineno
    first = body[0]
    start = first.pattern.lineno if isinstance(first, ast.match_case) else _first_line(first)
    return max(node.lineno, start - 1)
