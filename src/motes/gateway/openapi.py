"""An app's functions as an OpenAPI 3.1 document, made from what each declares. https://spec.openapis.org/oas/v3.1.0"""

from __future__ import annotations

from typing import Any

from motes.gateway.call_request import MAX_TIMEOUT_S, RAW
from motes.gateway.media import is_bytes
from motes.gateway.streams import EVENTS, LINES
from motes.model.caller import NAME_LIMIT
from motes.model.routes import Route, Routes

_DEFINITIONS = "#/$defs/"


def openapi(routes: Routes, server: str) -> dict[str, Any]:
    """The document; `server` is the address under which the gateway was asked, as `http://localhost:8080`."""
    shared: dict[str, Any] = {"Problem": _PROBLEM}
    functions = {name: route for name, route in sorted(routes.workloads.items()) if route.kind == "function"}
    paths = {f"/{routes.app}/{name}": {"post": _operation(name, route, shared)} for name, route in functions.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": routes.app, "version": str(routes.epoch)},
        "servers": [{"url": server}],
        "paths": paths,
        "components": {"schemas": shared, "parameters": _HEADERS},
    }


def _operation(name: str, route: Route, shared: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "parameters": [{"$ref": f"#/components/parameters/{each}"} for each in _HEADERS],
        "responses": {
            "200": _answer(route, _own(name, route.result, shared)),
            "default": {
                "description": "what went wrong (RFC 9457)",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    }
    if route.parameter_names:
        body = _own(name, route.parameters, shared)
        content = _packed(body) | _raw(route.parameters)
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _answer(route: Route, schema: Any) -> dict[str, Any]:
    if not route.streams:
        return {"description": "the result", "content": _packed(schema) | _raw(route.result)}
    items: dict[str, Any] = {str(kind, "ascii"): {"schema": schema} for kind in (EVENTS, LINES)}
    whole = _packed({"type": "array", "items": schema})
    description = "the items, as they come; as JSON and MessagePack, all of them at the end"
    return {"description": description, "content": items | whole}


def _packed(schema: Any) -> dict[str, Any]:
    """As JSON, or the same as MessagePack, in which bytes may be bytes."""
    return {kind: {"schema": schema} for kind in ("application/json", "application/msgpack")}


def _raw(schema: Any) -> dict[str, Any]:
    """As they are where it is bytes; OpenAPI 3.1 gives these no schema."""
    return {str(RAW, "ascii"): {}} if is_bytes(schema, schema) else {}


def _own(function: str, schema: Any, shared: dict[str, Any]) -> Any:
    """The schema with its definitions moved to the document's, under names that no other function's take."""
    for name, definition in schema.get("$defs", {}).items():
        shared[f"{function}.{name}"] = _moved(function, definition)
    return _moved(function, {key: value for key, value in schema.items() if key != "$defs"})


def _moved(function: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_moved(function, each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: _reference(function, each) if key == "$ref" else _moved(function, each) for key, each in value.items()}


def _reference(function: str, reference: Any) -> Any:
    if isinstance(reference, str) and reference.startswith(_DEFINITIONS):
        return f"#/components/schemas/{function}.{reference.removeprefix(_DEFINITIONS)}"
    return _moved(function, reference)


_HEADERS = {
    "motes-timeout": {
        "name": "motes-timeout",
        "in": "header",
        "description": f"how long to wait, as 5, 500ms or 5min; at most {MAX_TIMEOUT_S:g} s",
        "schema": {"type": "string"},
    },
    "motes-caller": {
        "name": "motes-caller",
        "in": "header",
        "description": 'whose call it is, for functions with reuse="caller"',
        "schema": {"type": "string", "minLength": 1, "maxLength": NAME_LIMIT, "pattern": "^[!-~]+$"},
    },
}
_PROBLEM = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail"],
}
