"""What the controller takes from a host's messages."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from controller.keeper_bench import Bench
from motes.bus import subjects
from motes.bus.wire import Message
from motes.controller import hearing
from motes.controller.hearing import EVENT_BYTES, Hearing
from motes.controller.service import Controller
from motes.model.instance import Event


class Bus:
    """Gives each handler what is sent to it."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    async def subscribe(self, subject: str, handler: Any) -> None:
        self.handlers[subject] = handler


def test_a_long_event_is_kept_in_short_and_what_is_no_event_is_not_read(monkeypatch: Any) -> None:
    read: list[int] = []
    bus, kept = Bus(), list[Event]()

    def reading(subject: str, data: bytes, kind: Any) -> Any:
        read.append(len(data))
        return msgspec.json.decode(data, type=kind)

    def keep(host: str, data: bytes) -> None:
        kept.append(msgspec.json.decode(data, type=Event))

    monkeypatch.setattr(hearing, "read_report", reading)
    store = SimpleNamespace(add_event=keep)
    controller = SimpleNamespace(core=Bench("a").core, connection=bus, store=store, now=lambda: 0.0)
    asyncio.run(Hearing(cast(Controller, controller)).start())
    for letters in (20_000, EVENT_BYTES):
        event = Event(0.0, "instance.end", "exited", "a", "app", "f", "r1", 7, "x" * letters)
        bus.handlers[subjects.event("*")](Message(subjects.event("a"), "", msgspec.json.encode(event), False))
    assert len(read) == 1 and [len(each.detail) for each in kept] == [hearing.TEXT_LENGTH]
