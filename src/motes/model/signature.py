"""JSON Schema for people: a function's parameters as Python writes them, and a body that would fit."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from motes.model.release import Function
    from motes.model.routes import Route

Schema = dict[str, Any]

_NAMES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_EXAMPLES: dict[str, Any] = {"string": "Ada", "integer": 1, "number": 1.5, "boolean": True, "null": None}
_HOPELESS_DEPTH = 32
_DEPTH = 2
"""In an example, deeper lists are empty and what may be null is: types may hold themselves."""


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
    found = resolve(schema, root)
    if "anyOf" in found:
        return " | ".join(type_name(each, root) for each in found["anyOf"])
    if "enum" in found:
        return f"Literal[{', '.join(map(repr, found['enum']))}]"
    if title := found.get("title"):
        return str(title)
    kind = found.get("type")
    if kind == "array":
        return f"list[{type_name(found['items'], root)}]" if isinstance(found.get("items"), dict) else "list"
    if kind == "object":
        values = found.get("additionalProperties")
        return f"dict[str, {type_name(values, root)}]" if isinstance(values, dict) and values else "dict"
    if found.get("contentEncoding"):
        return "bytes"
    return _NAMES.get(str(kind), "Any")


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
        return json.dumps(_example(root, root, 0))
    needed = resolve(root, root).get("required", [])
    return json.dumps({name: _example(schema, root, 0) for name, schema in properties(root).items() if name in needed})


def _example(schema: Schema, root: Schema, depth: int) -> Any:
    found = resolve(schema, root)
    if depth > _HOPELESS_DEPTH:
        return {}
    if "anyOf" in found:
        nothing = {"type": "null"} in found["anyOf"] and depth >= _DEPTH
        return None if nothing else _example(found["anyOf"][0], root, depth)
    if "enum" in found:
        return found["enum"][0]
    if found.get("contentEncoding"):
        return "QWRh"
    if found.get("type") == "array":
        return _example_list(found, root, depth)
    if found.get("type") == "object":
        fields = found.get("properties", {})
        return {name: _example(fields[name], root, depth + 1) for name in found.get("required", ()) if name in fields}
    return _EXAMPLES.get(str(found.get("type", "string")), {})


def _example_list(schema: Schema, root: Schema, depth: int) -> list[Any]:
    items = schema.get("prefixItems") or [schema.get("items")]
    if depth >= _DEPTH:
        return []
    return [_example(each, root, depth + 1) for each in items if isinstance(each, dict)]
