"""What instances write fits the messages of the stream, whatever it is."""

from __future__ import annotations

import pytest

from motes.agent.logs import BUFFER_BYTES, Logs
from motes.bus.store import LOG_LINE_LIMIT_BYTES


@pytest.mark.parametrize("byte", [b"x", b"\x00", b"\xff", b'"', b"\n"])
def test_no_message_is_larger_than_the_stream_takes(byte: bytes) -> None:
    sent: list[tuple[str, bytes]] = []
    logs = Logs("local", lambda subject, data: sent.append((subject, data)))
    logs.add("app.function", 7, byte * BUFFER_BYTES)
    logs.flush()
    assert sent and {subject for subject, _ in sent} == {"report.local.log.app.function"}
    assert max(len(data) for _, data in sent) <= LOG_LINE_LIMIT_BYTES
