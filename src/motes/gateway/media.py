"""Bodies and results that are not JSON: MessagePack, and raw bytes, by content type. Inside the cluster all is JSON."""

from __future__ import annotations

import base64
import binascii
import itertools
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
            value = _Bytes(route.result).read(msgspec.json.decode(result), route.result)
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


class _Bytes:
    """Puts bytes in the place of base64, wherever a schema says that they are. Each part of it is looked at once,
    however often a result has what it is for: an app writes both, and everybody waits for the gateway."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._ways: dict[int, tuple[bool, Schema, Schema]] = {}

    def read(self, value: Any, schema: Any, depth: int = 0) -> Any:
        """The value, with bytes."""
        if not isinstance(value, str | list | dict) or not isinstance(schema, dict) or depth > _DEPTH_LIMIT:
            return value
        holds_bytes, array, fields = self._ways_of(schema)
        if isinstance(value, str):
            return base64.b64decode(value, validate=True) if holds_bytes else value
        if isinstance(value, list):
            schemas = itertools.chain(array.get("prefixItems", ()), itertools.repeat(array.get("items")))
            return [self.read(each, kind, depth + 1) for each, kind in zip(value, schemas, strict=False)]
        known, others = fields.get("properties", {}), fields.get("additionalProperties")
        return {name: self.read(each, known.get(name, others), depth + 1) for name, each in value.items()}

    def _ways_of(self, schema: Schema) -> tuple[bool, Schema, Schema]:
        """Whether text is base64 there, and the schemas of a list and of an object; empty where none is."""
        if id(schema) not in self._ways:
            found = resolve(schema, self._root)
            options = [resolve(each, self._root) for each in found.get("anyOf", [found])]
            array = next((each for each in options if each.get("type") == "array"), {})
            fields = next((each for each in options if each.get("type") == "object"), {})
            holds_bytes = any(each.get("contentEncoding") == "base64" for each in options)
            self._ways[id(schema)] = holds_bytes, array, fields
        return self._ways[id(schema)]
