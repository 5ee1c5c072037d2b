"""uvicorn's HTTP/1.1 connection with bounds that uvicorn leaves to others."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from motes.gateway.problems import Problem, say_farewell
from motes.gateway.watch import MALFORMED, MAX_HEAD_BYTES, TOO_LARGE, VERSIONS

MAX_PIPELINED = 64
"""Requests that wait on one connection for the one before."""
MAX_DISCARDED_BYTES = 64 * 2**20
"""Of a body that goes on after its answer: read on, so that the client gets to see the answer, but not without end."""
MAX_STALE_TICKS = 3


class FunctionConnection(HttpToolsProtocol):
    """One client's connection; each request's `scope["state"]` says its raw `target` and a `problem` or None."""

    _in_head = False
    _in_body = False
    _head_bytes = 0
    _discarded_bytes = 0
    _stale_ticks = 0
    _unsent_bytes = 0
    _unmoved_ticks = 0
    _is_ended = False

    def data_received(self, data: bytes) -> None:
        if self._is_ended:
            return
        was_in_head = self._in_head
        super().data_received(data)
        if was_in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._end_with(TOO_LARGE)
        elif self._in_body and self.cycle.response_complete:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > MAX_DISCARDED_BYTES:
                self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._in_body = True
        self._discarded_bytes = self._stale_ticks = 0
        state = self.scope["state"]
        state["target"] = self.url
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        state["problem"] = TOO_LARGE if size > MAX_HEAD_BYTES else None
        if self.parser.get_http_version() not in VERSIONS:
            state["problem"] = MALFORMED
        super().on_headers_complete()
        if self.expect_100_continue or self.parser.should_upgrade():
            # Whether a refused body still comes, or what follows an upgrade we do not do, nobody can tell.
            self.cycle.keep_alive = False
        if len(self.pipeline) > MAX_PIPELINED:
            self.transport.abort()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._end_with(MALFORMED)

    def tick(self) -> None:
        """End the connection when it has long been in the middle of a head, of a body nobody reads, or of an answer
        that its client does not take."""
        answered = self.cycle is None or self.cycle.response_complete
        self._stale_ticks = self._stale_ticks + 1 if answered and (self._in_head or self._in_body) else 0
        unsent_bytes = self.transport.get_write_buffer_size()
        self._unmoved_ticks = self._unmoved_ticks + 1 if 0 < self._unsent_bytes <= unsent_bytes else 0
        self._unsent_bytes = unsent_bytes
        if max(self._stale_ticks, self._unmoved_ticks) > MAX_STALE_TICKS:
            self.transport.abort()

    def _end_with(self, problem: Problem) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._is_ended = True
            say_farewell(self.transport, problem)
        else:
            # An answer is under way; the connection ends after it.
            self.cycle.keep_alive = False
            self.pipeline.clear()
            self.flow.pause_reading()
