"""The gateway's listening socket and everything behind it: start, keep bounded, end gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from pathlib import Path
from typing import cast

import uvicorn
from uvicorn.server import ServerState

from motes.errors import Refused, Unavailable
from motes.gateway.backend import Backend
from motes.gateway.daemon_counts import DaemonCounts
from motes.gateway.daemons import Daemons
from motes.gateway.front_door import FrontDoor, House
from motes.gateway.function_connection import FunctionConnection
from motes.gateway.functions import Functions

TICK_S = 10.0
GRACE_S = 5.0
"""What calls and transfers under way get at the end."""
KEEP_ALIVE_S = 75
_BACKLOG = 1024
_END_POLL_S = 0.05
_LAST_TURNS_S = 1.0


class Server:
    """HTTP on one loopback address. Made by `Server.start`."""

    def __init__(self, listener: asyncio.Server, house: House, state: ServerState, daemons: Daemons, port: int) -> None:
        self.port = port
        self._listener = listener
        self._house = house
        self._state = state
        self._daemons = daemons
        self._ticking = asyncio.create_task(self._tick_for_ever())

    @classmethod
    async def start(cls, backend: Backend, run_folder: Path, host: str, port: int) -> Server:
        """Listen. Raises Refused for an address that is not loopback, Unavailable when the port is in use."""
        bound = listening_socket(host, port)
        port = bound.getsockname()[1]
        state = ServerState()
        counts = DaemonCounts()
        config = _uvicorn_config(Functions(backend, port, counts))
        daemons = Daemons(backend, run_folder)
        house = House(port, daemons, counts, lambda: FunctionConnection(config, state, {}))
        house.functions = cast("set[FunctionConnection]", state.connections)
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: FrontDoor(house), sock=bound, backlog=_BACKLOG)
        return cls(listener, house, state, daemons, port)

    async def stop(self) -> None:
        """Take no more connections, let what is under way end within GRACE_S, then end everything."""
        self._listener.close()
        self._ticking.cancel()
        for connection in list(self._house.functions):
            connection.shutdown()
        self._house.tick()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await self._until_quiet()
        self._end_all()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=_LAST_TURNS_S)

    async def _until_quiet(self) -> None:
        while self._house.functions or self._house.proxies:
            await asyncio.sleep(_END_POLL_S)
            for proxy in list(self._house.proxies):
                if proxy.is_quiet:
                    proxy.close()
                proxy.tick()

    def _end_all(self) -> None:
        # A call ends when its caller's connection does.
        for connection in list(self._house.functions):
            connection.transport.abort()
        for proxy in list(self._house.proxies):
            proxy.abort()
        for door in list(self._house.doors):
            door.end()
        self._daemons.close()

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._house.tick()


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket. Raises Refused for an address that is not loopback, Unavailable when the port is in use."""
    address = "127.0.0.1" if host == "localhost" else host
    if not _is_loopback(address):
        raise Refused(
            f"the gateway serves without tokens, so it listens on a loopback address only, not on {host};"
            " use --http 127.0.0.1:PORT"
        )
    bound = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        reason = error.strerror or str(error)
        raise Unavailable(f"cannot listen on {host}:{port}: {reason} (choose another with --http HOST:PORT)") from None
    return bound


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _uvicorn_config(functions: Functions) -> uvicorn.Config:
    """uvicorn without what it does beside HTTP: no logs of requests, no lifespan, no WebSocket, no proxies' headers."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        functions,
        interface="asgi3",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    config.load()
    return config
