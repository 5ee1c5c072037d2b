"""Connections to daemons on other machines, through the one connection that each has; motes.agent.tunnels is the other
side. What is opened here looks like a connection to the daemon itself: one end of a pair of sockets, of which the pipe
to the host has the other.
"""

from __future__ import annotations

import asyncio
import secrets
import socket

import msgspec

from motes.bus import subjects
from motes.bus.connection import Connection, Message
from motes.errors import HostLost, Overloaded, TimedOut, Unavailable, from_wire
from motes.home import Home
from motes.model.bounds import UNREADABLE
from motes.model.names import GATEWAY_STREAMS
from motes.router import tunnel
from motes.router.pipe import TICK_S, Pipe, tick
from motes.router.tunnel import Open, Opened

PATIENCE_S = 2.5
"""For an answer of the host; its agent gives up first, and says why."""

_encode = msgspec.msgpack.Encoder().encode
_decode_opened = msgspec.msgpack.Decoder(Opened).decode


class Tunnels:
    """The streams of one gateway: a pipe for each host."""

    def __init__(self) -> None:
        self._word = secrets.token_hex(8)
        """In the subjects of this gateway's streams: another that comes after it hears nothing of them."""
        self._pipes: dict[str, Pipe] = {}
        self._ticking: asyncio.TimerHandle | None = None
        self._connection: Connection

    @classmethod
    async def open(cls, home: Home) -> Tunnels:
        """Connect, and hear hosts. Raises Unavailable."""
        tunnels = cls()
        keeper = home.keeper()
        tunnels._connection = await Connection.open(
            keeper.servers,
            home.credentials(GATEWAY_STREAMS),
            certificate=keeper.certificate,
            on_disconnected=tunnels._break_off,
        )
        await tunnels._connection.subscribe(subjects.stream_back("*", tunnels._word), tunnels._on_message)
        await tunnels._connection.subscribe(subjects.gone("*"), tunnels._on_gone)
        return tunnels

    async def connect(self, host: str, app: str, workload: str) -> socket.socket:
        """A non-blocking socket that leads to `app.workload` on the host. Raises MotesError."""
        pipe = self._pipe(host)
        if len(pipe) >= tunnel.MOST_STREAMS:
            raise Overloaded(
                f"over {tunnel.MOST_STREAMS} connections lead to daemons on host {host!r}", retry_after_s=1
            )
        name = secrets.token_bytes(tunnel.NAME_BYTES)
        ours, theirs = socket.socketpair()
        stream = pipe.add(name, ours)
        try:
            theirs.setblocking(False)
            await self._ask(host, Open(name, self._word, app, workload))
            if stream.is_closed:
                raise HostLost(f"the connection of host {host!r} broke as {app}.{workload} was reached there")
        except BaseException:
            theirs.close()
            stream.reset()
            raise
        stream.begin()
        return theirs

    async def close(self) -> None:
        """End all streams and the connection."""
        for pipe in self._pipes.values():
            pipe.reset()
        if self._ticking is not None:
            self._ticking.cancel()
        await self._connection.close()

    async def _ask(self, host: str, wanted: Open) -> None:
        """Raises what the host answers, and Unavailable where it does not."""
        try:
            answer = await self._connection.request(subjects.open_stream(host), _encode(wanted), PATIENCE_S)
            error = _decode_opened(answer).error
        except Unavailable:
            raise Unavailable(f"host {host!r} is not there (it may be coming back; see `motes host ls`)") from None
        except TimedOut:
            raise Unavailable(f"host {host!r} gave no connection within {PATIENCE_S:g} s") from None
        except UNREADABLE:
            raise Unavailable(f"host {host!r} answers what cannot be read") from None
        if error is not None:
            raise from_wire(error)

    def _on_message(self, message: Message) -> None:
        # nats-server lets a host speak in its own name only: it reaches no stream but its own.
        host = message.subject.split(".", 2)[1]
        if host in self._pipes:
            self._pipes[host].hear(message.data)

    def _on_gone(self, message: Message) -> None:
        host = message.subject.partition(".")[2]
        if host in self._pipes:
            self._pipes[host].break_off()

    def _break_off(self) -> None:
        for pipe in self._pipes.values():
            pipe.break_off()

    def _pipe(self, host: str) -> Pipe:
        if host not in self._pipes:
            subject = subjects.stream(host, self._word)
            self._pipes[host] = Pipe(
                lambda data: self._connection.publish(subject, data), lambda: self._connection.unsent_bytes
            )
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        return self._pipes[host]

    def _tick(self) -> None:
        self._pipes = tick(self._pipes)
        self._ticking = asyncio.get_running_loop().call_later(TICK_S, self._tick) if self._pipes else None
