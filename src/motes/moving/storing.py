"""What a keeper has stored, as it comes to another machine (see motes.moving.copying): into a nats-server of its own.

Nobody else reaches that one, and it ends when all is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from motes.bus import backup, piecewise, server
from motes.bus.backup import Snapshot
from motes.bus.connection import Connection
from motes.bus.frames import Frames
from motes.errors import Refused, Unavailable
from motes.home import Home
from motes.model.names import KEEPER
from motes.moving.copying import CODE, GROWING
from motes.supervisor.child import end_with_this_process

START_TIMEOUT_S = 20.0


@contextlib.asynccontextmanager
async def store(came: Home) -> AsyncIterator[Connection]:
    """The nats-server of the home that came, for this machine only, until its streams are there. Raises Unavailable."""
    port = server.choose_port(came)
    process = _start_nats(came, port)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not server.ports_file(came, process.pid).exists():
                if process.poll() is not None:
                    raise Unavailable(f"nats-server does not start; see {came.log('nats-server')}")
                await asyncio.sleep(0.01)
        connection = await Connection.open(f"nats://127.0.0.1:{port}", came.credentials(KEEPER))
        try:
            yield connection
        finally:
            await connection.close()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.shield(asyncio.to_thread(process.wait))


def _start_nats(came: Home, port: int) -> subprocess.Popen[bytes]:
    with came.log("nats-server").open("ab") as log:
        return subprocess.Popen(
            server.command(came, port),
            env={**os.environ, **server.ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            preexec_fn=end_with_this_process(),
        )


async def take(frames: Frames, connection: Connection) -> dict[str, Any]:
    """Everything, as it comes; returns what is said after it. Raises Unavailable and TimedOut."""
    kinds = {"code": make_code, "new-code": take_code, "stream": restore, "more": take_more, "forget": forget}
    while (kind := kinds.get(str((asked := await frames.hear()).get("do")))) is not None:
        await frames.say(ok=True, **await kind(frames, connection, asked))
    return asked


async def make_code(frames: Frames, connection: Connection, asked: dict[str, Any]) -> dict[str, Any]:
    """The stream for it, with nothing in it."""
    await piecewise.make(connection, dict(asked["config"]))
    return {}


async def take_code(frames: Frames, connection: Connection, asked: dict[str, Any]) -> dict[str, Any]:
    """What has come of it since the last time, and without what has gone."""
    for subject in asked["gone"]:
        await piecewise.drop(connection, CODE, str(subject))
    async for messages in _pages(frames):
        await asyncio.gather(*(piecewise.put(connection, *each) for each in messages))
    return {"messages": await piecewise.count(connection, CODE)}


async def take_more(frames: Frames, connection: Connection, asked: dict[str, Any]) -> dict[str, Any]:
    """What has come to a stream since it was taken."""
    name = _growing(asked)
    async for messages in _pages(frames):
        await piecewise.add(connection, name, messages)
    return {"digest": await piecewise.Source(connection, name).digest()}


async def forget(frames: Frames, connection: Connection, asked: dict[str, Any]) -> dict[str, Any]:
    """A stream that is to come once more as a whole."""
    await piecewise.forget(connection, _growing(asked))
    return {}


def _growing(asked: dict[str, Any]) -> str:
    if (name := str(asked.get("name"))) not in GROWING:
        raise Refused(f"{name[:40]!r} is no stream that grows at its end")
    return name


async def _pages(frames: Frames) -> AsyncIterator[list[tuple[str, bytes]]]:
    while data := await frames.read():
        try:
            yield msgspec.msgpack.decode(data, type=list[tuple[str, bytes]])
        except msgspec.DecodeError as error:
            raise Refused(f"what came are no messages: {error}") from error


async def restore(frames: Frames, connection: Connection, asked: dict[str, Any]) -> dict[str, Any]:
    """One stream, byte for byte."""

    async def chunks() -> AsyncIterator[bytes]:
        while chunk := await frames.read():
            yield chunk

    read = Snapshot(str(asked["name"]), dict(asked["config"]), dict(asked["state"]), chunks())
    return {"state": await backup.restore(connection, read)}
