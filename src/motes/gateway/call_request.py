"""What a call says over HTTP: its method, content type, time budget and body, each within its bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from motes.errors import Overloaded, TooLarge
from motes.gateway.problems import Problem
from motes.gateway.rules import judge_form
from motes.model.bounds import UNREADABLE
from motes.model.call import FROM_OUTSIDE, Context
from motes.model.caller import checked_name, told_over_http
from motes.model.release import PAYLOAD_LIMIT_BYTES
from motes.model.units import format_bytes, parse_seconds

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Headers = list[tuple[bytes, bytes]]

MAX_HELD_BYTES = 256 * 2**20
"""Of bodies that are being received or worked on."""
MAX_TIMEOUT_S = 3600.0
BODY_TIMEOUT_S = 60.0

RAW = b"application/octet-stream"
MSGPACK = frozenset({b"application/msgpack", b"application/vnd.msgpack", b"application/x-msgpack"})
_TAKEN_TYPES = frozenset({b"", b"application/json", RAW, *MSGPACK})
_SLOW_BODY = Problem(408, "body_timeout", f"the body did not arrive within {BODY_TIMEOUT_S:.0f} seconds", close=True)


class Refusal(Exception):
    """Ends a request with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class Disconnected(Exception):
    """The caller went away."""


class HeldBytes:
    """The bytes of all bodies together."""

    def __init__(self) -> None:
        self._size = 0

    def hold(self, size: int) -> None:
        """Count bytes in; a negative size counts them out. Raises Overloaded."""
        self._size += size
        if size > 0 and self._size > MAX_HELD_BYTES:
            raise Overloaded("too many large requests at a time", retry_after_s=1)


class Body:
    """One call's body; what it holds of all bodies' bytes is given back by `release`."""

    def __init__(self, everybody: HeldBytes) -> None:
        self._everybody = everybody
        self._size = 0

    async def read(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body. Raises TooLarge as soon as its size is known, Overloaded, Refusal and Disconnected."""
        if int(header(headers, b"content-length") or 0) > PAYLOAD_LIMIT_BYTES:
            raise _too_large()
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await self._whole(receive)
        except TimeoutError:
            raise Refusal(_SLOW_BODY) from None

    def becomes(self, size: int) -> None:
        """What is held is another body of that size now. Raises Overloaded."""
        grown, self._size = size - self._size, size
        self._everybody.hold(grown)

    def release(self) -> None:
        """The bytes are no longer held."""
        self._everybody.hold(-self._size)

    async def _whole(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise Disconnected
            parts.append(message.get("body", b""))
            self._add(len(parts[-1]))
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _add(self, size: int) -> None:
        self._size += size
        self._everybody.hold(size)
        if self._size > PAYLOAD_LIMIT_BYTES:
            raise _too_large()


def check_json(body: bytes) -> None:
    """Looked at only once a body did not fit: what is no JSON at all is another mistake than the wrong type."""
    try:
        if body:
            msgspec.json.decode(body)
    except UNREADABLE as error:
        raise Refusal(Problem(400, "malformed_json", f"the body is no JSON: {error}")) from None


def check_method(scope: Message, allowed: tuple[str, ...]) -> None:
    if scope["method"] not in allowed:
        names = ", ".join(allowed)
        raise Refusal(Problem(405, "method_not_allowed", f"use {names} here", headers=((b"allow", names.encode()),)))


def check_type(headers: Headers) -> None:
    content_type = media_type(header(headers, b"content-type") or b"")
    names = [name for name, _ in headers]
    problem = judge_form(content_type, names)
    if problem is not None:
        raise Refusal(problem)
    encoding = header(headers, b"content-encoding")
    if encoding is not None or names.count(b"content-type") > 1 or not _is_taken(content_type):
        raise Refusal(
            Problem(
                415, "unsupported_media_type", "send one value as application/json or application/msgpack, uncompressed"
            )
        )


def media_type(value: bytes) -> bytes:
    """A content type without its parameters."""
    return value.partition(b";")[0].strip().lower()


def _is_taken(content_type: bytes) -> bool:
    if content_type in _TAKEN_TYPES or content_type.endswith(b"+json"):
        return True
    return judge_form(content_type, (b"origin",)) is not None


def timeout_of(headers: Headers) -> float | None:
    value = header(headers, b"motes-timeout")
    if value is None:
        return None
    try:
        seconds = parse_seconds(value.decode("latin-1"))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_TIMEOUT_S:
        raise Refusal(
            Problem(400, "bad_timeout", f"Motes-Timeout must be above 0 and at most {MAX_TIMEOUT_S:.0f} seconds")
        )
    return seconds


def context_of(headers: Headers) -> Context:
    """For whom the request is, as who may send requests here says by Motes-Caller. Raises Refusal and BadInput."""
    named = [value for name, value in headers if name == b"motes-caller"]
    if len(named) > 1:
        # One of them may have come through a front end from outside.
        raise Refusal(Problem(400, "bad_caller", f"a request names one Motes-Caller; this one has {len(named)}"))
    if not named:
        return FROM_OUTSIDE
    return Context(on_behalf=told_over_http(checked_name(named[0].decode("latin-1"))))


def header(headers: Headers, wanted: bytes) -> bytes | None:
    return next((value for name, value in headers if name == wanted), None)


def _too_large() -> TooLarge:
    return TooLarge(
        f"a body may have {format_bytes(PAYLOAD_LIMIT_BYTES)}; this one is larger", limit_bytes=PAYLOAD_LIMIT_BYTES
    )
