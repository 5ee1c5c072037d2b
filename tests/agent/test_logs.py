"""What instances write: messages that the controller takes, and a share of its own for each app."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from motes.agent.logs import APP_BUFFER_BYTES, FLUSH_S, MESSAGE_BYTES, MESSAGES_AT_ONCE, Logs
from motes.bus.streams import LOG_LIMIT_BYTES
from motes.controller.hearing import LOG_HEARD_BYTES, TEXT_LENGTH
from motes.controller.intake import LOGS_BURST, LOGS_PER_S
from motes.model.keeper import LogLine


class Sent:
    """Logs with what they have sent."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.connected = True
        self.logs = Logs("local", self._publish)

    def _publish(self, subject: str, data: bytes) -> bool:
        if self.connected:
            self.messages.append((subject, data))
        return self.connected

    def lines(self) -> list[LogLine]:
        return [msgspec.json.decode(data, type=LogLine) for _, data in self.messages]

    def text(self, app: str) -> str:
        return "".join(line.text for line in self.lines() if line.app == app)


@pytest.mark.parametrize("byte", [b"x", b"\x00", b"\xff", b'"', b"\n"])
def test_no_message_is_larger_than_what_is_taken_and_kept(byte: bytes) -> None:
    sent = Sent()
    sent.logs.add("app.function", 7, byte * APP_BUFFER_BYTES)
    sent.logs.flush_all()
    assert {subject for subject, _ in sent.messages} == {"report.local.log.app.function"}
    assert max(len(data) for _, data in sent.messages) <= LOG_HEARD_BYTES
    assert max(len(line.text) for line in sent.lines()) <= TEXT_LENGTH
    assert max(len(msgspec.msgpack.encode(line)) for line in sent.lines()) <= LOG_LIMIT_BYTES


def test_a_host_sends_fewer_messages_than_the_controller_takes() -> None:
    sent = Sent()
    for pid in range(10 * MESSAGES_AT_ONCE):
        sent.logs.add("app.function", pid, b"a line\n")
    sent.logs.flush()
    assert len(sent.messages) == MESSAGES_AT_ONCE < LOGS_BURST
    assert MESSAGES_AT_ONCE / FLUSH_S < LOGS_PER_S


def test_a_loud_app_costs_a_quiet_one_nothing() -> None:
    sent = Sent()
    for pid in range(500):
        sent.logs.add(f"loud.f{pid}", pid, b"x" * MESSAGE_BYTES)
    sent.logs.add("quiet.f", 7, b"said\n")
    sent.logs.flush()
    assert sent.text("quiet") == "said\n"


def test_apps_take_turns() -> None:
    sent = Sent()
    apps = 3 * MESSAGES_AT_ONCE
    for app in range(apps):
        sent.logs.add(f"a{app}.f", 7, b"x" * (2 * MESSAGE_BYTES))
    for _ in range(3):
        sent.logs.flush()
    assert Counter(line.app for line in sent.lines()) == {f"a{app}": 1 for app in range(apps)}


def test_of_an_app_that_writes_more_than_is_kept_the_oldest_is_dropped_and_that_is_said() -> None:
    sent = Sent()
    lost = 3 * MESSAGE_BYTES
    sent.logs.add("app.f", 7, b"a" * lost)
    sent.logs.add("app.f", 8, b"b" * APP_BUFFER_BYTES)
    sent.logs.flush_all()
    assert sent.text("app") == f"[{lost} bytes dropped: written faster than logs are kept]\n" + "b" * APP_BUFFER_BYTES


def test_what_one_process_writes_stays_in_order_and_apart() -> None:
    sent = Sent()
    for number in range(10):
        sent.logs.add("app.f", number % 2, b"%d" % number)
    sent.logs.flush()
    assert [(line.pid, line.text) for line in sent.lines()] == [(0, "02468"), (1, "13579")]
    sent.logs.flush()
    assert len(sent.messages) == 2


def test_without_a_connection_everything_waits_bounded() -> None:
    sent = Sent()
    sent.connected = False
    sent.logs.add("quiet.f", 7, b"said\n")
    for _ in range(3):
        sent.logs.add("loud.f", 8, b"x" * APP_BUFFER_BYTES)
        sent.logs.flush_all()
    sent.connected = True
    sent.logs.flush_all()
    assert sent.text("quiet") == "said\n"
    assert sent.text("loud").startswith(f"[{2 * APP_BUFFER_BYTES} bytes dropped")
    assert sent.text("loud").count("x") == APP_BUFFER_BYTES
