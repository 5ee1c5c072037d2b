"""Answers are kept until the server has them, and sent again where a connection broke before that."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, cast

import pytest

from motes.agent import sending
from motes.agent.sending import KEPT_S, MOST_KEPT_BYTES, Sending
from motes.errors import HostLost, TooLarge
from motes.model.call import Outcome, unpack_reply

MIB = 2**20


class Line:
    """A connection that may be gone; the server answers its pings when a test says so."""

    def __init__(self) -> None:
        self.connected = True
        self.pings = 0
        self.pings_answered = 0
        self.sent: list[tuple[str, bytes]] = []
        self.limit_bytes = 8 * MIB
        self.now = 0.0
        self.sending = Sending(cast(Any, self), lambda: self.now)

    def publish(self, subject: str, payload: bytes) -> bool:
        if len(payload) > self.limit_bytes:
            raise TooLarge("too large for the line")
        if self.connected:
            self.sent.append((subject, payload))
        return self.connected

    def ping(self) -> None:
        """One that is answered."""
        self.pings += 1
        self.pings_answered = self.pings
        self.sending.tick()

    def breaks(self) -> None:
        self.connected = False
        self.pings += 1  # Nobody answers it.

    def is_back(self) -> None:
        self.connected, self.sent = True, []
        self.sending.on_reconnected()

    def take(self) -> list[tuple[str, bytes]]:
        taken, self.sent = self.sent, []
        return taken


def test_an_answer_that_the_server_has_is_not_sent_again() -> None:
    line = Line()
    line.sending.answer("a", b"1")
    line.ping()
    line.breaks()
    line.is_back()
    assert line.take() == []


def test_an_answer_that_went_out_just_before_the_connection_broke_is_sent_again() -> None:
    line = Line()
    line.ping()
    line.sending.answer("a", b"1")
    assert line.take() == [("a", b"1")]
    line.breaks()
    line.is_back()
    assert line.take() == [("a", b"1")]
    line.ping()
    line.breaks()
    line.is_back()
    assert line.take() == []


def test_an_answer_without_a_connection_waits_for_the_next() -> None:
    line = Line()
    line.breaks()
    for number in range(3):
        line.sending.answer("a", b"%d" % number)
    line.sending.tick()
    assert line.take() == []
    line.is_back()
    assert [data for _, data in line.take()] == [b"0", b"1", b"2"]


def test_an_answer_that_found_too_much_unsent_leaves_when_there_is_room() -> None:
    line = Line()
    line.connected = False
    line.sending.answer("a", b"1")
    line.connected = True
    # The order is kept: it does not overtake.
    line.sending.answer("a", b"2")
    line.sending.tick()
    assert [data for _, data in line.take()] == [b"1", b"2"]


def test_nobody_waits_for_an_answer_of_long_ago() -> None:
    line = Line()
    line.breaks()
    line.sending.answer("a", b"1")
    line.now = KEPT_S + 1
    line.sending.tick()
    line.is_back()
    assert line.take() == []


def test_where_too_much_is_kept_its_callers_are_told() -> None:
    line = Line()
    line.breaks()
    count = MOST_KEPT_BYTES // (8 * MIB) + 2
    for number in range(count):
        line.sending.answer(str(number), b"\0" * (8 * MIB))
    line.is_back()
    taken = line.take()
    assert [inbox for inbox, _ in taken] == [str(number) for number in range(count)]
    lost = [data for _, data in taken if len(data) < MIB]
    assert 0 < len(lost) < count
    assert all(isinstance(unpack_reply(data).error(), HostLost) for data in lost)
    assert sum(len(data) for _, data in taken) <= MOST_KEPT_BYTES


def test_what_is_sent_and_unconfirmed_is_bounded_too() -> None:
    line = Line()
    for number in range(20):
        line.sending.answer(str(number), b"\0" * (8 * MIB))
    line.take()
    line.breaks()
    line.is_back()
    assert sum(len(data) for _, data in line.take()) <= MOST_KEPT_BYTES


def test_an_answer_over_what_is_kept_costs_no_more_than_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "MOST_KEPT_BYTES", 10_000)
    lines = 0

    def count(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        lines += event == "line" and frame.f_globals["__name__"] == sending.__name__
        return count

    for size in (0, 300):
        line = Line()
        line.breaks()
        before, lines = sys.gettrace(), 0
        sys.settrace(count)
        try:
            for number in range(1_000):
                line.sending.answer(str(number), b"\0" * size)
        finally:
            sys.settrace(before)
        assert 0 < lines < 30 * 1_000
        line.is_back()
        assert [inbox for inbox, _ in line.take()] == [str(number) for number in range(1_000)]


def test_what_was_forgotten_and_has_arrived_makes_room_for_others() -> None:
    line = Line()
    for _ in range(3):
        for number in range(20):
            line.sending.answer(str(number), b"\0" * (8 * MIB))
        line.take()
        line.ping()
        line.ping()
    line.breaks()
    for number in range(7):
        line.sending.answer(str(number), b"\0" * (8 * MIB))
    line.is_back()
    assert [len(data) for _, data in line.take()] == [8 * MIB] * 7


def test_an_answer_over_the_lines_limit_becomes_an_error() -> None:
    line = Line()
    line.sending.answer("a", b"\0" * (9 * MIB))
    ((_, data),) = line.take()
    assert isinstance(unpack_reply(data), Outcome) and isinstance(unpack_reply(data).error(), TooLarge)
