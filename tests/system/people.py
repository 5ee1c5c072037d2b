"""The users of a cluster, each with its own key, for tests of what one may do to another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from motes.bus.connection import Connection
from motes.client.cluster import Cluster
from motes.grants import creds
from motes.model.credentials import Credentials
from motes.model.keeper import decode_answer
from system.running import DEADLINE_S, RunningCluster


class People:
    """Opens connections in users' names; they are closed at the end of the test."""

    def __init__(self, cluster: RunningCluster, stack: AsyncExitStack) -> None:
        self.home = cluster.home
        self._cluster = cluster
        self._stack = stack

    async def program(self, user: str) -> Cluster:
        """A program that calls as `user`."""
        opened = await Cluster.open(self.home, user)
        self._stack.push_async_callback(opened.close)
        return opened

    async def connect(self, user: str, credentials: Credentials | None = None) -> Connection:
        """Any NATS client with the key of `user`."""
        keeper, shown = self.home.keeper(), credentials or self.home.credentials(user)
        opened = await Connection.open(keeper.servers, shown, certificate=keeper.certificate)
        self._stack.push_async_callback(opened.close)
        return opened

    async def motes(self, *words: str) -> str:
        """What a `motes` command prints there, while the connections go on."""
        return await asyncio.to_thread(self._cluster.motes, *words)

    async def ask(self, connection: Connection, verb: str, question: object, kind: type[Any]) -> Any:
        """What the controller answers. Raises what it refuses with."""
        data = msgspec.msgpack.encode(question)
        subject = f"keeper.{connection.user}.{verb}"
        return decode_answer(await connection.request(subject, data, DEADLINE_S), kind)


def new_key(cluster: RunningCluster, name: str, file: Path) -> Credentials:
    """One more key of the caller `name`, kept in `file`."""
    cluster.motes("creds", name, "--output", str(file))
    return creds.parse(file.read_text()).credentials


def left_behind(keeper: RunningCluster, machine: RunningCluster, name: str) -> Credentials:
    """The key of the host `name`, whose machine has joined and does not run any more."""
    machine.join(keeper, name)
    machine.down()
    return machine.home.credentials(f"host-{name}")


def with_people(cluster: RunningCluster, work: Callable[[People], Awaitable[None]]) -> None:
    """Run `work`, which must end within DEADLINE_S."""

    async def run() -> None:
        async with asyncio.timeout(DEADLINE_S), AsyncExitStack() as stack:
            await work(People(cluster, stack))

    asyncio.run(run())
