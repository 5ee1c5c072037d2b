"""What a host tells of itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec

from motes.agent.telling import Telling
from motes.model.host import Beat


def test_a_beat_shows_that_the_connection_is_another_also_where_the_server_gives_it_the_same_number() -> None:
    """As one that was started anew does, or another of several."""
    told: list[Beat] = []

    def publish(subject: str, data: bytes) -> None:
        told.append(msgspec.msgpack.decode(data, type=Beat))

    connection = SimpleNamespace(publish=publish, number=7, count=1)
    machine = SimpleNamespace(load=dict, answered=SimpleNamespace(on_beat=lambda number, now: None))
    agent: Any = SimpleNamespace(host="a", connection=connection, machine=machine, now=lambda: 0.0)
    telling = Telling(agent)
    telling.beat()
    connection.count = 2
    telling.beat()
    assert [beat.number for beat in told] == [1, 2] and told[0].connection != told[1].connection
