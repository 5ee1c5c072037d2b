"""An index of Python sources: the app that `motes demo` runs, one call a file."""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass

from motes import function

LONGEST = 3


@dataclass
class Definition:
    """A function or class: its name, where it begins, and how many lines it has."""

    name: str
    line: int
    lines: int


@dataclass
class Index:
    """What one source file holds."""

    tokens: int
    functions: int
    classes: int
    imports: list[str]
    longest: list[Definition]
    """The longest functions, the longest first."""


@function(memory="256 MiB", timeout="30 s", idle="2 s", idempotent=True)
def parse(source: str) -> Index:
    """The index of one Python source. Nothing outside `source` matters, so it may run twice: idempotent."""
    nodes = list(ast.walk(ast.parse(source)))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = [
        Definition(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1) for node in functions
    ]
    return Index(
        tokens=sum(1 for _ in tokenize.generate_tokens(io.StringIO(source).readline)),
        functions=len(functions),
        classes=sum(isinstance(node, ast.ClassDef) for node in nodes),
        imports=sorted({name for node in nodes for name in _imported(node)}),
        longest=sorted(found, key=lambda each: (-each.lines, each.line))[:LONGEST],
    )


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return ["." * node.level + (node.module or "")]
    return []
