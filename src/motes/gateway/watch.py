"""The requests that pass on one connection, each judged by the loopback rules; the bytes themselves are not touched."""

from __future__ import annotations

import httptools

from motes.gateway.problems import Problem
from motes.gateway.rules import LISTENED, judge

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's target and headers."""

VERSIONS = ("1.0", "1.1")

TOO_LARGE = Problem(
    431,
    "head_too_large",
    f"a request's head may have {MAX_HEAD_BYTES // 1024} KiB",
    {"limit_bytes": MAX_HEAD_BYTES},
    close=True,
)
MALFORMED = Problem(400, "malformed_request", "this is no HTTP/1.1 request", close=True)
_ANOTHER_HOST = Problem(421, "misdirected", "this connection belongs to another host; open a new one", close=True)


class RequestWatch:
    """Follows one connection's requests as they are fed.

    `host` is the first request's name, in lower case; `problem` is why the connection must end; `in_head` says that
    the bytes fed so far end inside a request's head; `upgrade` is what the last request asks to switch to, if it does.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._parser = httptools.HttpRequestParser(self)
        self._target_is_path = False
        self._size = 0
        self._listened: list[tuple[bytes, bytes]] = []
        self._asked_upgrade = b""
        self.host: str | None = None
        self.problem: Problem | None = None
        self.in_head = False
        self.upgrade: bytes | None = None
        self.requests = 0
        """Heads seen to their end."""

    def feed(self, data: bytes) -> int:
        """Follow `data`; returns how much of it is HTTP: up to the end of a request that asks for an upgrade."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as switch:
            self.upgrade = self._asked_upgrade
            return int(switch.args[0])
        except httptools.HttpParserError:
            self.problem = self.problem or MALFORMED
        return len(data)

    def restart(self) -> None:
        """Expect plain requests again after an upgrade that was not taken up."""
        self._parser = httptools.HttpRequestParser(self)
        self.upgrade = None

    # What the parser calls.

    def on_message_begin(self) -> None:
        self.in_head = True
        self._target_is_path = False
        self._size = 0
        self._listened = []
        self._asked_upgrade = b""

    def on_url(self, part: bytes) -> None:
        if not self._size:
            self._target_is_path = part.startswith(b"/")
        self._size += len(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value)
        if not self.in_head:
            return  # A trailer says nothing about where a request goes, and there may be endless ones.
        name = name.lower()
        if name in LISTENED:
            self._listened.append((name, value))
        elif name == b"upgrade":
            self._asked_upgrade = value.lower()

    def on_headers_complete(self) -> None:
        self.in_head = False
        self.requests += 1
        if self.problem is None:
            self.problem = self._judged() if self._parser.get_http_version() in VERSIONS else MALFORMED

    def _judged(self) -> Problem | None:
        if self._size > MAX_HEAD_BYTES:
            return TOO_LARGE
        problem, host = judge(self._target_is_path, tuple(self._listened), self._port)
        if problem is None and self.host is None:
            self.host = host
        return problem if problem is not None or host == self.host else _ANOTHER_HOST
