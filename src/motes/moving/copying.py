"""All that a keeper has stored goes to another machine: what may be much while the keeper works, the rest while nobody
writes.

Code, as bundles and layers of packages, is named by its content, so what has gone over stays right. Of events, logs and
receipts, which grow at their end, a snapshot goes over, and what came since follows. Logs of which some have gone
meanwhile, as by the removal of an app, go once more as a whole, like everything else: desired state, who has joined.
"""

from __future__ import annotations

from typing import Any

import msgspec

from motes.bus import backup, piecewise
from motes.bus.connection import Connection
from motes.bus.frames import Frames
from motes.errors import Unavailable

CODE = "BUNDLES"
LOGS = "LOGS"
GROWING = ("EVENTS", LOGS, "RECEIPTS")
"""Logs are also removed. Of the others only what is too old or too much goes, and of a copy as well, by its own server:
of a cluster that is older than what is kept, some at any time."""
ROUNDS = 3
"""How often what came of the code meanwhile goes over before nothing may come any more: each time it is less."""
MAY_EXPIRE = "max_age"


class Copying:
    """One copy, on the keeper's side. Every method raises Unavailable, and TimedOut."""

    def __init__(self, frames: Frames, connection: Connection) -> None:
        self._frames, self._connection = frames, connection
        self._code = piecewise.Source(connection, CODE)
        self._growing: dict[str, piecewise.Source] = {}

    async def send_code(self) -> None:
        """All that there is by now. The other machine has it on its disk when this returns."""
        await self._frames.ask(do="code", config=await self._code.config())
        for _ in range(ROUNDS):
            await self._send_new_code([])

    async def send_growing(self) -> None:
        """Events, logs and receipts, as they are by now."""
        for name in await backup.stream_names(self._connection):
            if name in GROWING:
                _, there = await self._send_snapshot(name)
                last = int(there["last_seq"])
                self._growing[name] = piecewise.Source(self._connection, name, last, piecewise.PAGE_OF_SMALL)
        for name, stream in self._growing.items():
            await self._send_more(name, stream)

    async def send_rest(self) -> None:
        """What came of all that since, and every other stream, while nobody writes."""
        there, here = await self._send_new_code(await self._code.gone()), await self._code.count()
        if there != here:
            raise Unavailable(f"the copy of {CODE} is not what it was: messages {there} for {here}")
        for name in await backup.stream_names(self._connection):
            if name in self._growing:
                stream = self._growing[name]
                copied = await self._send_more(name, stream)
                if name != LOGS or copied == await stream.digest():
                    continue
                await self._frames.ask(do="forget", name=name)
            if name != CODE:
                await self._send_stream(name)

    async def _send_more(self, name: str, stream: piecewise.Source) -> str:
        """Returns the digest of what the other machine has then."""
        await self._frames.say(do="more", name=name)
        await self._send_pages(stream)
        return str((await self._hear(name))["digest"])

    async def _send_pages(self, stream: piecewise.Source) -> None:
        async for page in stream.fresh():
            await self._frames.send(msgspec.msgpack.encode([(each.subject, each.data) for each in page]))
        await self._frames.send(b"")

    async def _send_new_code(self, gone: list[str]) -> int:
        """Returns how much the other machine has then."""
        await self._frames.say(do="new-code", gone=gone)
        await self._send_pages(self._code)
        return int((await self._hear(CODE))["messages"])

    async def _send_stream(self, name: str) -> None:
        read, there = await self._send_snapshot(name)
        if lacks := backup.difference(read.state, there, may_expire=bool(read.config.get(MAY_EXPIRE))):
            raise Unavailable(f"the copy of {name} is not what it was: {lacks}")

    async def _send_snapshot(self, name: str) -> tuple[backup.Snapshot, dict[str, Any]]:
        """Returns what was read, and the state of the copy: of a stream that grows meanwhile it may have more."""
        async with backup.snapshot(self._connection, name) as read:
            await self._frames.say(do="stream", name=name, config=read.config, state=read.state)
            async for chunk in read.chunks:
                await self._frames.send(chunk)
            await self._frames.send(b"")
            return read, (await self._hear(name))["state"]

    async def _hear(self, what: str) -> dict[str, Any]:
        answer = await self._frames.hear()
        if "error" in answer:
            raise Unavailable(f"the other machine refuses {what}: {answer['error']}")
        return answer
