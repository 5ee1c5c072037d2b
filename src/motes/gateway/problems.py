"""What went wrong, as HTTP says it: RFC 9457 `application/problem+json`."""

from __future__ import annotations

import asyncio
import http
import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from motes.errors import EngineError, FunctionError, HostError, MotesError

MEDIA_TYPE = b"application/problem+json"
RETRY_AFTER_S = 1
FAREWELL_S = 2.0
"""How long a client may take to read the last answer and close."""

_encode = msgspec.json.Encoder().encode
_HOST_PATH = re.compile(r"(?<![\w:/.])(?:/[\w.@+~-]+){2,}/?")
"""Two or more parts, so that an address like `/healthz` in a message stays."""

_PUBLIC_WORDS = frozenset({"path", "reason"})
_PUBLIC_NUMBERS = frozenset({"limit_bytes", "retry_after_s", "timeout_s"})
_MOST_NUMBER = 2**53


@dataclass(frozen=True)
class Problem:
    """One answer that is no result: its status, a stable code, a sentence, and members beside the standard ones."""

    status: int
    code: str
    detail: str
    extra: dict[str, Any] = field(default_factory=dict)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    close: bool = False
    """Whether the connection ends with this answer."""

    def body(self) -> bytes:
        """The JSON document."""
        standard = {
            "type": f"urn:motes:problem:{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
        }
        return _encode({**self.extra, **standard})

    def head(self, body: bytes) -> list[tuple[bytes, bytes]]:
        """The response's headers for `body`."""
        standard = [(b"content-type", MEDIA_TYPE), (b"content-length", b"%d" % len(body))]
        closing = [(b"connection", b"close")] if self.close else []
        return [*standard, *self.headers, *closing]

    def response(self) -> bytes:
        """The whole answer as it goes over a connection that ends with it."""
        body = self.body()
        closing = Problem(self.status, self.code, self.detail, self.extra, self.headers, close=True)
        lines = [b"%s: %s\r\n" % pair for pair in closing.head(body)]
        return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (self.status, _phrase(self.status), b"".join(lines), body)


def problem_of(error: MotesError) -> Problem:
    """The problem that stands for an error; nothing in it tells of this machine's files.

    What the error has in it a host may have made up.
    """
    extra = {name: value for name, value in error.detail.items() if _is_public(name, value)}
    detail = error.message
    if isinstance(error, FunctionError):
        extra["exception"] = str(error.detail.get("type", "Exception"))
    if isinstance(error, HostError | EngineError):
        detail = _HOST_PATH.sub("...", detail)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if error.http_status == 503:
        headers = ((b"retry-after", b"%d" % max(1, round(extra.get("retry_after_s", RETRY_AFTER_S)))),)
    return Problem(error.http_status, error.code, detail, extra, headers)


def _is_public(name: str, value: object) -> bool:
    if name in _PUBLIC_NUMBERS:
        # Which nan is not.
        return isinstance(value, int | float) and abs(value) <= _MOST_NUMBER
    return name in _PUBLIC_WORDS and isinstance(value, str)


def say_farewell(transport: asyncio.Transport, problem: Problem) -> None:
    """Write the last answer of a connection; its protocol drops what still comes.

    Closing at once, with bytes of the client unread, would reset the connection before the client reads the answer.
    """
    if not transport.is_closing():
        transport.write(problem.response())
        transport.write_eof()
        asyncio.get_running_loop().call_later(FAREWELL_S, transport.abort)


def _phrase(status: int) -> bytes:
    return http.HTTPStatus(status).phrase.encode() if status in set(http.HTTPStatus) else b"Problem"
