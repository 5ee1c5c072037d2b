"""All that a keeper has stored goes to another machine: the code while the keeper works, the rest while nobody writes.

Code, as bundles and layers of packages, may be large; it is named by its content, so what has gone over stays right.
Everything else is small, and goes when it cannot change: desired state, who has joined, events, receipts, logs.
"""

from __future__ import annotations

from typing import Any

import msgspec

from motes.bus import backup, piecewise
from motes.bus.connection import Connection
from motes.bus.frames import Frames
from motes.errors import Unavailable

CODE = "BUNDLES"
ROUNDS = 3
"""How often what came of the code meanwhile goes over before nothing may come any more: each time it is less."""
MAY_EXPIRE = "max_age"


class Copying:
    """One copy, on the keeper's side. Every method raises Unavailable, and TimedOut."""

    def __init__(self, frames: Frames, connection: Connection) -> None:
        self._frames, self._connection = frames, connection
        self._code = piecewise.Source(connection, CODE)

    async def send_code(self) -> None:
        """All that there is by now. The other machine has it on its disk when this returns."""
        await self._frames.ask(do="code", config=await self._code.config())
        for _ in range(ROUNDS):
            await self._send_new_code([])

    async def send_rest(self) -> None:
        """What came of it since, and every other stream, while nobody writes."""
        there, here = await self._send_new_code(await self._code.gone()), await self._code.count()
        if there != here:
            raise Unavailable(f"the copy of {CODE} is not what it was: messages {there} for {here}")
        for name in await backup.stream_names(self._connection):
            if name != CODE:
                await self._send_stream(name)

    async def _send_new_code(self, gone: list[str]) -> int:
        """Returns how much the other machine has then."""
        await self._frames.say(do="new-code", gone=gone)
        async for page in self._code.fresh():
            await self._frames.send(msgspec.msgpack.encode([(each.subject, each.data) for each in page]))
        await self._frames.send(b"")
        return int((await self._hear(CODE))["messages"])

    async def _send_stream(self, name: str) -> None:
        async with backup.snapshot(self._connection, name) as read:
            await self._frames.say(do="stream", name=name, config=read.config, state=read.state)
            async for chunk in read.chunks:
                await self._frames.send(chunk)
            await self._frames.send(b"")
            answer = await self._hear(name)
            may_expire = bool(read.config.get(MAY_EXPIRE))
            if lacks := backup.difference(read.state, answer["state"], may_expire=may_expire):
                raise Unavailable(f"the copy of {name} is not what it was: {lacks}")

    async def _hear(self, what: str) -> dict[str, Any]:
        answer = await self._frames.hear()
        if "error" in answer:
            raise Unavailable(f"the other machine refuses {what}: {answer['error']}")
        return answer
