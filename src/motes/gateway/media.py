"""Bodies and results that are not JSON: MessagePack, and raw bytes, by content type. Inside the cluster all is JSON."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from motes.errors import BadResult, TooLarge
from motes.gateway.call_request import MSGPACK, RAW, Headers, Refusal, header, media_type
from motes.gateway.problems import Problem
from motes.model.release import PAYLOAD_LIMIT_BYTES
from motes.model.routes import Route
from motes.model.signature import Schema, resolve
from motes.model.units import format_bytes

JSON = b"application/json"
_DEPTH_LIMIT = 128


def needs_route(headers: Headers) -> bool:
    """Whether the request speaks of anything but JSON, so that the function's types must be known."""
    return _sent(headers) in MSGPACK or _sent(headers) == RAW or _wanted(headers) != JSON


def to_json(headers: Headers, body: bytes, route: Route) -> bytes:
    """The body as JSON. Raises Refusal when it is not what its content type says, and TooLarge."""
    sent = _sent(headers)
    if sent == RAW and is_bytes(route.parameters, route.parameters):
        return _within_limit(b'"%b"' % binascii.b2a_base64(body, newline=False))
    if sent not in MSGPACK or not body:
        return body
    try:
        return _within_limit(msgspec.json.encode(msgspec.msgpack.decode(body)))
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        problem = Problem(400, "malformed_msgpack", f"the body is no MessagePack that JSON can say: {error}")
        raise Refusal(problem) from None


def from_json(headers: Headers, result: bytes, route: Route) -> tuple[bytes, bytes]:
    """`(content type, body)` of a result, as the caller wants it where that can be, else JSON. Raises BadResult."""
    wanted = _wanted(headers)
    try:
        if wanted == RAW and is_bytes(route.result, route.result):
            return RAW, base64.b64decode(msgspec.json.decode(result, type=str), validate=True)
        if wanted in MSGPACK:
            value = _with_bytes(msgspec.json.decode(result), route.result, route.result, 0)
            return wanted, msgspec.msgpack.encode(value)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        # MessagePack has no integers of over 64 bits; and a process that was taken over writes what it likes.
        raise BadResult(f"the result is not what the function declares: {error}") from None
    return JSON, result


def _within_limit(body: bytes) -> bytes:
    if len(body) > PAYLOAD_LIMIT_BYTES:
        limit = format_bytes(PAYLOAD_LIMIT_BYTES)
        message = f"as JSON, which it becomes, the body has {format_bytes(len(body))}; the limit is {limit}"
        raise TooLarge(message, limit_bytes=PAYLOAD_LIMIT_BYTES)
    return body


def _sent(headers: Headers) -> bytes:
    return media_type(header(headers, b"content-type") or b"")


def _wanted(headers: Headers) -> bytes:
    """The first type in Accept that can be given; whoever does not say gets JSON."""
    for each in (header(headers, b"accept") or b"").split(b","):
        if (kind := media_type(each)) in MSGPACK or kind in (RAW, JSON):
            return kind
    return JSON


def is_bytes(schema: Schema, root: Schema) -> bool:
    """Whether raw bytes can stand for a value of this type."""
    return resolve(schema, root).get("contentEncoding") == "base64"


def _with_bytes(value: Any, schema: Any, root: Schema, depth: int) -> Any:
    """The value with bytes in the place of base64, wherever the schema says that they are."""
    if not isinstance(schema, dict) or depth > _DEPTH_LIMIT:
        return value
    found = resolve(schema, root)
    options = [resolve(each, root) for each in found.get("anyOf", [found])]
    if isinstance(value, str):
        holds_bytes = any(each.get("contentEncoding") == "base64" for each in options)
        return base64.b64decode(value, validate=True) if holds_bytes else value
    for option in options:
        if isinstance(value, list) and option.get("type") == "array":
            first = option.get("prefixItems", [])
            schemas = [*first, *[option.get("items")] * len(value)][: len(value)]
            return [_with_bytes(each, kind, root, depth + 1) for each, kind in zip(value, schemas, strict=True)]
        if isinstance(value, dict) and option.get("type") == "object":
            fields, others = option.get("properties", {}), option.get("additionalProperties")
            return {name: _with_bytes(each, fields.get(name, others), root, depth + 1) for name, each in value.items()}
    return value
