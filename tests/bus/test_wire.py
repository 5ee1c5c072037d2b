"""The protocol, byte by byte: a transport that keeps what is written, and data cut wherever it may be cut."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motes.bus.wire import FRAME_LIMIT_BYTES, LINE_LIMIT_BYTES, OUTBOX_LIMIT_BYTES, Message, Wire


class Paper(asyncio.Transport):
    """A transport that keeps everything."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.aborted = True


class Case:
    """A wire on paper: what it heard, what the server refused, and whether it was lost."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.refused: list[str] = []
        self.lost = 0
        self.paper = Paper()
        self.wire = Wire({b"1": self.heard.append}, self.refused.append, self._lose)
        self.wire.connection_made(self.paper)

    def _lose(self) -> None:
        self.lost += 1


def on_paper(test: Any) -> None:
    async def run() -> None:
        await test(Case())

    asyncio.run(run())


_names = st.lists(st.text("ab1$_*", min_size=1, max_size=6), min_size=1, max_size=4).map(".".join)
_messages = st.lists(st.tuples(_names, st.one_of(st.just(""), _names), st.binary(max_size=50)), max_size=8)


@given(_messages, st.lists(st.integers(min_value=1, max_value=40), max_size=60))
def test_messages_arrive_whole_and_in_order_however_they_are_cut(
    messages: list[tuple[str, str, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(
        f"MSG {subject} 1 {reply + ' ' if reply else ''}{len(data)}\r\n".encode() + data + b"\r\n"
        for subject, reply, data in messages
    )

    async def test(case: Case) -> None:
        rest = stream
        for cut in [*cuts, len(stream) + 1]:
            if rest:
                case.wire.data_received(rest[:cut])
            rest = rest[cut:]
        assert case.heard == [Message(subject, reply, data, False) for subject, reply, data in messages]
        assert not case.paper.aborted

    on_paper(test)


def test_nobody_there_is_told_from_an_empty_answer() -> None:
    async def test(case: Case) -> None:
        case.wire.data_received(b"HMSG _INBOX.a.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n")
        case.wire.data_received(b"MSG _INBOX.a.1 1 0\r\n\r\n")
        case.wire.data_received(b"HMSG a.b 1 r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n")
        assert [each[:4] for each in case.heard] == [
            ("_INBOX.a.1", "", b"", True),
            ("_INBOX.a.1", "", b"", False),
            ("a.b", "r", b"hi", False),
        ]
        assert case.heard[2].headers.startswith(b"NATS/1.0")

    on_paper(test)


def test_a_failing_handler_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def test(case: Case) -> None:
        case.wire._handlers[b"2"] = lambda message: 1 // 0
        case.wire.data_received(b"MSG a 2 1\r\nx\r\nMSG a 1 1\r\ny\r\n")
        assert [message.data for message in case.heard] == [b"y"]
        assert "ZeroDivisionError" in caplog.text

    on_paper(test)


@pytest.mark.parametrize("subjects", [b"a 1 \xff\xfe", b"\xff 1 r"])
def test_a_subject_that_is_no_text_costs_its_own_message_only(
    subjects: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever may ask something chooses the reply subject: it must not end the connection of who answers."""

    async def test(case: Case) -> None:
        case.wire.data_received(b"MSG %b 1\r\nx\r\nHMSG %b 12 13\r\nNATS/1.0\r\n\r\nx\r\n" % (subjects, subjects))
        case.wire.data_received(b"MSG a 1 1\r\ny\r\n")
        assert [message.data for message in case.heard] == [b"y"]
        assert not case.paper.aborted and caplog.text.count("UnicodeDecodeError") == 2

    on_paper(test)


@pytest.mark.parametrize("reply", ["_INBOX.a\u2028b", "_INBOX.a\u00a0b", "_INBOX.a\x0bb", "_INBOX.a\x85b"])
def test_every_reply_subject_that_the_server_delivers_can_be_answered(reply: str) -> None:
    """What asks may name its inbox as it likes; raising at the answer would hit whoever is served next."""

    async def test(case: Case) -> None:
        case.wire.data_received(b"MSG a 1 %b 1\r\nx\r\n" % reply.encode())
        assert case.wire.publish(case.heard[0].reply, b"yes", "")
        await asyncio.sleep(0)
        assert case.paper.written == b"PUB %b 3\r\nyes\r\n" % reply.encode()

    on_paper(test)


