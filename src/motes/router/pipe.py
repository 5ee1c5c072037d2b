"""The streams between a gateway and one host, at either end: sockets on one side, messages on the other.

A socket is read only for what may be sent at once, so nothing waits here on its way out; what a socket does not take
yet waits here, as much as was granted. What both sides hold each other to is in `tunnel`, how fast in `pacing`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator

from motes.router import tunnel
from motes.router.pacing import SAY_AFTER_BYTES, Pacing, weight_of
from motes.router.tunnel import Broken, Flow

TICK_S = 2.0
SILENT_TICKS = 3
"""A side that has streams says so at each tick; after so many without a word it is gone."""
LINGER_S = 5.0
"""How long what the other side sent before it left may take to be written."""
_AT_ONCE = struct.pack("ii", 1, 0)

Publish = Callable[[bytes], bool]
"""Sends a message to the other side; False when it could not be sent."""
Count = Callable[[int, int], None]
"""Told of every piece: the bytes that came from the other side, and those that went there."""


def _count_nothing(in_bytes: int, out_bytes: int) -> None:
    pass


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

    def add(self, name: bytes, connection: socket.socket, count: Count = _count_nothing) -> Stream:
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


class Stream:
    """One connection. It begins with `begin`; until then it only takes what comes."""

    def __init__(self, pipe: Pipe, name: bytes, connection: socket.socket, count: Count) -> None:
        connection.setblocking(False)
        self._count = count
        self.name = name
        self.flow = Flow()
        self.is_open = False
        """Whether both sides know of it."""
        self.is_left = False
        """The other side has no such stream any more, and only what it had sent before is still written."""
        self._pipe = pipe
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._unwritten: deque[memoryview] = deque()
        self._is_deaf = False
        """The socket takes no more, and what comes is dropped."""
        self._reads = self._writes = False
        self._leaving: asyncio.TimerHandle | None = None

    @property
    def is_closed(self) -> bool:
        return self._socket.fileno() == -1

    def begin(self) -> None:
        """The other side has it too."""
        self.is_open = True
        self.go_on()

    def go_on(self) -> bool:
        """Read the socket, for there may be room; False when there is nothing to be read any more."""
        if self.flow.has_ended or self.is_left or self.is_closed:
            return False
        if not self._reads:
            self._reads = True
            self._loop.add_reader(self._socket, self._read)
        return True

    def look(self) -> None:
        """Whether whoever has the other end of the socket has gone, where nothing is written that would show it."""
        if self.flow.has_ended and not self.flow.is_ended and not self._unwritten and self._is_gone():
            self._leave()

    def hear(self, kind: int, number: int, body: memoryview) -> None:
        """A message of the other side about it."""
        try:
            if kind == tunnel.DATA:
                self._take(number, body)
            elif kind == tunnel.GRANT:
                self.flow.allow(number)
                self.go_on()
            elif kind == tunnel.END:
                self.flow.end(number)
                self._note_all_written()
            elif kind == tunnel.LEFT:
                self._take_leave(number)
            elif kind == tunnel.RESET:
                self.abort()
        except Broken:
            self.reset()

    def reset(self) -> None:
        """End it at once on both sides."""
        if not self.is_closed:
            self._pipe.send(tunnel.RESET, self, 0)
            self.abort()

    def abort(self) -> None:
        """End it at once here, in a way that cannot be taken for a proper end."""
        if not self.is_closed:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self._close()

    # From the socket to the other side.

    def _read(self) -> None:
        """One message; the loop calls again while there is more."""
        self._read_one()
        self._pipe.give_turns()

    def _read_one(self) -> None:
        most = min(tunnel.MESSAGE_BYTES, self.flow.room, self._pipe.room)
        if most <= 0:
            self._stop_reading()
            if self.flow.room > 0:
                self._pipe.wait_for_room(self)
            return
        try:
            data = self._socket.recv(most)
        except BlockingIOError:
            return
        except OSError:
            self.reset()
            return
        if data:
            self._count(0, len(data))
            self._pipe.send(tunnel.DATA, self, self.flow.send(len(data)), data)
        elif self._is_gone():
            self._leave()
        else:
            self._stop_reading()
            self.flow.has_ended = True
            self._pipe.send(tunnel.END, self, self.flow.sent)
            self._note_all_written()

    def _is_gone(self) -> bool:
        """Whether nobody would read what is written."""
        if self.flow.is_ended:
            return False
        try:
            self._socket.send(b"")
        except BlockingIOError:
            return False
        except OSError:
            return True
        return self._is_deaf

    def _leave(self) -> None:
        self._pipe.send(tunnel.LEFT, self, self.flow.sent)
        self._close()

    def _stop_reading(self) -> None:
        if self._reads:
            self._reads = False
            self._loop.remove_reader(self._socket)

    # From the other side to the socket.

    def _take(self, at: int, data: memoryview) -> None:
        self.flow.take(at, len(data))
        self._count(len(data), 0)
        self._pipe.note_came(self, len(data))
        if not self._unwritten:
            data = data[self._write(data) :]
        if data:
            self._unwritten.append(data)
            if not self._writes:
                self._writes = True
                self._loop.add_writer(self._socket, self._write_on)

    def _take_leave(self, at: int) -> None:
        if not self.flow.is_ended:
            self.flow.end(at)
        self.is_left = True
        self._stop_reading()
        if self._unwritten:
            self._leaving = self._loop.call_later(LINGER_S, self.abort)
        else:
            self._close()

    def _write_on(self) -> None:
        while self._unwritten:
            first = self._unwritten[0]
            size = self._write(first)
            if self.is_closed:
                return
            if size < len(first):
                self._unwritten[0] = first[size:]
                return
            self._unwritten.popleft()
        self._stop_writing()
        self._note_all_written()

    def _write(self, data: memoryview) -> int:
        """How much of it is dealt with."""
        size = len(data)
        if not self._is_deaf:
            try:
                size = self._socket.send(data)
            except BlockingIOError:
                return 0
            except OSError:
                # What was sent before it went is still read, and shows its end.
                self._is_deaf = True
        if until := self.flow.use(size, self._pipe.window):
            self._pipe.send(tunnel.GRANT, self, until)
        return size

    def _note_all_written(self) -> None:
        if self._unwritten or not self.flow.is_ended:
            return
        if self.is_left or self.flow.has_ended:
            self._close()
        else:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def _stop_writing(self) -> None:
        if self._writes:
            self._writes = False
            self._loop.remove_writer(self._socket)

    def _close(self) -> None:
        self._stop_reading()
        self._stop_writing()
        if self._leaving is not None:
            self._leaving.cancel()
        self._unwritten.clear()
        self._socket.close()
        self._pipe.forget(self)
