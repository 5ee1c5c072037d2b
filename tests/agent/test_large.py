"""Large results are kept until their callers ask for them, and not for ever."""

from __future__ import annotations

import pytest

from motes.agent.core.effects import Asker
from motes.agent.large import KEPT_S, LargeResults
from motes.model.call import STATUS_HELD, STATUS_LOST, STATUS_OK, Outcome, held_bytes, inbox_token, unpack_reply

MIB = 2**20
ONE, TWO = b"1" * 16, b"2" * 16


class Line:
    """What is published."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Outcome]] = []

    def publish(self, subject: str, payload: bytes) -> None:
        self.sent.append((subject, unpack_reply(payload)))


def inbox(call_id: bytes, user: str = "ada") -> str:
    return f"_INBOX.{user}.x.call.{inbox_token(call_id, 1)}"


def results() -> tuple[LargeResults, Line]:
    line = Line()
    return LargeResults(line.publish), line


def test_a_caller_hears_how_large_it_is_and_gets_it_when_it_asks() -> None:
    large, line = results()
    whole = Outcome(STATUS_OK, b"x" * MIB)
    assert large.keep([inbox(ONE), Asker(1, 1), inbox(ONE, "bob")], whole, 0.0)
    told = [(inbox(ONE), STATUS_HELD), (inbox(ONE, "bob"), STATUS_HELD)]
    assert [(subject, outcome.status) for subject, outcome in line.sent] == told
    assert held_bytes(line.sent[0][1]) == MIB
    line.sent.clear()
    assert not large.send(TWO) and large.send(ONE)
    assert line.sent == [(inbox(ONE), whole), (inbox(ONE, "bob"), whole)]
    assert not large.send(ONE), "it was sent twice"


def test_who_gives_up_or_never_asks_is_not_waited_for() -> None:
    large, line = results()
    for call_id, now in ((ONE, 0.0), (TWO, 1.0)):
        assert large.keep([inbox(call_id)], Outcome(STATUS_OK, b"x" * MIB), now)
    large.tick(KEPT_S)
    assert not large.send(ONE)
    large.drop(TWO)
    assert not large.send(TWO)
    assert [outcome.status for _, outcome in line.sent] == [STATUS_HELD, STATUS_HELD, STATUS_LOST]
    assert line.sent[-1][0] == inbox(ONE) and "within 60" in line.sent[-1][1].error().message


def test_what_is_kept_is_bounded_and_counted_down_again(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 4
    monkeypatch.setattr("motes.agent.large.MOST_KEPT_BYTES", most * MIB)
    large, _ = results()
    outcome = Outcome(STATUS_OK, b"x" * MIB)
    for number in range(most):
        assert large.keep([inbox(number.to_bytes(16))], outcome, 0.0)
    assert not large.keep([inbox(ONE)], outcome, 0.0), "more than the host may hold"
    assert large.send((0).to_bytes(16)) and large.keep([inbox(ONE)], outcome, 0.0)
    # The same call answered again replaces the first answer.
    assert large.send((1).to_bytes(16)) and large.keep([inbox(TWO)], outcome, 0.0)
    assert not large.keep([inbox(TWO)], outcome, 0.0)


def test_what_goes_to_this_hosts_own_functions_or_to_no_router_is_sent_at_once() -> None:
    large, line = results()
    for replies in ([Asker(1, 1)], ["_INBOX.ada.x.request.abc"], []):
        assert not large.keep(replies, Outcome(STATUS_OK, b"x" * MIB), 0.0)
    assert line.sent == []
