"""How much may be on its way to the other machine at a time, so that nothing else waits long behind it. A core.

A host has one connection, for calls, heartbeats and all streams to its daemons. Whatever is sent faster than the line
carries it waits somewhere on the way, where nothing can overtake it: a host whose heartbeats wait for a second is
passed over, and nats-server ends a connection that it cannot write to. So the window follows the time that pieces take
until the other side says that they are there: what they take longer than the quickest of late is a queue, of which
there may be QUEUE_S. After LEDBAT (RFC 6817), with a gain that is stable also where the way itself is long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import isnan

QUEUE_S = 0.05
"""How long others on the connection may have to wait for what is on the way."""
LEAST_BYTES = 32 * 2**10
MOST_BYTES = 4 * 2**20
DRAIN_S = 20.0
"""So often the window is made small for a moment, to see how quick the way is without a queue."""
LEAST_ROOM_BYTES = 8 * 2**10
SAY_AFTER_BYTES = 16 * 2**10
"""So much may have come before the other side says so: less than what there is when there is no room."""
LEAST_PIECE_BYTES = 512
"""What a piece counts at least, for a message is more than what is in it."""


def weight_of(size: int) -> int:
    return max(size, LEAST_PIECE_BYTES)


class Pacing:
    """One direction of a pipe, at its sender."""

    def __init__(self) -> None:
        self.window = LEAST_BYTES
        self.on_the_way = 0
        self._pieces: dict[bytes, deque[tuple[int, int, float]]] = {}
        """By stream, in their order: where each ends, what it counts, and when it was sent."""
        self._is_starting = True
        self._quickest_s = self._quickest_before_s = float("inf")
        self._drained_at = float("nan")

    @property
    def room(self) -> int:
        """How much may be sent as one piece now: several fill a window, and little is nothing, for it would go in
        many small messages."""
        room = self.window - self.on_the_way
        return min(room, max(self.window // 4, LEAST_ROOM_BYTES)) if room >= LEAST_ROOM_BYTES else 0

    def sent(self, stream: bytes, until: int, size: int, now: float) -> None:
        """A piece of the stream has left, which ends at `until`."""
        weight = weight_of(size)
        self.on_the_way += weight
        self._pieces.setdefault(stream, deque()).append((until, weight, now))

    def arrived(self, amounts: Iterable[tuple[bytes, int]], now: float) -> None:
        """The other side says how much of some streams is there. More than was sent is not, and not believed."""
        came, newest, was_on_the_way = 0, float("-inf"), self.on_the_way
        for stream, until in amounts:
            pieces = self._pieces.get(stream)
            if not pieces or until > pieces[-1][0]:
                continue
            while pieces and pieces[0][0] <= until:
                _, weight, sent_at = pieces.popleft()
                came, newest = came + weight, max(newest, sent_at)
        if came:
            self.on_the_way -= came
            self._note(now - newest, now)
            # What left before the window was made small tells of the queue that there was.
            if newest >= self._drained_at:
                self._adapt(came, now - newest, was_on_the_way >= self.window // 2)

    def forget(self, stream: bytes) -> None:
        """The stream is over: nobody will say of its last pieces that they are there."""
        self.on_the_way -= sum(weight for _, weight, _ in self._pieces.pop(stream, ()))

    def _adapt(self, came: int, took_s: float, is_used: bool) -> None:
        quickest_s = min(self._quickest_s, self._quickest_before_s)
        queue_s = took_s - quickest_s
        if self._is_starting and queue_s < QUEUE_S / 2:
            gain = 1.0
        else:
            self._is_starting = False
            # Larger steps than this, seen only when they have gone all the way, would swing.
            gain = 0.5 * QUEUE_S / (QUEUE_S + quickest_s) if queue_s < QUEUE_S else 0.5
            gain *= max((QUEUE_S - queue_s) / QUEUE_S, -1.0)
        if gain < 0 or is_used:
            self.window = min(max(int(self.window + gain * came), LEAST_BYTES), MOST_BYTES)

    def _note(self, took_s: float, now: float) -> None:
        """Remember the quickest of this time and of the one before, and begin another now and then."""
        if isnan(self._drained_at):
            self._drained_at = now - took_s
        if now - self._drained_at >= DRAIN_S:
            self._drained_at, self._is_starting, self.window = now, True, LEAST_BYTES
            self._quickest_before_s, self._quickest_s = self._quickest_s, float("inf")
        self._quickest_s = min(self._quickest_s, took_s)
