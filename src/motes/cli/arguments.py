"""What is typed after `motes call APP.FUNCTION`, as the JSON body that the function takes.

The rule, for each value, by the JSON Schema of its parameter:
- a text parameter takes what is typed as it is, unless that is a JSON string ("..."), which is decoded first;
- a bytes parameter likewise, and what is typed are the bytes (a JSON string holds base64);
- where text is one of several possibilities (`int | str`, no annotation), JSON when it is JSON, else the text;
- every other parameter takes JSON.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from motes.errors import BadInput
from motes.model.routes import Route
from motes.model.signature import Schema, parameters, properties, resolve, type_name

STDIN = "-"


def body_of(address: str, route: Route, words: Sequence[str], read_stdin: Callable[[], bytes]) -> bytes:
    """The body for a function at `route`. Raises BadInput, naming the parameters."""
    names = route.parameter_names
    if not words:
        return b""
    if not names:
        raise BadInput(f"{address} takes no argument; {_count(words)} given: {words[0]!r}")
    if len(names) == 1:
        return _only_value(address, route, words, read_stdin)
    return _object(address, route, words, read_stdin)


def takes(route: Route) -> str:
    """What the function takes, as `a: int, b: str = ...`."""
    names, root = route.parameter_names, route.parameters
    return ", ".join(parameters(names, root)) or "no argument"


def _only_value(address: str, route: Route, words: Sequence[str], read_stdin: Callable[[], bytes]) -> bytes:
    (name,) = route.parameter_names
    schema = route.parameters
    if len(words) > 1:
        raise BadInput(
            f"{address} takes one argument, {_described(name, schema, schema)}; {_count(words)} given"
            " (put quotes around a text with spaces)"
        )
    word = words[0].removeprefix(f"{name}=")
    return _value(address, name, schema, schema, read_stdin() if word == STDIN else word.encode(errors="replace"))


def _object(address: str, route: Route, words: Sequence[str], read_stdin: Callable[[], bytes]) -> bytes:
    root = route.parameters
    schemas = properties(root)
    if len(words) == 1 and (words[0] == STDIN or words[0].lstrip().startswith("{")):
        return _json(address, read_stdin() if words[0] == STDIN else words[0].encode(errors="replace"))
    values: dict[str, msgspec.Raw] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or name not in route.parameter_names:
            raise BadInput(f"{address}: {word!r} is not NAME=VALUE of a parameter; it takes {takes(route)}")
        if name in values:
            raise BadInput(f"{address}: parameter {name!r} is given twice")
        data = read_stdin() if text == STDIN else text.encode(errors="replace")
        values[name] = msgspec.Raw(_value(address, name, schemas.get(name, {}), root, data))
    return msgspec.json.encode(values)


def _value(address: str, name: str, schema: Schema, root: Schema, data: bytes) -> bytes:
    """One value as JSON, by the rule above."""
    kinds = _kinds(schema, root)
    is_json = _is_json(data)
    if kinds <= {"string", "bytes"}:
        if data.lstrip()[:1] == b'"' and is_json:
            return data
        return _as_text(address, name, data, "bytes" in kinds)
    if is_json:
        return data
    if "string" in kinds:
        return _as_text(address, name, data, False)
    shown = data[:60].decode(errors="replace")
    raise BadInput(f"{address} takes {_described(name, schema, root)}; {shown!r} is not JSON of that type")


def _kinds(schema: Schema, root: Schema, seen: set[int] | None = None) -> set[str]:
    """The JSON types that fit; `bytes` for a string that holds base64. What was `seen` already adds nothing."""
    found, seen = resolve(schema, root), set() if seen is None else seen
    if id(found) in seen:
        return set()
    seen.add(id(found))
    if "anyOf" in found:
        return set().union(*(_kinds(each, root, seen) for each in found["anyOf"]))
    if "enum" in found:
        return {"string" if isinstance(each, str) else "other" for each in found["enum"]}
    if found.get("contentEncoding"):
        return {"bytes"}
    kind = found.get("type")
    return {"string", "other"} if kind is None else {str(kind)}


def _as_text(address: str, name: str, data: bytes, is_bytes: bool) -> bytes:
    if is_bytes:
        return msgspec.json.encode(base64.b64encode(data).decode())
    try:
        return msgspec.json.encode(data.decode())
    except UnicodeDecodeError:
        raise BadInput(f"{address}: parameter {name!r} is a text, and what is given is not UTF-8") from None


def _json(address: str, data: bytes) -> bytes:
    if not _is_json(data):
        raise BadInput(f"{address}: {data[:60].decode(errors='replace')!r} is not JSON")
    return data


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=Any)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _described(name: str, schema: Schema, root: Schema) -> str:
    return f"{name}: {type_name(schema, root)}"


def _count(words: Sequence[str]) -> str:
    return "1 is" if len(words) == 1 else f"{len(words)} are"
