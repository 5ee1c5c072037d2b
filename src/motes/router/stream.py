"""One connection of a pipe (motes.router.pipe), at either end: a socket on one side, messages on the other.

The socket is read only for what may be sent at once, so nothing waits here on its way out; what it does not take yet
waits here, as much as was granted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from motes.router import tunnel
from motes.router.tunnel import Broken, Flow, Pool

LINGER_S = 5.0
"""How long what the other side sent before it left may take to be written."""
_AT_ONCE = struct.pack("ii", 1, 0)

Count = Callable[[int, int], None]
"""Told of every piece: the bytes that came from the other side, and those that went there."""


def count_nothing(in_bytes: int, out_bytes: int) -> None:
    pass


class Pipe(Protocol):
    """The part of `motes.router.pipe.Pipe` that its streams use."""

    @property
    def room(self) -> int: ...

    @property
    def pool(self) -> Pool: ...

    def send(self, kind: int, stream: Stream, number: int, body: bytes = b"") -> None: ...

    def wait_for_room(self, stream: Stream) -> None: ...

    def give_turns(self) -> None: ...

    def note_came(self, stream: Stream, size: int) -> None: ...

    def forget(self, stream: Stream) -> None: ...

    def write_off(self, stream: Stream) -> None: ...


class Stream:
    """One connection. It begins with `begin`; until then it only takes what comes."""

    def __init__(self, pipe: Pipe, name: bytes, connection: socket.socket, count: Count) -> None:
        connection.setblocking(False)
        self._count = count
        self.name = name
        self.flow = Flow(pipe.pool)
        self.is_open = False
        """Whether both sides know of it."""
        self.is_left = False
        """The other side has no such stream any more, and only what it had sent before is still written."""
        self._pipe = pipe
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._unwritten = bytearray()
        """In one piece: what was granted is counted in bytes, and each of many small pieces would take far more."""
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
            self._unwritten += data
            if not self._writes:
                self._writes = True
                self._loop.add_writer(self._socket, self._write_on)

    def _take_leave(self, at: int) -> None:
        if self.is_left:
            raise Broken("it leaves again")
        if not self.flow.is_ended:
            self.flow.end(at)
        self.is_left = True
        self._stop_reading()
        if self._unwritten:
            self._leaving = self._loop.call_later(LINGER_S, self.abort)
            self._pipe.write_off(self)
        else:
            self._close()

    def _write_on(self) -> None:
        del self._unwritten[: self._write(self._unwritten)]
        if not self._unwritten:
            self._stop_writing()
            self._note_all_written()

    def _write(self, data: memoryview | bytearray) -> int:
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
        if until := self.flow.use(size):
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
        if self.is_closed:
            return
        self._stop_reading()
        self._stop_writing()
        if self._leaving is not None:
            self._leaving.cancel()
        self._unwritten.clear()
        self.flow.close()
        self._socket.close()
        self._pipe.forget(self)
