"""What was reported, and then what is reported from now on: nothing is lost between them, and nothing comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from motes.bus.reports import read_report
from motes.errors import Unavailable
from motes.model.instance import Event
from motes.model.keeper import LogLine

if TYPE_CHECKING:
    from motes.bus.connection import Message
    from motes.client.cluster import Cluster

T = TypeVar("T", Event, LogLine)

WAITING_LIMIT = 10_000
"""Messages that arrived and were not printed yet; beyond it the newest are dropped."""
AWAY_LIMIT_S = 10.0
"""After so long without a connection the cluster is taken to have ended."""


async def follow(
    cluster: Cluster, subject: str, kind: type[T], history: Callable[[], Awaitable[list[T]]]
) -> AsyncIterator[list[T]]:
    """First the history, as one list; then each message on `subject` as it comes, or an empty list after a quiet time.

    Ends with Unavailable when the cluster does. `kind` is frozen: equal messages are one message.
    """
    waiting: asyncio.Queue[T] = asyncio.Queue(WAITING_LIMIT)

    def hear(message: Message) -> None:
        found = read_report(message.subject, message.data, kind)
        if found is not None and not waiting.full():
            waiting.put_nowait(found)

    subscription = await cluster.connection.subscribe(subject, hear)
    try:
        told = await history()
        yield told
        # What arrived while the history was read may be a part of it.
        known = set(told)
        for message in [waiting.get_nowait() for _ in range(waiting.qsize())]:
            if message not in known:
                yield [message]
        async for messages in _as_they_come(cluster, waiting, known):
            yield messages
    finally:
        subscription.unsubscribe()


async def _as_they_come(cluster: Cluster, waiting: asyncio.Queue[T], known: set[T]) -> AsyncIterator[list[T]]:
    away_s = 0.0
    pause_s = 0.5
    while away_s < AWAY_LIMIT_S:
        try:
            async with asyncio.timeout(pause_s):
                message = await waiting.get()
        except TimeoutError:
            away_s = 0.0 if cluster.ready else away_s + pause_s
            known.clear()
            yield []
            continue
        away_s = 0.0
        if message not in known:
            yield [message]
    raise Unavailable(f"the cluster in {cluster.home.path} has ended")
