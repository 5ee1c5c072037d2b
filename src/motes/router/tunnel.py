"""What the gateway and an agent on another machine say to each other about connections to daemons there. A core.

A connection is a *stream*, named by 16 bytes that the gateway draws; all streams between a gateway and a host are a
*pipe* (motes.router.pipe). The gateway asks for a stream (`Open`, a request); what follows are messages, a head and a
body, on subjects that nobody else may use (motes.bus.subjects).

- What arrives is passed on in order and without a hole: each piece says where in the stream it is.
- Nobody sends more of a stream than the other side has granted, so what waits there is bounded.
- Each direction ends by itself. Only who has ended its own and wants no more of the other has left.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

NAME_BYTES = 16
MESSAGE_BYTES = 32 * 2**10
"""The most in one message, so that calls on the same connection find their turn between two."""
FIRST_WINDOW_BYTES = 64 * 2**10
"""What each side may send of a new stream; also the least that is granted later."""
MOST_WINDOW_BYTES = 4 * 2**20
POOL_BYTES = 64 * 2**20
"""What may wait on one side for slow readers, divided among its streams; each has its first window besides."""
MOST_STREAMS = 1000
"""Of a pipe, and on one host."""

DATA, END, LEFT, RESET, GRANT, ARRIVED, ALIVE = range(1, 8)
"""A piece, and where it begins. No more comes, after so much. The same, and no more is wanted. It broke. So much of it
may be sent, from its beginning. How much of some streams is here. Which streams there are."""

_HEAD = struct.Struct(f">B{NAME_BYTES}sQ")
_AMOUNT = struct.Struct(f">{NAME_BYTES}sQ")
NOBODY = bytes(NAME_BYTES)
"""In messages about the whole pipe."""


class Broken(Exception):
    """The other side does not keep to what is above."""


class Open(msgspec.Struct):
    """What a gateway asks: a connection to a workload, as `stream`; `word` is the gateway's own, in its subjects."""

    stream: bytes
    word: str
    app: str
    workload: str


class Opened(msgspec.Struct, omit_defaults=True):
    """What an agent answers; with an error, in its wire form, there is no such stream."""

    error: dict[str, Any] | None = None


class Heard(NamedTuple):
    """One message."""

    kind: int
    stream: bytes
    number: int
    body: memoryview


def pack(kind: int, stream: bytes = NOBODY, number: int = 0, body: bytes = b"") -> bytes:
    return _HEAD.pack(kind, stream, number) + body


def unpack(data: bytes) -> Heard:
    """Raises ValueError."""
    if not 0 <= len(data) - _HEAD.size <= MESSAGE_BYTES:
        raise ValueError("a message without a head, or with too much in it")
    kind, stream, number = _HEAD.unpack_from(data)
    return Heard(kind, stream, number, memoryview(data)[_HEAD.size :])


def pack_amounts(amounts: Iterable[tuple[bytes, int]]) -> bytes:
    """The body of ARRIVED."""
    return b"".join(_AMOUNT.pack(*each) for each in amounts)


def unpack_amounts(body: memoryview) -> list[tuple[bytes, int]]:
    """Raises ValueError."""
    if len(body) % _AMOUNT.size:
        raise ValueError("half an amount")
    return list(_AMOUNT.iter_unpack(body))


def unpack_names(body: memoryview) -> set[bytes]:
    """The body of ALIVE."""
    return {bytes(body[at : at + NAME_BYTES]) for at in range(0, len(body), NAME_BYTES)}


class Pool:
    """What may wait on one side, of all its streams."""

    def __init__(self) -> None:
        self.streams = 0
        self.granted = 0
        """To all of them, and not used."""

    def window(self, granted: int) -> int:
        """What one of them may have, that has so much of it: its part of what there is, as far as nobody has that."""
        share = min(MOST_WINDOW_BYTES, POOL_BYTES // max(self.streams, 1))
        return max(FIRST_WINDOW_BYTES, min(share, granted + POOL_BYTES - self.granted))


class Flow:
    """How far one stream is, as one of its sides sees it. Everything is counted from the stream's beginning."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        pool.streams += 1
        self.sent = 0
        self._may_send = FIRST_WINDOW_BYTES
        self.arrived = 0
        self._used = self._granted = 0
        self._grant(FIRST_WINDOW_BYTES)
        self.has_ended = False
        """This side sends no more."""
        self.is_ended = False
        """The other side sends no more."""

    @property
    def room(self) -> int:
        """How much may be sent now."""
        return 0 if self.has_ended else self._may_send - self.sent

    def send(self, size: int) -> int:
        """Where the piece begins that is sent now."""
        at, self.sent = self.sent, self.sent + size
        return at

    def allow(self, until: int) -> None:
        """The other side grants so much."""
        self._may_send = max(self._may_send, until)

    def take(self, at: int, size: int) -> None:
        """A piece has come. Raises Broken."""
        if self.is_ended or at != self.arrived or at + size > self._granted or not size:
            raise Broken(f"{size} bytes at {at}, where {self.arrived} have come and {self._granted} are granted")
        self.arrived += size

    def end(self, at: int) -> None:
        """The other side has ended. Raises Broken."""
        if self.is_ended or at != self.arrived:
            raise Broken(f"an end at {at}, where {self.arrived} have come")
        self.is_ended = True
        self._grant(self.arrived)

    def use(self, size: int) -> int:
        """So much of what has come is passed on. What to grant now, or 0 while that is not worth a message."""
        self._used += size
        self._pool.granted -= size
        window = self._pool.window(self._granted - self._used)
        until = self._used + window
        if self.is_ended or until - self._granted < window // 4:
            return 0
        self._grant(until)
        return until

    def close(self) -> None:
        """Nothing waits any more. Once."""
        self._grant(self._used)
        self._pool.streams -= 1

    def _grant(self, until: int) -> None:
        self._pool.granted += until - self._granted
        self._granted = until
