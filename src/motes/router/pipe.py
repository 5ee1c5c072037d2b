"""All streams between a gateway and one host, at either end: who sends next, how fast, and whether the other is there.

What both sides hold each other to is in `tunnel`, how fast in `pacing`, one connection in `stream`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Iterator

from motes.router import tunnel
from motes.router.pacing import SAY_AFTER_BYTES, Pacing, weight_of
from motes.router.stream import Count, Stream, count_nothing

TICK_S = 2.0
SILENT_TICKS = 3
"""A side that has streams says so at each tick; after so many without a word it is gone."""

Publish = Callable[[bytes], bool]
"""Sends a message to the other side; False when it could not be sent."""


class Pipe:
    """All streams to one other side."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._streams: dict[bytes, Stream] = {}
        self._pacing = Pacing()
        self._waiting: deque[Stream] = deque()
        """Who would send, in turn."""
        self._came: dict[bytes, int] = {}
        """Of which streams how much is here, where the other side was not told."""
        self._came_bytes = 0
        self._saying: asyncio.Handle | None = None
        self._silent_ticks = 0
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._streams.values()))

    def add(self, name: bytes, connection: socket.socket, count: Count = count_nothing) -> Stream:
        """A stream of that name for this socket, which it owns from now on."""
        stream = self._streams[name] = Stream(self, name, connection, count)
        return stream

    def hear(self, data: bytes) -> None:
        """A message of the other side."""
        self._silent_ticks = 0
        with contextlib.suppress(ValueError):
            kind, name, number, body = tunnel.unpack(data)
            if kind == tunnel.ARRIVED:
                self._pacing.arrived(tunnel.unpack_amounts(body), self._loop.time())
                self.give_turns()
            elif kind == tunnel.ALIVE:
                self._compare(tunnel.unpack_names(body))
            elif name in self._streams:
                self._streams[name].hear(kind, number, body)

    def tick(self) -> None:
        """Call it every TICK_S: says which streams there are here, and ends them all when nothing was heard."""
        self._silent_ticks += 1
        if self._silent_ticks > SILENT_TICKS:
            self.break_off()
            return
        for stream in self:
            stream.look()
        names = [stream.name for stream in self if not stream.is_left]
        self._publish(tunnel.pack(tunnel.ALIVE, body=b"".join(names)))

    def break_off(self) -> None:
        """The other side is gone."""
        for stream in self:
            stream.abort()

    def reset(self) -> None:
        """End all streams, and say so."""
        for stream in self:
            stream.reset()

    # From here on: what its streams use.

    @property
    def room(self) -> int:
        """How much may be sent now."""
        return self._pacing.room

    @property
    def window(self) -> int:
        """How much of one stream may wait here."""
        return tunnel.window_of(len(self._streams))

    def send(self, kind: int, stream: Stream, number: int, body: bytes = b"") -> None:
        if not self._publish(tunnel.pack(kind, stream.name, number, body)):
            # It is lost, and nobody would know of the hole.
            self._loop.call_soon(self.break_off)
        elif kind == tunnel.DATA:
            self._pacing.sent(stream.name, number + len(body), len(body), self._loop.time())

    def wait_for_room(self, stream: Stream) -> None:
        """`go_on` is called when it is this stream's turn and something may be sent."""
        self._waiting.append(stream)

    def give_turns(self) -> None:
        """Let those read that wait, as many as may find room; each calls this again when it has."""
        room = self._pacing.room
        while self._waiting and room > 0:
            if self._waiting.popleft().go_on():
                room -= tunnel.MESSAGE_BYTES

    def note_came(self, stream: Stream, size: int) -> None:
        """A piece is here; when it will be passed on does not matter to how fast others may come."""
        self._came[stream.name] = stream.flow.arrived
        self._came_bytes += weight_of(size)
        if self._came_bytes >= SAY_AFTER_BYTES and self._saying is None:
            # All that came with one read is told of with one message.
            self._saying = self._loop.call_soon(self._say_what_came)

    def forget(self, stream: Stream) -> None:
        if self._streams.get(stream.name) is stream:
            del self._streams[stream.name]
        self._pacing.forget(stream.name)
        self.give_turns()

    # How it works.

    def _say_what_came(self) -> None:
        self._saying = None
        came, self._came, self._came_bytes = self._came, {}, 0
        self._publish(tunnel.pack(tunnel.ARRIVED, body=tunnel.pack_amounts(came.items())))

    def _compare(self, names: set[bytes]) -> None:
        for stream in self:
            if stream.is_open and not stream.is_left and stream.name not in names:
                stream.abort()
