"""A controller that has just started reads what was told before it, however long the store takes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from motes.controller import service
from motes.controller.core.running import Running
from motes.controller.service import Controller
from motes.errors import Unavailable
from motes.model.instance import Event

STARTED = Event(1.0, "instance.start", "load", "a", "app", "f", "r1", 7, "")


def test_what_was_told_before_is_read_also_where_the_store_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "TICK_S", 0.0)
    left = [3]

    async def events(limit: int) -> list[bytes]:
        if left[0]:
            left[0] -= 1
            raise Unavailable("the store cannot read events")
        return [msgspec.json.encode(STARTED)]

    core = Running()
    keeper: Any = SimpleNamespace(store=SimpleNamespace(events=events), core=core)
    asyncio.run(asyncio.wait_for(Controller._remember(keeper), 10.0))
    assert core.pids("a") == {7} and core._ended is None
