"""What instances write, gathered for a short time and sent to the controller; bounded, the oldest is dropped.

Each app has a budget of its own, and the apps take turns: a loud one costs the others nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import msgspec

from motes.bus import subjects
from motes.model.keeper import LogLine

FLUSH_S = 0.1
MESSAGE_BYTES = 4 * 2**10
"""The most text in one message."""
MESSAGES_AT_ONCE = 40
"""In one flush, from the whole host: fewer than the controller takes (see motes.controller.intake)."""
APP_BUFFER_BYTES = 256 * 2**10
"""What of one app waits to be sent; more, and the oldest of it is dropped."""

_Writer = tuple[str, int]
"""A workload's address and a process id."""


class _Piece:
    """The text of one message, as it grows."""

    def __init__(self, writer: _Writer) -> None:
        self.writer = writer
        self.data = bytearray()


class _Waiting:
    """What of one app waits to be sent."""

    def __init__(self) -> None:
        self._pieces: deque[_Piece] = deque()
        self._growing: dict[_Writer, _Piece] = {}
        self._size = 0
        self._dropped = 0

    def add(self, writer: _Writer, data: bytes) -> None:
        self._size += len(data)
        while data:
            piece = self._growing.get(writer)
            if piece is None:
                piece = self._growing[writer] = _Piece(writer)
                self._pieces.append(piece)
            room = MESSAGE_BYTES - len(piece.data)
            piece.data += data[:room]
            data = data[room:]
            if len(piece.data) == MESSAGE_BYTES:
                del self._growing[writer]
        while self._size > APP_BUFFER_BYTES:
            self._dropped += len(self._take().data)

    def first(self) -> tuple[_Writer, str] | None:
        """The next message, or None; `sent` takes it away."""
        if not self._pieces:
            return None
        piece = self._pieces[0]
        if self._dropped:
            return piece.writer, f"[{self._dropped} bytes dropped: written faster than logs are kept]\n"
        return piece.writer, piece.data.decode(errors="replace")

    def sent(self) -> None:
        if self._dropped:
            self._dropped = 0
        else:
            self._take()

    def _take(self) -> _Piece:
        piece = self._pieces.popleft()
        self._size -= len(piece.data)
        if self._growing.get(piece.writer) is piece:
            del self._growing[piece.writer]
        return piece


class Logs:
    """The output of all instances of a host."""

    def __init__(
        self, host: str, publish: Callable[[str, bytes], bool], clock: Callable[[], float] = time.time
    ) -> None:
        self._host = host
        self._clock = clock
        self._publish = publish
        self._apps: dict[str, _Waiting] = {}
        """In the order of their turns."""

    def add(self, address: str, pid: int, data: bytes) -> None:
        """`data` was written by process `pid` of the workload."""
        self._apps.setdefault(address.partition(".")[0], _Waiting()).add((address, pid), data)

    def flush(self, most: float = MESSAGES_AT_ONCE) -> None:
        """Send what has been gathered, one message of each app in turn, at most so many; call it every FLUSH_S."""
        while self._apps and most > 0:
            app, waiting = next(iter(self._apps.items()))
            message = waiting.first()
            if message is not None and not self._send(app, *message):
                return  # Without a connection everything waits.
            del self._apps[app]
            if message is not None:
                waiting.sent()
                self._apps[app] = waiting
                most -= 1

    def flush_all(self) -> None:
        """Send everything: the host stops."""
        self.flush(float("inf"))

    def _send(self, app: str, writer: _Writer, text: str) -> bool:
        address, pid = writer
        workload = address.partition(".")[2]
        line = LogLine(self._clock(), self._host, app, workload, pid, text)
        return self._publish(subjects.log(self._host, app, workload), msgspec.json.encode(line))
