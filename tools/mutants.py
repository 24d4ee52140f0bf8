"""The mutants of a module: its source with one small fault each.

Operators of cosmic-ray, of the many replacements that it has for an operator only the nearest, and
three of our own: a byte order turned round, a call or ``raise`` left out, and an addition in place
left out.  What is no other program is no mutant: annotations, docstrings, the same tree twice.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

_BINARY = {
    "Add": ("Sub",),
    "Sub": ("Add",),
    "Mul": ("Add", "FloorDiv"),
    "FloorDiv": ("Mul", "Mod"),
    "Mod": ("FloorDiv",),
    "LShift": ("RShift",),
    "RShift": ("LShift",),
    "BitOr": ("BitAnd",),
    "BitAnd": ("BitOr",),
    "BitXor": ("BitOr", "BitAnd"),
}
_COMPARISONS = {
    "Eq": ("NotEq", "LtE", "GtE"),
    "NotEq": ("Eq", "Lt", "Gt"),
    "Lt": ("LtE", "GtE", "NotEq"),
    "LtE": ("Lt", "Gt", "Eq"),
    "Gt": ("GtE", "LtE", "NotEq"),
    "GtE": ("Gt", "Lt", "Eq"),
    "Is": ("IsNot",),
    "IsNot": ("Is",),
}
OPERATORS = (
    *(f"ReplaceBinaryOperator_{a}_{b}" for a, others in _BINARY.items() for b in others),
    *(f"ReplaceComparisonOperator_{a}_{b}" for a, others in _COMPARISONS.items() for b in others),
    *("ReplaceUnaryOperator_Delete_USub", "ReplaceUnaryOperator_Delete_Invert"),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue"),
    *("ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
    *("ExceptionReplacer", "NumberReplacer", "ZeroIterationForLoop"),
)
_TURNED = {"little": "big", "big": "little"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """``line`` and the lines that differ, without indentation, and the whole mutated source."""

    operator: str
    line: int
    before: str
    after: str
    source: str


def mutants_of(source: str) -> list[Mutant]:
    """All mutants of a module, by line."""
    seen = {_meaning(source)}
    found = []
    for operator, mutated in (*_by_cosmic_ray(source), *_by_us(source)):
        meaning = _meaning(mutated)
        if meaning is not None and meaning not in seen:
            seen.add(meaning)
            found.append(_mutant(operator, source, mutated))
    return sorted(found, key=lambda mutant: mutant.line)


def _by_cosmic_ray(source: str) -> Iterator[tuple[str, str]]:
    tree = get_ast(source)
    for name in OPERATORS:
        operator = cosmic_ray.plugins.get_operator(f"core/{name}")()
        count = sum(len(list(operator.mutation_positions(node))) for node in ast_nodes(tree))
        for occurrence in range(count):
            if mutated := mutate_code(source, operator, occurrence):
                yield name, mutated


def _by_us(source: str) -> Iterator[tuple[str, str]]:
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in _TURNED:
            yield "TurnByteOrder", _replaced(lines, node, repr(_TURNED[str(node.value)]))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield "LeaveOutCall", _replaced(lines, node, "pass")
        elif isinstance(node, ast.Raise | ast.AugAssign):
            yield f"LeaveOut{type(node).__name__}", _replaced(lines, node, "pass")


def _replaced(lines: list[str], node: ast.expr | ast.stmt, text: str) -> str:
    """The source with other text for one node.  Offsets of ast count bytes."""
    assert node.end_lineno is not None and node.end_col_offset is not None  # noqa: S101, PT018
    first, last = node.lineno - 1, node.end_lineno - 1
    head = lines[first].encode()[: node.col_offset].decode()
    tail = lines[last].encode()[node.end_col_offset :].decode()
    return "".join((*lines[:first], head + text + tail, *lines[last + 1 :]))


def _meaning(source: str) -> str | None:
    """What two sources have in common that do the same by their text; None for no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            compile(source, "mutant", "exec", dont_inherit=True)
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def _mutant(operator: str, source: str, mutated: str) -> Mutant:
    old, new = source.splitlines(), mutated.splitlines()
    start = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    same = 0
    while same < min(len(old), len(new)) - start and old[-1 - same] == new[-1 - same]:
        same += 1
    before, after = (
        " ".join(" ".join(lines[start : len(lines) - same]).split()) for lines in (old, new)
    )
    return Mutant(operator, start + 1, before, after, mutated)
