"""All streams between a gateway and one host, at either end: who sends next, how fast, and whether the other is there.

What both sides hold each other to is in `tunnel`, how fast in `pacing`, one connection in `stream`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from motes.errors import Refused
from motes.router import tunnel
from motes.router.pacing import SAY_AFTER_BYTES, Pacing, weight_of
from motes.router.stream import Count, Stream, count_nothing
from motes.router.tunnel import Pool

TICK_S = 2.0
SILENT_TICKS = 3
"""A side that has streams says so at each tick; after so many without a word it is gone."""
MOST_UNSENT_BYTES = 2**20
"""So much may wait for the own connection to take it. Over that nothing is sent, whatever the other side says that it
has: the connection is not only its own, and would end for all."""
LOOK_AGAIN_S = 0.02

_log = logging.getLogger("motes.router")

Publish = Callable[[bytes], bool]
"""Sends a message to the other side; False when it could not be sent."""


def nothing_unsent() -> int:
    return 0


def tick(pipes: Mapping[str, Pipe]) -> dict[str, Pipe]:
    """A tick of each. Which of them go on: one without streams has said so just now."""
    for pipe in pipes.values():
        try:
            pipe.tick()
        except Exception:
            # A mistake in one turn must not end all later ones: no side would notice any more that the other is gone.
            _log.exception("a turn of the streams to another side failed")
    return {name: pipe for name, pipe in pipes.items() if pipe}


class Pipe:
    """All streams to one other side."""

    def __init__(self, publish: Publish, unsent: Callable[[], int] = nothing_unsent, pool: Pool | None = None) -> None:
        self._publish = publish
        self._unsent = unsent
        """How many bytes the own connection has not taken yet."""
        self.pool = Pool() if pool is None else pool
        self._streams: dict[bytes, Stream] = {}
        self._pacing = Pacing()
        self._waiting: OrderedDict[Stream, None] = OrderedDict()
        """Who would send, in turn, each once."""
        self._looking: asyncio.TimerHandle | None = None
        self._came: dict[bytes, int] = {}
        """Of which streams how much is here, where the other side was not told."""
        self._came_bytes = 0
        self._saying: asyncio.Handle | None = None
        self.silent_ticks = 0
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._streams.values()))

    def add(self, name: bytes, connection: socket.socket, count: Count = count_nothing) -> Stream:
        """A stream of that name for this socket, which it owns from now on. Raises Refused for a name that there is."""
        if name in self._streams:
            connection.close()
            raise Refused("a connection of that name is open; draw another")
        stream = self._streams[name] = Stream(self, name, connection, count)
        return stream

    def hear(self, data: bytes) -> None:
        """A message of the other side."""
        self.silent_ticks = 0
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
        self.silent_ticks += 1
        if self.silent_ticks > SILENT_TICKS:
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
        return 0 if self._unsent() > MOST_UNSENT_BYTES else self._pacing.room

    def send(self, kind: int, stream: Stream, number: int, body: bytes = b"") -> None:
        if not self._publish(tunnel.pack(kind, stream.name, number, body)):
            # It is lost, and nobody would know of the hole.
            self._loop.call_soon(self.break_off)
        elif kind == tunnel.DATA:
            self._pacing.sent(stream.name, number + len(body), len(body), self._loop.time())

    def wait_for_room(self, stream: Stream) -> None:
        """`go_on` is called when it is this stream's turn and something may be sent."""
        self._waiting[stream] = None
        self._look_again_later()

    def give_turns(self) -> None:
        """Let those read that wait, as many as may find room; each calls this again when it has."""
        room = self.room
        while self._waiting and room > 0:
            stream, _ = self._waiting.popitem(last=False)
            if stream.go_on():
                room -= tunnel.MESSAGE_BYTES
        self._look_again_later()

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
        self._waiting.pop(stream, None)
        self.write_off(stream)

    def write_off(self, stream: Stream) -> None:
        """Nobody will say any more that what was sent of it is there: others need not wait for that."""
        self._pacing.forget(stream.name)
        self.give_turns()

    # How it works.

    def _look_again_later(self) -> None:
        """Nobody says when the own connection has taken what was unsent."""
        if self._waiting and self._looking is None and self._unsent() > MOST_UNSENT_BYTES:
            self._looking = self._loop.call_later(LOOK_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        self._looking = None
        self.give_turns()

    def _say_what_came(self) -> None:
        self._saying = None
        came, self._came, self._came_bytes = self._came, {}, 0
        self._publish(tunnel.pack(tunnel.ARRIVED, body=tunnel.pack_amounts(came.items())))

    def _compare(self, names: set[bytes]) -> None:
        for stream in self:
            if stream.is_open and not stream.is_left and stream.name not in names:
                stream.abort()
