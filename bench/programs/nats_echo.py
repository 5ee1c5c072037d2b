"""The far end of bare NATS and thin NATS: answers every request on a subject with its own bytes.

`bare` is nats-py; `thin` is Motes' own protocol client without anything above it; `forking` is nats-py with a fresh
fork for each request.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from typing import Any

import uvloop

from bench.nats import connect_bare
from bench.programs.serving import serve_async
from motes.bus.connection import Connection, Message
from motes.model.credentials import Credentials


async def answer_bare(url: str, credentials: list[str], subject: str) -> None:
    """Answer with nats-py."""
    client = await connect_bare(url, Credentials(*credentials))

    async def answer(message: Any) -> None:
        await message.respond(message.data)

    await client.subscribe(subject, cb=answer)
    await client.flush()


async def answer_thin(url: str, credentials: list[str], subject: str) -> None:
    """Answer with a bare asyncio.Protocol."""
    connection = await Connection.open(url, Credentials(*credentials))
    _kept.append(connection)

    def answer(message: Message) -> None:
        connection.publish(message.reply, message.data)

    await connection.subscribe(subject, answer)


async def answer_forking(url: str, credentials: list[str], subject: str) -> None:
    """Answer from a fresh fork each time, with nats-py around it."""
    client = await connect_bare(url, Credentials(*credentials))
    loop = asyncio.get_running_loop()
    gc.collect()
    gc.freeze()

    async def answer(message: Any) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        pid = os.fork()
        if pid == 0:
            os.write(theirs.fileno(), os.read(theirs.fileno(), 65536))
            os._exit(0)
        theirs.close()
        ours.send(message.data)
        await message.respond(await loop.sock_recv(ours, 65536))
        ours.close()
        os.waitpid(pid, 0)  # noqa: ASYNC222  it has ended, or is about to

    await client.subscribe(subject, cb=answer)
    await client.flush()


_kept: list[Connection] = []

if __name__ == "__main__":
    uvloop.run(serve_async({"bare": answer_bare, "thin": answer_thin, "forking": answer_forking}))
