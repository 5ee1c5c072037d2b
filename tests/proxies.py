"""An HTTP proxy that passes connections on, and keeps what it saw."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from types import TracebackType


class ConnectProxy:
    """On the loopback, for one user."""

    def __init__(self, user: str, password: str) -> None:
        self._expected = base64.b64encode(f"{user}:{password}".encode())
        self.asked: list[str] = []
        self.seen = bytearray()
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> ConnectProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.close()
        for each in self._writers:
            each.transport.abort()
        await asyncio.sleep(0.1)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if b"Proxy-Authorization: Basic " + self._expected not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            else:
                address = head.split(b" ")[1].decode()
                self.asked.append(address)
                host, _, port = address.rpartition(":")
                further, onward = await asyncio.open_connection(host, int(port))
                self._writers.append(onward)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(self._pump(reader, onward), self._pump(further, writer))
        writer.close()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                self.seen += data
                target.write(data)
                await target.drain()
        target.close()
