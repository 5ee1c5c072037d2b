"""Which way a connection to a daemon takes."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from motes.gateway.daemons import Daemons
from motes.model.routes import Route, Routes
from motes.router.ingress import serve_ingress


class Elsewhere:
    """The cluster: one daemon, and connections to its host by way of NATS."""

    async def routes(self, app: str) -> Routes:
        return Routes(app, 1, {"main": Route("daemon", ("far",))})

    async def connection(self, host: str, app: str, daemon: str) -> socket.socket:
        return talker(b"elsewhere")


def talker(words: bytes) -> socket.socket:
    """A connected socket that says so."""
    ours, theirs = socket.socketpair()
    theirs.sendall(words)
    theirs.close()
    return ours


def test_a_host_is_reached_here_while_its_agent_is_here_and_elsewhere_before_and_after(tmp_path: Path) -> None:
    ingress_path = tmp_path / "hosts" / "far" / "ingress.sock"
    ingress_path.parent.mkdir(parents=True)

    async def connect(app: str, workload: str) -> socket.socket:
        return talker(b"here")

    async def test() -> None:
        daemons = Daemons(Elsewhere(), tmp_path)  # type: ignore[arg-type]

        async def heard() -> bytes:
            with await daemons.open("web") as opened:
                opened.setblocking(False)
                return await asyncio.get_running_loop().sock_recv(opened, 64)

        assert await heard() == b"elsewhere"
        ingress = await serve_ingress(ingress_path, connect)
        assert [await heard() for _ in range(3)] == [b"here"] * 3
        ingress.close()
        assert await heard() == b"elsewhere"
        daemons.close()

    asyncio.run(test())
