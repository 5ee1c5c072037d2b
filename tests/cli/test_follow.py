"""History and what comes after it: no gap and nothing twice, whatever the order in which they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from motes.bus.connection import Message
from motes.cli.follow import follow
from motes.errors import Unavailable
from motes.home import Home
from motes.model.instance import Event

LIMIT_S = 30.0


class Feed:
    """Stands for a cluster: what is published reaches the subscriber, and the history when it is asked for."""

    def __init__(self) -> None:
        self.connection = self
        self.ready = True
        self.home = Home("/nowhere")
        self.published: list[Event] = []
        self.hear: Callable[[Message], None] | None = None

    async def subscribe(self, subject: str, callback: Callable[[Message], None]) -> Feed:
        self.hear = callback
        return self

    def unsubscribe(self) -> None:
        self.hear = None

    def publish(self, number: int) -> None:
        event = Event(float(number), "instance.start", "load")
        self.published.append(event)
        if self.hear is not None:
            self.hear(Message("report.keeper.event", "", msgspec.json.encode(event), False))


async def seen(feed: Feed, history: Callable[[], Any], count: int) -> list[float]:
    found: list[float] = []
    async with asyncio.timeout(LIMIT_S):
        async for events in follow(cast(Any, feed), "report.*.event", Event, history):
            found += [event.at for event in events]
            if len(found) >= count:
                return found
    raise AssertionError("unreachable")


def test_what_happens_while_the_history_is_read_is_told_once() -> None:
    feed = Feed()
    feed.publish(1)

    async def history() -> list[Event]:
        feed.publish(2)
        told = list(feed.published)
        feed.publish(3)
        asyncio.get_running_loop().call_later(0.01, feed.publish, 4)
        return told

    assert asyncio.run(seen(feed, history, 4)) == [1, 2, 3, 4]


def test_what_is_no_message_is_passed_over() -> None:
    feed = Feed()

    async def history() -> list[Event]:
        assert feed.hear is not None
        feed.hear(Message("report.local.event", "", b"{", False))
        forged = msgspec.json.encode(Event(9.0, "app.removed", "removed", "other"))
        feed.hear(Message("report.local.event", "", forged, False))
        feed.publish(1)
        return []

    assert asyncio.run(seen(feed, history, 1)) == [1]


def test_a_cluster_that_has_ended_ends_the_following(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motes.cli.follow.AWAY_LIMIT_S", 0.5)
    feed = Feed()
    feed.ready = False

    async def history() -> list[Event]:
        return []

    with pytest.raises(Unavailable, match="has ended"):
        asyncio.run(seen(feed, history, 1))
    assert feed.hear is None
