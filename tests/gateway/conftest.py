"""A gateway on a real port, in front of a stand-in for the cluster and real daemons behind a real ingress."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvloop

from motes.agent.core.tally import Tally
from motes.agent.tunnels import Tunnels as AgentTunnels
from motes.bus.connection import Connection
from motes.errors import NotFound, Unavailable
from motes.gateway.backend import Backend
from motes.gateway.server import Server
from motes.gateway.tunnels import Tunnels
from motes.grants import jwt, roles
from motes.grants.keys import load_or_create
from motes.model.call import FROM_OUTSIDE, Context
from motes.model.host import HostInstances
from motes.model.keeper import Tool
from motes.model.routes import Route, Routes
from motes.router.ingress import Connect, serve_ingress

Function = Callable[[bytes], Awaitable[bytes]]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


GREET = Route(
    "function",
    ("one",),
    parameters={"$ref": "#/$defs/Who", "$defs": {"Who": {"title": "</pre><script>", "type": "string"}}},
    parameter_names=("who",),
    result={"type": "array", "items": {"$ref": "#/$defs/Line"}, "$defs": {"Line": {"type": "string"}}},
)


class StandIn:
    """A cluster whose functions are coroutines of the test."""

    def __init__(self) -> None:
        self.ready = True
        self.functions: dict[str, Function] = {"hello.greet": self.greet}
        self.daemons: dict[str, tuple[str, ...]] = {"web": ("one",)}
        self.calls: list[tuple[str, bytes, float | None]] = []
        self.on_behalf: list[str] = []
        """For whom each of the calls was."""
        self.streams: dict[str, Callable[[bytes], AsyncIterator[bytes]]] = {}
        self.offered: list[Tool] = []
        self.closed: list[str] = []
        """Streams whose end was seen."""

    async def greet(self, body: bytes) -> bytes:
        return json.dumps(f"Hello, {json.loads(body)}").encode()

    async def call_bytes(
        self, app: str, workload: str, body: bytes, timeout_s: float | None = None, context: Context = FROM_OUTSIDE
    ) -> bytes:
        self.calls.append((f"{app}.{workload}", body, timeout_s))
        self.on_behalf.append(context.on_behalf)
        if f"{app}.{workload}" not in self.functions:
            raise NotFound(f"app {app!r} has no function {workload!r}; see what there is: motes apps")
        return await self.functions[f"{app}.{workload}"](body)

    async def stream_bytes(
        self, app: str, workload: str, body: bytes, timeout_s: float | None = None, context: Context = FROM_OUTSIDE
    ) -> AsyncGenerator[bytes, None]:
        self.calls.append((f"{app}.{workload}", body, timeout_s))
        self.on_behalf.append(context.on_behalf)
        if f"{app}.{workload}" not in self.streams:
            raise NotFound(f"app {app!r} has no function {workload!r}; see what there is: motes apps")
        try:
            async for item in self.streams[f"{app}.{workload}"](body):
                yield item
        finally:
            self.closed.append(f"{app}.{workload}")

    async def tools(self) -> list[Tool]:
        return self.offered

    async def look(self) -> dict[str, HostInstances | None]:
        return {"h": HostInstances("h", [])}

    async def connect(self, host: str, app: str, workload: str) -> socket.socket:
        """As tunnels to a machine that is not there."""
        raise Unavailable(f"host {host!r} is not there")

    async def routes(self, app: str) -> Routes:
        if app in self.daemons:
            return Routes(app, 1, {"main": Route("daemon", self.daemons[app])})
        if f"{app}.greet" in self.functions:
            return Routes(app, 1, {"greet": GREET})
        raise NotFound(f"no app {app!r}; see what there is: motes apps")


@dataclass
class Response:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Gateway:
    """A running gateway and ways to talk to it."""

    server: Server
    cluster: StandIn
    run_folder: Path
    daemon_port: int = 0
    handlers: list[asyncio.Server] = field(default_factory=list)
    ingress_asked: int = 0
    connected: asyncio.Event | None = None
    """What is waited for when a daemon has taken a connection, before the gateway gets it."""

    @property
    def port(self) -> int:
        return self.server.port

    @contextlib.asynccontextmanager
    async def connection(self) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def raw(self, data: bytes) -> bytes:
        """Everything that comes back for `data`, until the gateway closes."""
        async with self.connection() as (reader, writer):
            writer.write(data.replace(b"PORT", b"%d" % self.port))
            with contextlib.suppress(ConnectionError):
                return bytes(await reader.read())
            return b""

    async def request(
        self, method: str, path: str, body: bytes = b"", host: str = "localhost:PORT", **headers: str
    ) -> Response:
        """One request on a connection of its own; underscores in header names stand for dashes."""
        named = {"host": host, "content-length": str(len(body)), "connection": "close"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        head = f"{method} {path} HTTP/1.1\r\n{lines}\r\n".replace("PORT", str(self.port))
        async with self.connection() as (reader, writer):
            writer.write(head.encode("latin-1") + body)
            response = await read_response(reader)
            assert not any(name.startswith("access-control") for name in response.headers)
            return response

    async def serve_daemon(self, handler: Handler) -> None:
        """Let `web` be what `handler` does with each connection."""
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        self.handlers.append(server)
        self.daemon_port = server.sockets[0].getsockname()[1]


async def read_response(reader: asyncio.StreamReader) -> Response:
    """The next answer on a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers["content-length"])) if "content-length" in headers else b""
    return Response(int(head[0].split()[1]), headers, body)


