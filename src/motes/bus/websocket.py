"""A wire's transport over WebSocket and TLS, for hosts that may speak HTTPS only; through a proxy where one is named.

The protocol itself (RFC 6455) is that of `websockets`, which does no I/O; this file is imported when it is used. TLS is
from this end to nats-server, whose certificate is the keeper's own: whoever ends TLS on the way is another.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from motes.bus import tls
from motes.bus.wire import Wire
from motes.errors import Unavailable

MESSAGE_LIMIT_BYTES = 160 * 2**20
"""Of nats-server, in one message: all that waits for this connection, which is bounded there."""
PROXY_ANSWER_LIMIT_BYTES = 16 * 2**10
_DATA = (Opcode.BINARY, Opcode.TEXT, Opcode.CONT)


class WebSocket(asyncio.Protocol, asyncio.Transport):
    """Between the loop's transport and a wire: each takes it for the other. `open` once the other side is known."""

    def __init__(self, wire: Wire, address: str) -> None:
        self._wire = wire
        self._protocol = ClientProtocol(parse_uri(f"wss://{address}/"), max_size=MESSAGE_LIMIT_BYTES)
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    async def open(self) -> None:
        """Ask for a WebSocket; the wire is connected when this returns. Raises Unavailable."""
        self._protocol.send_request(self._protocol.connect())
        self._write_out()
        await self._opened

    # From here on: what the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Nothing is said yet: first it must be known who is there.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._take_events()

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        self._take_events()
        return False

    def connection_lost(self, reason: Exception | None) -> None:
        if not self._opened.done():
            self._fail("it ended before it was a WebSocket")
        elif self._wire.open:
            self._wire.connection_lost(reason)

    def pause_writing(self) -> None:
        self._wire.pause_writing()

    def resume_writing(self) -> None:
        self._wire.resume_writing()

    def _take_events(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._begin()
            elif isinstance(event, Frame) and event.opcode in _DATA and self._wire.open:
                self._wire.data_received(bytes(event.data))
        self._write_out()

    def _begin(self) -> None:
        if (wrong := self._protocol.handshake_exc) is not None:
            self._fail(f"no WebSocket there: {wrong}")
        elif not self._opened.done():
            self._wire.connection_made(self)
            self._opened.set_result(None)

    def _fail(self, why: str) -> None:
        if not self._opened.done():
            self._opened.set_exception(Unavailable(why))
            self._opened.exception()  # Whoever no longer waits shall not be told at garbage collection.

    def _write_out(self) -> None:
        assert self.transport is not None
        for data in self._protocol.data_to_send():
            if data:
                self.transport.write(data)
            else:
                self.transport.close()

    # From here on: what the wire calls.

    def write(self, data: Any) -> None:
        try:
            self._protocol.send_binary(data)
        except WebSocketException:
            return  # It is closing: what is lost now is lost like what is on the way.
        self._write_out()

    def close(self) -> None:
        try:
            self._protocol.send_close()
        except WebSocketException:
            pass
        else:
            self._write_out()
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def is_closing(self) -> bool:
        return self.transport is None or self.transport.is_closing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert self.transport is not None
        self.transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default if self.transport is None else self.transport.get_extra_info(name, default)


class Proxy(NamedTuple):
    """An HTTP proxy that passes connections on, as `HTTPS_PROXY=http://user:password@proxy:3128` names it."""

    host: str
    port: int
    authorization: str


def proxy_for(host: str) -> Proxy | None:
    """The one that HTTPS_PROXY names, unless NO_PROXY names `host`. Raises Unavailable for one that is none."""
    named = getproxies().get("https")
    if not named or proxy_bypass(host):
        return None
    try:
        found = urlsplit(named if "//" in named else f"//{named}", scheme="http")
        port = found.port or 80
    except ValueError:
        found, port = urlsplit("none:"), 0
    if found.scheme != "http" or not found.hostname:
        raise Unavailable(
            f"HTTPS_PROXY names no proxy that Motes can use: it begins with http:// ({found.scheme} there)"
        )
    words = f"{unquote(found.username)}:{unquote(found.password or '')}" if found.username else ""
    return Proxy(found.hostname, port, base64.b64encode(words.encode()).decode() if words else "")


class Passage(asyncio.Protocol):
    """A connection to a proxy, until it has passed it on."""

    def __init__(self) -> None:
        self.passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._heard = bytearray()

    def data_received(self, data: bytes) -> None:
        self._heard += data
        head, end, more = self._heard.partition(b"\r\n\r\n")
        if (not end and len(self._heard) <= PROXY_ANSWER_LIMIT_BYTES) or self.passed.done():
            return
        status = bytes(head).partition(b"\r\n")[0].split(b" ")
        if end and not more and len(status) > 1 and status[0].startswith(b"HTTP/1.") and status[1] == b"200":
            self.passed.set_result(None)
        else:
            told = bytes(head[:100]).partition(b"\r\n")[0].decode(errors="replace")
            self._fail(f"the proxy does not pass it on: {told!r}")

    def connection_lost(self, reason: Exception | None) -> None:
        self._fail("the proxy ended the connection")

    def _fail(self, why: str) -> None:
        if not self.passed.done():
            self.passed.set_exception(Unavailable(why))
            self.passed.exception()


async def connect(wire: Wire, address: str, certificate: bytes) -> None:
    """Connect `wire` to the server at `address`, known by `certificate`. Raises OSError, Unavailable, Untrusted."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    loop = asyncio.get_running_loop()
    socket_ = WebSocket(wire, address)
    proxy = proxy_for(host)
    try:
        if proxy is None:
            await loop.create_connection(lambda: socket_, host, int(port), ssl=tls.context(certificate))
        else:
            await _pass(proxy, address, socket_, host, certificate)
        assert socket_.transport is not None
        tls.check(socket_.transport, certificate)
        await socket_.open()
    except BaseException:
        socket_.abort()
        raise


async def _pass(proxy: Proxy, address: str, socket_: WebSocket, host: str, certificate: bytes) -> None:
    loop = asyncio.get_running_loop()
    plain, passage = await loop.create_connection(Passage, proxy.host, proxy.port)
    try:
        given = f"Proxy-Authorization: Basic {proxy.authorization}\r\n" if proxy.authorization else ""
        plain.write(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{given}\r\n".encode())
        await passage.passed
        plain.set_protocol(socket_)
        transport = await loop.start_tls(plain, socket_, tls.context(certificate), server_hostname=host)
        if transport is None:
            raise Unavailable("the proxy ended the connection")
        socket_.connection_made(transport)
    except BaseException:
        plain.abort()
        raise
