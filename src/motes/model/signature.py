"""JSON Schema for people: a function's parameters as Python writes them, and a body that would fit."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from motes.model.release import Function
    from motes.model.routes import Route

Schema = dict[str, Any]
T = TypeVar("T")

_NAMES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_EXAMPLES: dict[str, Any] = {"string": "Ada", "integer": 1, "number": 1.5, "boolean": True, "null": None}
_DEPTH = 2
"""In an example, deeper lists are empty and what may be null is: types may hold themselves."""
MOST_STEPS = 200
"""So many types are looked at: a few that hold each other twice make more than anybody can wait for."""


class _Steps:
    """How many types are still looked at."""

    def __init__(self) -> None:
        self._left = MOST_STEPS

    def through(self, found: Iterable[T]) -> Iterator[T]:
        """Each of what was found, as long as there are steps left."""
        for each in found:
            if self._left <= 0:
                return
            self._left -= 1
            yield each


def resolve(schema: Schema, root: Schema) -> Schema:
    """The schema that a `$ref` points at in `root`, or `schema` itself."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    found = root.get("$defs", {}).get(reference.rpartition("/")[2], {})
    return found if isinstance(found, dict) else {}


def properties(parameters: Schema) -> dict[str, Schema]:
    """By name, for a function of several parameters."""
    found: dict[str, Schema] = resolve(parameters, parameters).get("properties", {})
    return found


def type_name(schema: Schema, root: Schema) -> str:
    """`int`, `list[str]`, `str | None`, or the name of a type of the app; `Any` for what takes everything."""
    return _type_name(schema, root, _Steps())


def _type_name(schema: Schema, root: Schema, steps: _Steps) -> str:
    found = resolve(schema, root)
    if "anyOf" in found:
        return " | ".join(_type_name(each, root, steps) for each in steps.through(found["anyOf"])) or "..."
    if "enum" in found:
        return f"Literal[{', '.join(map(repr, found['enum']))}]"
    if title := found.get("title"):
        return str(title)
    kind = found.get("type")
    if kind == "array":
        items = found.get("items")
        return f"list[{_only(items, root, steps)}]" if isinstance(items, dict) else "list"
    if kind == "object":
        values = found.get("additionalProperties")
        return f"dict[str, {_only(values, root, steps)}]" if isinstance(values, dict) and values else "dict"
    if found.get("contentEncoding"):
        return "bytes"
    return _NAMES.get(str(kind), "Any")


def _only(schema: Schema, root: Schema, steps: _Steps) -> str:
    return next((_type_name(each, root, steps) for each in steps.through([schema])), "...")


def signature(function: Function) -> str:
    """`greet(name: str) -> str`."""
    shown = ", ".join(parameters(function.parameter_names, function.parameters))
    given = type_name(function.result, function.result) if function.result else ""
    if function.streams:
        given = f"Iterator[{given or 'Any'}]"
    result = f" -> {given}" if given else ""
    return f"{function.name}({shown}){result}"


def parameters(names: Sequence[str], root: Schema) -> list[str]:
    """Each parameter as `name: str`, or `name: str = ...` when it may be left out."""
    schemas = {names[0]: root} if len(names) == 1 else properties(root)
    needed = names if len(names) == 1 else resolve(root, root).get("required", [])
    return [_parameter(name, schemas.get(name, {}), root, name in needed) for name in names]


def _parameter(name: str, schema: Schema, root: Schema, is_needed: bool) -> str:
    return f"{name}: {type_name(schema, root)}" + ("" if is_needed else " = ...")


def curl(url: str, function: Function | Route) -> str:
    """A line for a shell that calls the function, which is at `url`."""
    return f"curl {url} -d {shlex.quote(example_body(function))}" if function.parameter_names else f"curl -X POST {url}"


def example_body(function: Function | Route) -> str:
    """JSON that the function takes."""
    root = function.parameters
    if len(function.parameter_names) == 1:
        return json.dumps(_example(root, root, 0, _Steps()))
    return json.dumps(_example_object(resolve(root, root), root, -1, _Steps()))


def _example(schema: Schema, root: Schema, depth: int, steps: _Steps) -> Any:
    found = resolve(schema, root)
    if "anyOf" in found:
        nothing = {"type": "null"} in found["anyOf"] and depth >= _DEPTH
        first = () if nothing else steps.through(found["anyOf"][:1])
        return next((_example(each, root, depth, steps) for each in first), None)
    if "enum" in found:
        return found["enum"][0]
    if found.get("contentEncoding"):
        return "QWRh"
    if found.get("type") == "array":
        return _example_list(found, root, depth, steps)
    if found.get("type") == "object":
        return _example_object(found, root, depth, steps)
    return _EXAMPLES.get(str(found.get("type", "string")), {})


def _example_object(schema: Schema, root: Schema, depth: int, steps: _Steps) -> dict[str, Any]:
    needed, fields = set(schema.get("required", ())), schema.get("properties", {})
    required = (name for name in fields if name in needed)
    return {name: _example(fields[name], root, depth + 1, steps) for name in steps.through(required)}


def _example_list(schema: Schema, root: Schema, depth: int, steps: _Steps) -> list[Any]:
    items = schema.get("prefixItems") or [schema.get("items")]
    if depth >= _DEPTH:
        return []
    return [_example(each, root, depth + 1, steps) for each in steps.through(items) if isinstance(each, dict)]
