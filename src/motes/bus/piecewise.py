"""Copy a stream from one nats-server to another message by message, while it is written to.

For a stream whose subjects name what they hold, with one message each: the numbers of its messages mean nothing, and
what has gone over need not go again. Whoever asks for what is new once more when nobody writes has all of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from motes.bus.backup import TIMEOUT_S, api, checked
from motes.bus.connection import Connection
from motes.bus.streams import Kept, page

PAGE = 16
"""Messages at once: of chunks of code 4 MiB."""


class Source:
    """One stream, of which some has gone over already. Every method raises Unavailable and TimedOut."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection, self._name = connection, name
        self._last = 0
        self._known: set[str] = set()

    async def config(self) -> dict[str, Any]:
        """The stream's settings, for `make`."""
        return dict((await self._info())["config"])

    async def count(self) -> int:
        """How many messages there are."""
        return int((await self._info())["state"]["messages"])

    async def fresh(self) -> AsyncIterator[list[Kept]]:
        """What has come since this was asked last, in order; what comes meanwhile is the next one's."""
        end = int((await self._info())["state"]["last_seq"])
        while self._last < end:
            found = await page(self._connection, self._name, ">", self._last + 1, PAGE)
            self._last = found.messages[-1].sequence if found.more else end
            self._known.update(each.subject for each in found.messages)
            if found.messages:
                yield found.messages

    async def gone(self) -> list[str]:
        """The subjects that went over and are not there any more; to be asked when nobody writes."""
        there: set[str] = set()
        while self._known:
            found = await self._info(subjects_filter=">", offset=len(there))
            listed = found["state"].get("subjects") or {}
            there.update(listed)
            if not listed or len(there) >= found.get("total", 0):
                break
        return sorted(self._known - there)

    async def _info(self, **more: Any) -> dict[str, Any]:
        return await api(self._connection, f"STREAM.INFO.{self._name}", more)


async def make(connection: Connection, config: dict[str, Any]) -> None:
    """The same stream here, with nothing in it. Raises Unavailable and TimedOut."""
    await api(connection, f"STREAM.CREATE.{config['name']}", config)


async def put(connection: Connection, subject: str, data: bytes) -> None:
    """One message, which is on the disk when this returns. Raises Unavailable and TimedOut."""
    checked(await connection.request(subject, data, TIMEOUT_S), "the copy of a message")


async def drop(connection: Connection, name: str, subject: str) -> None:
    """What is no more. Raises Unavailable and TimedOut."""
    await api(connection, f"STREAM.PURGE.{name}", {"filter": subject})


async def count(connection: Connection, name: str) -> int:
    """How many messages are here. Raises Unavailable and TimedOut."""
    return await Source(connection, name).count()
