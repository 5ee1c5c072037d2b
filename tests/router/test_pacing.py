"""What is on its way at a time, over lines of all kinds, in virtual time."""

from __future__ import annotations

import heapq
from functools import cache

import pytest

from motes.router.pacing import DRAIN_S, LEAST_BYTES, MOST_BYTES, QUEUE_S, SAY_AFTER_BYTES, Pacing, weight_of

STREAM = b"s" * 16
PIECE_BYTES = 32 * 2**10


class Line:
    """Carries `rate` bytes a second, in their order, each `way_s` after it left; the other side says what came."""

    def __init__(self, rate: float, way_s: float) -> None:
        self.rate, self.way_s = rate, way_s
        self.now = 0.0
        self.pacing = Pacing()
        self.came: list[tuple[float, int]] = []
        self.waits: list[tuple[float, float]] = []
        """When a piece was sent, and how long it waited for others."""
        self._free_at = 0.0
        self._sent = self._unsaid = 0
        self._events: list[tuple[float, str, int, int]] = []

    def run(self, until_s: float) -> None:
        """Send whatever may be sent."""
        while self.now < until_s:
            while room := self.pacing.room:
                self._send(min(room, PIECE_BYTES))
            at, what, total, size = heapq.heappop(self._events)
            self.now = at
            if what == "said":
                self.pacing.arrived([(STREAM, total)], at)
                continue
            self.came.append((at, size))
            self._unsaid += weight_of(size)
            if self._unsaid >= SAY_AFTER_BYTES:
                self._unsaid = 0
                heapq.heappush(self._events, (at + self.way_s, "said", total, 0))

    def _send(self, size: int) -> None:
        self._sent += size
        self.pacing.sent(STREAM, self._sent, size, self.now)
        began = max(self._free_at, self.now)
        self.waits.append((self.now, began - self.now))
        self._free_at = began + size / self.rate
        heapq.heappush(self._events, (self._free_at + self.way_s, "came", self._sent, size))

    def rate_since(self, at_s: float) -> float:
        return sum(size for at, size in self.came if at >= at_s) / (self.now - at_s)

    def longest_wait(self, since_s: float) -> float:
        return max(wait for at, wait in self.waits if at >= since_s)


# Bytes a second, and seconds one way: a modem, a slow uplink, DSL, WLAN, a LAN, across an ocean, by satellite.
LINES = [
    (32e3, 0.05),
    (125e3, 0.02),
    (1.25e6, 0.01),
    (5e6, 0.003),
    (100e6, 0.0002),
    (10e6, 0.075),
    (3e6, 0.3),
]


@cache
def busy(rate: float, way_s: float) -> Line:
    """Half a minute of it."""
    line = Line(rate, way_s)
    line.run(1.5 * DRAIN_S)
    return line


@pytest.mark.parametrize(("rate", "way_s"), LINES)
def test_others_never_wait_long_behind_it(rate: float, way_s: float) -> None:
    line = busy(rate, way_s)
    # One window of the least size has to be on the way; at the start, one that is twice too large, once.
    least_s = LEAST_BYTES / rate
    assert line.longest_wait(since_s=10.0) <= least_s + 2 * QUEUE_S
    assert line.longest_wait(since_s=0.0) <= 2 * (least_s + QUEUE_S + way_s)


@pytest.mark.parametrize(("rate", "way_s"), LINES)
def test_the_line_is_used(rate: float, way_s: float) -> None:
    line = busy(rate, way_s)
    most = min(rate, MOST_BYTES / (2 * way_s))
    # Where an answer takes half a second, every look at the way without a queue takes a while to make good.
    assert line.rate_since(10.0) >= (0.7 if way_s < 0.2 else 0.25) * most


@pytest.mark.parametrize(("first", "then"), [(10e6, 500e3), (500e3, 10e6)])
def test_a_line_that_changes_is_followed(first: float, then: float) -> None:
    line = Line(first, 0.02)
    line.run(15.0)
    line.rate = then
    line.run(15.0 + DRAIN_S)
    assert line.longest_wait(since_s=20.0) <= LEAST_BYTES / then + 2 * QUEUE_S
    assert line.rate_since(20.0) >= 0.7 * then


def test_a_way_that_becomes_longer_is_taken_for_a_queue_no_longer_than_it_takes_to_look_twice() -> None:
    line = Line(10e6, 0.005)
    line.run(15.0)
    line.way_s = 0.1
    line.run(15.0 + 3 * DRAIN_S)
    assert line.rate_since(15.0 + 2 * DRAIN_S) >= 0.6 * 10e6


def test_who_sends_little_gets_no_larger_window() -> None:
    pacing = Pacing()
    for number in range(1, 1000):
        pacing.sent(STREAM, number * 1000, 1000, number * 0.1)
        pacing.arrived([(STREAM, number * 1000)], number * 0.1 + 0.01)
    assert pacing.window == LEAST_BYTES


def test_small_pieces_count_as_the_messages_that_they_are() -> None:
    pacing = Pacing()
    pieces = 0
    while pacing.room:
        pieces += 1
        pacing.sent(STREAM, pieces, 1, 0.0)
    assert pieces < 64
    pacing.arrived([(STREAM, pieces)], 0.1)
    assert pacing.on_the_way == 0


def test_what_a_stream_had_on_the_way_is_forgotten_with_it() -> None:
    pacing = Pacing()
    pacing.sent(b"a", LEAST_BYTES, LEAST_BYTES, 0.0)
    assert pacing.room == 0
    pacing.arrived([(b"b", 2**60)], 0.1)
    assert pacing.room == 0, "of a stream that there is not, nothing can have come"
    pacing.forget(b"a")
    pacing.forget(b"b")
    assert pacing.on_the_way == 0
    pacing.arrived([(b"a", LEAST_BYTES)], 0.1)
    assert pacing.on_the_way == 0, "nor twice"


def test_what_is_said_to_have_come_and_was_not_sent_makes_no_room() -> None:
    pacing = Pacing()
    for _ in range(1000):
        pacing.arrived([(STREAM, 2**63)], 1.0)
    assert (pacing.on_the_way, pacing.window) == (0, LEAST_BYTES)


def test_a_host_that_says_more_has_come_than_was_sent_is_not_believed() -> None:
    pacing = Pacing()
    pacing.sent(STREAM, LEAST_BYTES, LEAST_BYTES, 0.0)
    pacing.arrived([(STREAM, LEAST_BYTES + 1), (STREAM, 2**63)], 0.1)
    assert (pacing.room, pacing.on_the_way) == (0, LEAST_BYTES)
    pacing.arrived([(STREAM, LEAST_BYTES)], 0.1)
    assert pacing.on_the_way == 0


def test_the_other_side_always_says_something_before_there_is_no_room() -> None:
    """Else both would wait."""
    pacing = Pacing()
    sent = 0
    while room := pacing.room:
        sent += min(room, 1000)
        pacing.sent(STREAM, sent, min(room, 1000), 0.0)
    assert sent >= SAY_AFTER_BYTES