def test_messages_for_nobody_are_dropped() -> None:
    async def test(case: Case) -> None:
        case.wire.data_received(b"MSG a 9 1\r\nx\r\nHMSG a 9 12 13\r\nNATS/1.0\r\n\r\nx\r\nMSG a 1 1\r\ny\r\n")
        assert [message.data for message in case.heard] == [b"y"]

    on_paper(test)


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"MSG a\r\n",
        b"MSG a 1 x\r\n",
        b"MSG \r\n",
        b"INFO {\r\n",
        b"x" * (LINE_LIMIT_BYTES + 1),
        b"MSG a 1 %d\r\n" % (FRAME_LIMIT_BYTES + 1),
    ],
)
def test_what_is_no_nats_ends_the_connection(garbage: bytes) -> None:
    async def test(case: Case) -> None:
        case.wire.data_received(garbage)
        assert case.paper.aborted and case.heard == []

    on_paper(test)


def test_a_ping_is_answered_and_a_refusal_told() -> None:
    async def test(case: Case) -> None:
        case.wire.data_received(b"PING\r\n-ERR 'Permissions Violation for Publish to \"x\"'\r\n+OK\r\n")
        await asyncio.sleep(0)
        assert case.paper.written == b"PONG\r\n"
        assert case.refused == ['Permissions Violation for Publish to "x"']

    on_paper(test)


def test_headers_go_out_and_none_can_smuggle_in_another() -> None:
    async def test(case: Case) -> None:
        assert case.wire.publish_with_headers("a.b", b"hi", {"A": "b c", "D": ""})
        await asyncio.sleep(0)
        assert case.paper.written == b"HPUB a.b 25 27\r\nNATS/1.0\r\nA: b c\r\nD: \r\n\r\nhi\r\n"
        for name, value in (("A", "b\r\nC: d"), ("A\r\nB", ""), ("A: b", ""), ("A", "\n")):
            with pytest.raises(ValueError, match="header"):
                case.wire.publish_with_headers("a.b", b"", {name: value})

    on_paper(test)


def test_what_is_published_in_one_turn_leaves_in_one_write_and_in_order() -> None:
    async def test(case: Case) -> None:
        case.wire.publish("a.b", b"one", "")
        case.wire.publish("c", b"", "r.1")
        assert case.paper.written == b""
        await asyncio.sleep(0)
        assert case.paper.written == b"PUB a.b 3\r\none\r\nPUB c r.1 0\r\n\r\n"

    on_paper(test)


@pytest.mark.parametrize("subject", ["", " ", "a b", "a\r\nSUB > 1", "a\tb", "a\nb", " a"])
def test_no_subject_smuggles_in_a_command(subject: str) -> None:
    async def test(case: Case) -> None:
        with pytest.raises(ValueError, match="no subject"):
            case.wire.publish(subject, b"", "")
        with pytest.raises(ValueError, match="no subject"):
            case.wire.subscribe(b"1", subject)
        if subject:
            with pytest.raises(ValueError, match="no subject"):
                case.wire.publish("a", b"", subject)
        await asyncio.sleep(0)
        assert case.paper.written == b""

    on_paper(test)


def test_more_than_the_outbox_holds_is_dropped_and_said() -> None:
    async def test(case: Case) -> None:
        big = b"x" * (OUTBOX_LIMIT_BYTES // 4)
        sent = [case.wire.publish("a", big, "") for _ in range(6)]
        assert sent == [True] * 4 + [False] * 2
        await asyncio.sleep(0)
        assert case.wire.publish("a", b"", "")
        case.wire.pause_writing()
        assert not case.wire.publish("a", b"", "")
        case.wire.resume_writing()
        assert case.wire.publish("a", b"", "")

    on_paper(test)


def test_who_waits_for_the_server_is_told_of_the_loss() -> None:
    async def test(case: Case) -> None:
        pong = case.wire.ping()
        case.wire.connection_lost(None)
        with pytest.raises(ConnectionError):
            await pong
        with pytest.raises(ConnectionError):
            await case.wire.ping()
        assert case.lost == 1

    on_paper(test)
