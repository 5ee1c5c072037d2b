"""Answers on their way to callers: kept until nats-server has certainly got them, and sent again when it has not.

A connection that breaks takes with it what was sent last, and while there is none nothing leaves. A caller whose
answer is lost would wait in vain, for work that was done. What is answered twice its router knows and passes over.
Streams are not mended (agent/core/streams.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from motes.bus.connection import Connection
from motes.errors import TooLarge
from motes.model.call import failed, lost
from motes.model.units import format_bytes

KEPT_S = 60.0
"""Callers have given up by then."""
MOST_KEPT_BYTES = 64 * 2**20
"""Of answers that may still have to be sent again. Beyond it the oldest become an error that says so."""
ENTRY_BYTES = 200
"""What each takes beside its bytes."""


class Sent(msgspec.Struct, eq=False):
    """One answer, and which of the connection's pings was the last before it."""

    inbox: str
    data: bytes
    at: float
    ping: int

    @property
    def size(self) -> int:
        return len(self.data) + ENTRY_BYTES


class Sending:
    """The answers of one host."""

    def __init__(self, connection: Connection, now: Callable[[], float]) -> None:
        self._connection = connection
        self._now = now
        self._sent: deque[Sent] = deque()
        self._unsent: deque[Sent] = deque()
        """In their order: they leave as soon as they can."""
        self._whole: deque[Sent] = deque()
        """Of both, the oldest first, those that may still become errors."""
        self._bytes = 0
        limit = format_bytes(MOST_KEPT_BYTES)
        self._gone = lost(f"the answer is lost: over {limit} of answers wait on the host for its connection").pack()

    def answer(self, inbox: str, data: bytes) -> None:
        """Send an answer; it is lost only with this host."""
        sent = Sent(inbox, data, self._now(), self._connection.pings)
        self._bytes += sent.size
        self._whole.append(sent)
        (self._sent if not self._unsent and self._publish(sent) else self._unsent).append(sent)
        if self._bytes > MOST_KEPT_BYTES:
            self._forget_the_oldest()

    def tick(self) -> None:
        """Forget what has certainly arrived, and send what could not be sent before; call it often."""
        answered, oldest = self._connection.pings_answered, self._now() - KEPT_S
        while self._sent and (self._sent[0].ping < answered or self._sent[0].at < oldest):
            self._drop(self._sent)
        while self._unsent and (self._unsent[0].at < oldest or self._publish(self._unsent[0])):
            if self._unsent[0].at < oldest:
                self._drop(self._unsent)
            else:
                sent = self._unsent.popleft()
                sent.ping = self._connection.pings
                self._sent.append(sent)

    def on_reconnected(self) -> None:
        """What was not certain to have arrived is sent again."""
        while self._sent and self._sent[0].ping < self._connection.pings_answered:
            self._drop(self._sent)
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        self.tick()

    def _drop(self, kept: deque[Sent]) -> None:
        """The first, which is the oldest of all."""
        sent = kept.popleft()
        self._bytes -= sent.size
        if self._whole and self._whole[0] is sent:
            self._whole.popleft()

    def _publish(self, sent: Sent) -> bool:
        try:
            return self._connection.publish(sent.inbox, sent.data)
        except TooLarge as error:
            return self._connection.publish(sent.inbox, failed(error).pack())

    def _forget_the_oldest(self) -> None:
        """They become errors: should they not have arrived, their callers must not take them for never begun."""
        while self._bytes > MOST_KEPT_BYTES and self._whole:
            oldest = self._whole.popleft()
            if len(oldest.data) > len(self._gone):
                self._bytes -= len(oldest.data) - len(self._gone)
                oldest.data = self._gone
