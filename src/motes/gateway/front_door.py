"""The first look at a connection: its first request's host decides whether functions or a daemon's proxy take it over.

Everything that was read until then is handed on with the connection; what does not even parse goes to the functions'
side, which answers it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from motes.gateway.daemon_counts import DaemonCounts
from motes.gateway.daemon_proxy import DaemonProxy
from motes.gateway.daemons import Daemons
from motes.gateway.function_connection import FunctionConnection
from motes.gateway.problems import Problem, say_farewell
from motes.gateway.rules import daemon_of
from motes.gateway.watch import MAX_HEAD_BYTES, TOO_LARGE, RequestWatch

MAX_CONNECTIONS = 2000
MAX_TICKS = 3
"""How long a connection may take until its first request's head is there."""

_FULL = Problem(503, "overloaded", "too many connections; try again in a moment", headers=((b"retry-after", b"1"),))


class House:
    """All open connections of a gateway, whoever has them now, and what is behind them."""

    def __init__(
        self,
        port: int,
        daemons: Daemons,
        counts: DaemonCounts,
        make_function_connection: Callable[[], FunctionConnection],
    ) -> None:
        self.port = port
        self.daemons = daemons
        self.counts = counts
        self.make_function_connection = make_function_connection
        self.doors: set[FrontDoor] = set()
        self.functions: set[FunctionConnection] = set()
        self.proxies: set[DaemonProxy] = set()

    @property
    def is_full(self) -> bool:
        return len(self.doors) + len(self.functions) + len(self.proxies) >= MAX_CONNECTIONS

    def tick(self) -> None:
        """Let each connection end that has been idle or in the middle of something for too long."""
        for each in (list(self.doors), list(self.functions), list(self.proxies)):
            for connection in each:
                connection.tick()


class FrontDoor(asyncio.Protocol):
    """A connection whose first request's head is not complete yet."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._watch = RequestWatch(house.port)
        self._data = b""
        self._ticks = 0
        self._is_refused = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's.
        transport = cast(asyncio.Transport, transport)
        self._transport = transport
        if self._house.is_full:
            transport.write(_FULL.response())
            transport.close()
        self._house.doors.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._house.doors.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._is_refused or self._transport.is_closing():
            return
        http_size = len(self._data) + self._watch.feed(data)
        self._data += data
        if self._watch.requests or self._watch.problem is not None:
            self._hand_over(http_size)
        elif len(self._data) > MAX_HEAD_BYTES:
            self._is_refused = True
            say_farewell(self._transport, TOO_LARGE)

    def tick(self) -> None:
        """End the connection when its first head does not come."""
        self._ticks += 1
        if self._ticks > MAX_TICKS:
            self._transport.abort()

    def _hand_over(self, http_size: int) -> None:
        self._house.doors.discard(self)
        app = daemon_of(self._watch.host or "")
        if app is None or self._watch.problem is not None:
            self._to_functions()
        else:
            proxies = self._house.proxies
            visit = self._house.counts.visit(app, asyncio.get_running_loop().time)
            proxy = DaemonProxy(self._watch, self._house.daemons, app, visit, proxies.discard)
            proxies.add(proxy)
            proxy.begin(self._transport, self._data, http_size)

    def _to_functions(self) -> None:
        connection = self._house.make_function_connection()
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)
        connection.data_received(self._data)

    def end(self) -> None:
        """Close the connection; no request has come on it."""
        self._transport.abort()
