"""Copy a stream from one nats-server to another message by message, while it is written to.

For a stream whose subjects name what they hold, with one message each: the numbers of its messages mean nothing, and
what has gone over need not go again. Whoever asks for what is new once more when nobody writes has all of it.
And for what came to a stream since it was copied otherwise: it is added behind, and `digest` says whether both have
the same then.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from motes.bus.backup import TIMEOUT_S, api, checked
from motes.bus.connection import Connection
from motes.bus.streams import Kept, page
from motes.errors import TimedOut, Unavailable

PAGE = 16
"""Messages at once: of chunks of code 4 MiB."""
PAGE_OF_SMALL = 256
"""The same of those of 16 KiB at most."""
_POLL_S = 0.002


class Source:
    """One stream, of which some has gone over already, up to the message `last`.

    Every method raises Unavailable and TimedOut.
    """

    def __init__(self, connection: Connection, name: str, last: int = 0, at_once: int = PAGE) -> None:
        self._connection, self._name = connection, name
        self._last, self._at_once = last, at_once
        self._known: set[str] = set()

    async def config(self) -> dict[str, Any]:
        """The stream's settings, for `make`."""
        return dict((await self._info())["config"])

    async def count(self) -> int:
        """How many messages there are."""
        return int((await self._info())["state"]["messages"])

    async def fresh(self) -> AsyncIterator[list[Kept]]:
        """What has come since this was asked last, in order; what comes meanwhile is the next one's."""
        end = await self.last()
        while self._last < end:
            found = await page(self._connection, self._name, ">", self._last + 1, self._at_once)
            # Among the last there may be some that have only just come.
            read = found.messages[-1].sequence if found.messages else end
            self._last = read if found.more else max(read, end)
            self._known.update(each.subject for each in found.messages)
            if found.messages:
                yield found.messages

    async def gone(self) -> list[str]:
        """The subjects that went over and are not there any more; to be asked when nobody writes."""
        return sorted(self._known - (await self.counts()).keys()) if self._known else []

    async def counts(self) -> dict[str, int]:
        """By subject, how many messages there are."""
        there: dict[str, int] = {}
        while True:
            found = await self._info(subjects_filter=">", offset=len(there))
            listed = found["state"].get("subjects") or {}
            there.update(listed)
            if not listed or len(there) >= found.get("total", 0):
                return there

    async def digest(self) -> str:
        """The same for all of two streams, when it is for each subject; to be asked when nobody writes."""
        return hashlib.sha256(msgspec.json.encode(sorted((await self.counts()).items()))).hexdigest()

    async def last(self) -> int:
        """The number of the last message there was."""
        return int((await self._info())["state"]["last_seq"])

    async def _info(self, **more: Any) -> dict[str, Any]:
        return await api(self._connection, f"STREAM.INFO.{self._name}", more)


async def make(connection: Connection, config: dict[str, Any]) -> None:
    """The same stream here, with nothing in it. Raises Unavailable and TimedOut."""
    await api(connection, f"STREAM.CREATE.{config['name']}", config)


async def put(connection: Connection, subject: str, data: bytes) -> None:
    """One message, which is on the disk when this returns. Raises Unavailable and TimedOut."""
    checked(await connection.request(subject, data, TIMEOUT_S), "the copy of a message")


async def add(connection: Connection, name: str, messages: Sequence[tuple[str, bytes]]) -> None:
    """Some more, of a stream that may say nothing of each; it has them when this returns. Raises Unavailable and
    TimedOut."""
    stream = Source(connection, name)
    wanted = await stream.last() + len(messages)
    for subject, data in messages:
        if not connection.publish(subject, data):
            raise Unavailable(f"the copy of {name} cannot be written: no connection, or too much at once")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                if await stream.last() >= wanted:
                    return
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise TimedOut(f"the copy of {name} lacks messages after {TIMEOUT_S:g} s", timeout_s=TIMEOUT_S) from None


async def forget(connection: Connection, name: str) -> None:
    """The whole stream. Raises Unavailable and TimedOut."""
    await api(connection, f"STREAM.DELETE.{name}", {})


async def drop(connection: Connection, name: str, subject: str) -> None:
    """What is no more. Raises Unavailable and TimedOut."""
    await api(connection, f"STREAM.PURGE.{name}", {"filter": subject})


async def count(connection: Connection, name: str) -> int:
    """How many messages are here. Raises Unavailable and TimedOut."""
    return await Source(connection, name).count()