@contextlib.asynccontextmanager
async def tunnelled(running: Any, host: str, connect: Connect) -> AsyncIterator[tuple[Tunnels, AgentTunnels, Any]]:
    """Both sides of tunnels to a host, over a real nats-server, and what of its agent they use."""
    account = load_or_create(running.home.key("account"))
    credentials = jwt.credentials(account, roles.host(host))
    connection = await Connection.open(running.url, credentials)
    machine = SimpleNamespace(tallies={})
    machine.tally = lambda address: machine.tallies.setdefault(address, Tally())
    agent = SimpleNamespace(host=host, connection=connection, connect=connect, machine=machine)
    there = AgentTunnels(cast(Any, agent))
    await there.start()
    here = await Tunnels.open(running.home)
    try:
        yield here, there, agent
    finally:
        await here.close()
        there.close()
        await connection.close()


class Trial:
    """Runs a test's coroutine with a gateway, on the event loop of the program, within a deadline.

    With a nats-server the daemon is on another machine, else on this one.
    """

    def __init__(self, folder: Path, nats_server: Any = None) -> None:
        self._folder = folder
        self._nats_server = nats_server

    def __call__(self, test: Callable[[Gateway], Awaitable[None]]) -> None:
        uvloop.run(self._run(test))

    async def _run(self, test: Callable[[Gateway], Awaitable[None]]) -> None:
        cluster = StandIn()
        backend = Backend()
        server = await Server.start(backend, self._folder, "127.0.0.1", 0)
        gateway = Gateway(server, cluster, self._folder)

        async def connect(app: str, workload: str) -> socket.socket:
            gateway.ingress_asked += 1
            connection = socket.socket()
            connection.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", gateway.daemon_port))
            except OSError:
                connection.close()
                raise
            if gateway.connected is not None:
                await gateway.connected.wait()
            return connection

        async with contextlib.AsyncExitStack() as stack:
            stack.callback(lambda: [handler.close() for handler in gateway.handlers])
            if self._nats_server is None:
                (self._folder / "hosts/one").mkdir(parents=True)
                ingress = await serve_ingress(self._folder / "hosts/one/ingress.sock", connect)
                stack.callback(ingress.close)
                backend.connect(cluster, cluster)
            else:
                here, _, _ = await stack.enter_async_context(tunnelled(self._nats_server, "one", connect))
                backend.connect(cluster, here)
            stack.push_async_callback(server.stop)
            async with asyncio.timeout(60):
                await test(gateway)


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    yield Trial(tmp_path)


@pytest.fixture
def read() -> Callable[[asyncio.StreamReader], Awaitable[Response]]:
    return read_response
