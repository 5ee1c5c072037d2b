"""Messages of JSON and of bytes over a stream, each with its length before it. Stdlib only."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

from motes.errors import Unavailable

WORD_LIMIT_BYTES = 8 * 2**20
"""A longer message is none."""
_LENGTH = struct.Struct(">I")


class Frames:
    """Both directions of one connection. Reading ends with Unavailable where the other side does, or says nothing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout_s: float) -> None:
        self.reader, self.writer, self.timeout_s = reader, writer, timeout_s

    async def send(self, data: bytes) -> None:
        """Raises Unavailable."""
        try:
            async with asyncio.timeout(self.timeout_s):
                self.writer.write(_LENGTH.pack(len(data)) + data)
                await self.writer.drain()
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"the other machine takes no more: {error or 'it hangs'}") from error

    async def read(self, limit_bytes: int = WORD_LIMIT_BYTES) -> bytes:
        """Raises Unavailable."""
        try:
            async with asyncio.timeout(self.timeout_s):
                (length,) = _LENGTH.unpack(await self.reader.readexactly(_LENGTH.size))
                if length > limit_bytes:
                    raise Unavailable(f"the other machine says {length} bytes at once; {limit_bytes} are taken")
                return await self.reader.readexactly(length)
        except TimeoutError:
            raise Unavailable(f"the other machine said nothing for {self.timeout_s:g} s") from None
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Unavailable(f"the connection to the other machine ended: {error}") from error

    async def say(self, **words: Any) -> None:
        """Raises Unavailable."""
        await self.send(json.dumps(words).encode())

    async def hear(self, limit_bytes: int = WORD_LIMIT_BYTES) -> dict[str, Any]:
        """Raises Unavailable."""
        try:
            found = json.loads(await self.read(limit_bytes))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise Unavailable("the other machine says what cannot be read")
        return found

    async def ask(self, **words: Any) -> dict[str, Any]:
        """Say, and hear the answer. Raises Unavailable, with its `error` where it has one."""
        await self.say(**words)
        answer = await self.hear()
        if "error" in answer:
            raise Unavailable(f"the other machine refuses: {answer['error']}")
        return answer

    def close(self) -> None:
        self.writer.close()
