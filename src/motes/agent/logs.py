"""What instances write, gathered for a short time and sent to the LOGS stream; bounded, the oldest is dropped."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import msgspec

from motes.bus import subjects
from motes.model.keeper import LogLine

FLUSH_S = 0.1
MESSAGE_BYTES = 8 * 2**10
"""The most text in one message: as JSON it may grow to six times that, and the stream takes 64 KiB."""
BUFFER_BYTES = 64 * 2**10
"""What one workload may write between two flushes; more, and the oldest of it is dropped."""


class _Buffer:
    """One instance's output since the last flush."""

    def __init__(self) -> None:
        self.parts: deque[bytes] = deque()
        self.size = 0
        self.dropped = 0

    def add(self, data: bytes) -> None:
        self.parts.append(data)
        self.size += len(data)
        while self.size > BUFFER_BYTES:
            self.size -= len(gone := self.parts.popleft())
            self.dropped += len(gone)

    def texts(self) -> list[str]:
        whole = b"".join(self.parts)
        note = [f"[{self.dropped} bytes dropped: written faster than logs are kept]\n"] if self.dropped else []
        pieces = [whole[at : at + MESSAGE_BYTES] for at in range(0, len(whole), MESSAGE_BYTES)]
        return note + [piece.decode(errors="replace") for piece in pieces]


class Logs:
    """The output of all instances of a host."""

    def __init__(self, host: str, publish: Callable[[str, bytes], object]) -> None:
        self._host = host
        self._publish = publish
        self._buffers: dict[tuple[str, int], _Buffer] = {}

    def add(self, address: str, pid: int, data: bytes) -> None:
        """`data` was written by process `pid` of the workload."""
        self._buffers.setdefault((address, pid), _Buffer()).add(data)

    def flush(self) -> None:
        """Send everything gathered; call it every FLUSH_S."""
        buffers, self._buffers = self._buffers, {}
        for (address, pid), buffer in buffers.items():
            app, _, workload = address.partition(".")
            for text in buffer.texts():
                line = LogLine(time.time(), self._host, app, workload, pid, text)
                self._publish(subjects.log(self._host, app, workload), msgspec.json.encode(line))
