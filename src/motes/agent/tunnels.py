"""Connections to daemons on this host, for the gateway on another machine; motes.gateway.tunnels is the other side.

nats-server lets only the gateway speak on the subjects of these, so what is asked here the gateway asks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from motes.bus import subjects
from motes.bus.connection import Message, Subscription
from motes.errors import MotesError, Overloaded, Unavailable
from motes.model.bounds import UNREADABLE
from motes.model.names import is_name
from motes.router import tunnel
from motes.router.pipe import TICK_S, Pipe, tick
from motes.router.stream import Count
from motes.router.tunnel import Open, Opened, Pool
from motes.tasks import Tasks

if TYPE_CHECKING:
    from motes.agent.service import Agent

CONNECT_TIMEOUT_S = 2.0
"""For a daemon to take a connection; the gateway has a little more patience."""
MOST_ERROR_BYTES = 16 * 2**10
MOST_GATEWAYS = 4
"""There is one; one that has ended lingers until it was silent for long enough."""
_INBOX = "_INBOX."

_encode = msgspec.msgpack.Encoder().encode
_decode_open = msgspec.msgpack.Decoder(Open).decode


class Tunnels:
    """The streams of one agent; a pipe for each gateway, by its word."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._pipes: dict[str, Pipe] = {}
        self._pool = Pool()
        """What may wait here is the host's, however many gateways there seem to be."""
        self._opening = Tasks("agent")
        self._ticking: asyncio.TimerHandle | None = None

    async def start(self) -> list[Subscription]:
        """Hear the gateway. Raises Unavailable."""
        host, connection = self._agent.host, self._agent.connection
        return [
            await connection.subscribe(subjects.open_stream(host), self._on_open),
            await connection.subscribe(subjects.stream(host, "*"), self._on_message),
        ]

    def on_reconnected(self) -> None:
        """What was on the way is lost, so all streams have holes."""
        for pipe in self._pipes.values():
            pipe.break_off()

    def close(self) -> None:
        """End all streams, and say so."""
        self._opening.cancel()
        for pipe in self._pipes.values():
            pipe.reset()
        if self._ticking is not None:
            self._ticking.cancel()

    def _on_open(self, message: Message) -> None:
        if not message.reply.startswith(_INBOX):
            return
        try:
            wanted = _decode_open(message.data)
        except UNREADABLE:
            return
        if len(wanted.stream) == tunnel.NAME_BYTES and is_name(wanted.word):
            self._opening.spawn(self._open(wanted, message.reply))

    async def _open(self, wanted: Open, reply: str) -> None:
        address = f"{wanted.app}.{wanted.workload}"
        try:
            if sum(map(len, self._pipes.values())) + len(self._opening) > tunnel.MOST_STREAMS:
                most = f"host {self._agent.host!r} has {tunnel.MOST_STREAMS} connections to its daemons"
                raise Overloaded(most, retry_after_s=1)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                connection = await self._agent.connect(wanted.app, wanted.workload)
            # Only now: another of that name may have come meanwhile.
            stream = self._pipe(wanted.word).add(wanted.stream, connection, self._counting(address))
        except MotesError as error:
            self._refuse(reply, error)
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or f"nothing within {CONNECT_TIMEOUT_S:g} s"
            self._refuse(reply, Unavailable(f"{address} takes no connection: {reason}"))
        else:
            # Before anything that the daemon says.
            self._agent.connection.publish(reply, _encode(Opened()))
            stream.begin()

    def _counting(self, address: str) -> Count:
        tally = self._agent.machine.tally

        def count(in_bytes: int, out_bytes: int) -> None:
            counts = tally(address)
            counts.in_bytes += in_bytes
            counts.out_bytes += out_bytes

        return count

    def _refuse(self, reply: str, error: MotesError) -> None:
        data = _encode(Opened(error.to_wire()))
        if len(data) > MOST_ERROR_BYTES:
            data = _encode(Opened(type(error)(error.message[:1024]).to_wire()))
        self._agent.connection.publish(reply, data)

    def _on_message(self, message: Message) -> None:
        word = message.subject.rpartition(".")[2]
        if word in self._pipes:
            self._pipes[word].hear(message.data)

    def _pipe(self, word: str) -> Pipe:
        if word not in self._pipes:
            if len(self._pipes) >= MOST_GATEWAYS:
                self._drop_one()
            subject, connection = subjects.stream_back(self._agent.host, word), self._agent.connection
            self._pipes[word] = Pipe(
                lambda data: connection.publish(subject, data), lambda: connection.unsent_bytes, self._pool
            )
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        return self._pipes[word]

    def _drop_one(self) -> None:
        """The pipe of a gateway that has no streams, or else of the one that was silent for longest."""
        word = max(self._pipes, key=lambda word: (not self._pipes[word], self._pipes[word].silent_ticks))
        self._pipes.pop(word).reset()

    def _tick(self) -> None:
        self._pipes = tick(self._pipes)
        self._ticking = asyncio.get_running_loop().call_later(TICK_S, self._tick) if self._pipes else None
