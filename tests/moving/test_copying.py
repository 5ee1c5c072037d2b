"""What a keeper has stored is copied while it is written to; only what came since goes while nobody writes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from motes.bus.backup import api
from motes.bus.connection import Connection
from motes.bus.frames import Frames
from motes.bus.store import Store
from motes.moving.copying import GROWING, Copying
from motes.moving.storing import take

DEADLINE_S = 60.0
APPS, HOSTS = ("loud", "removed", "quiet"), ("h1", "h2")


class Move:
    """One from server to server; what is said on the way is noted."""

    def __init__(self, source: Connection, target: Connection, ends: tuple[Frames, Frames], store: Store) -> None:
        self.store, self.source, self.target, (self._here, self._there) = store, source, target, ends
        self.copying = Copying(self._here, source)
        self.said: list[tuple[str, str]] = []
        self._receipts = dict.fromkeys(HOSTS, 0)
        self._say = self._here.say
        self._here.say = self._noted  # type: ignore[method-assign]

    async def _noted(self, **words: Any) -> None:
        self.said.append((words["do"], words.get("name", "")))
        await self._say(**words)

    async def write(self, text: str, apps: tuple[str, ...] = APPS) -> None:
        """Something more of each kind."""
        for app in apps:
            self.store.add_log(app, f"{app} {text}".encode())
        for host in HOSTS:
            self.store.add_event(host, f"{host} {text}".encode())
            self._receipts[host] = await self.store.add_receipt(host, text.encode(), self._receipts[host])
        await self.source.flush()

    async def run(self, before: Callable[[], Awaitable[None]]) -> None:
        """All of it; `before` is done when all that may be much is there."""
        taking = asyncio.create_task(take(self._there, self.target))
        await self.copying.send_code()
        await self.copying.send_growing()
        await before()
        self.said.clear()
        await self.copying.send_rest()
        await self._say(do="prepare")
        await taking

    async def check(self) -> None:
        """Everything is there as it was, and can be gone on with."""
        copied = await Store.open(self.target)
        try:
            for app in APPS:
                assert await copied.logs(app) == await self.store.logs(app)
            assert await copied.events(20_000) == await self.store.events(20_000)
            for host in HOSTS:
                kept = [(await each.receipts(host, 0.0, 1, 10_000)).messages for each in (copied, self.store)]
                assert [each.data for each in kept[0]] == [each.data for each in kept[1]]
                number, _ = await copied.last_receipt(host)
                assert await copied.add_receipt(host, b"the next", number) > number
        finally:
            await copied.close()


@pytest.fixture
def moved(own_nats_server: Any, other_nats_server: Any) -> Callable[[Callable[[Move], Awaitable[None]]], None]:
    async def within_deadline(test: Callable[[Move], Awaitable[None]]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            servers = (own_nats_server, other_nats_server)
            source, target = [await Connection.open(each.url, each.home.credentials("keeper")) for each in servers]
            store = await Store.open(source)
            streams = [await asyncio.open_connection(sock=each) for each in socket.socketpair()]
            here, there = (Frames(reader, writer, DEADLINE_S) for reader, writer in streams)
            try:
                await test(Move(source, target, (here, there), store))
            finally:
                for frames in (here, there):
                    frames.close()
                for each in (store, source, target):
                    await each.close()

    return lambda test: asyncio.run(within_deadline(test))


def test_of_what_grows_only_the_end_goes_while_nobody_writes(moved: Any) -> None:
    async def test(move: Move) -> None:
        for number in range(200):
            await move.write(f"before {number}")

        is_frozen = asyncio.Event()
        written = 0

        async def write_on() -> None:
            nonlocal written
            while not is_frozen.is_set():
                await move.write(f"meanwhile {written}")
                written += 1

        writing = asyncio.create_task(write_on())

        async def end() -> None:
            assert written > 10
            is_frozen.set()
            await writing
            await move.write("late")

        await move.run(end)
        assert [name for do, name in move.said if do == "more"] == list(GROWING)
        assert not {name for do, name in move.said if do in ("stream", "forget")} & set(GROWING)
        assert ("stream", "KV_apps") in move.said
        await move.check()

    moved(test)


def test_what_was_removed_meanwhile_is_not_there_either(moved: Any) -> None:
    async def test(move: Move) -> None:
        await move.write("before")

        async def remove() -> None:
            await move.store.delete_logs("removed")
            await move.write("late", ("loud", "quiet"))

        await move.run(remove)
        assert [name for do, name in move.said if do == "forget"] == ["LOGS"]
        assert await move.store.logs("removed") == []
        await move.check()

    moved(test)


def test_what_has_grown_too_old_meanwhile_takes_nothing_of_its_kind_along(moved: Any) -> None:
    """Of a cluster that is older than what is kept this is so at any time; each server goes by its own clock."""

    async def test(move: Move) -> None:
        for number in range(5):
            await move.write(f"before {number}")

        async def grow_old() -> None:
            for name in ("EVENTS", "RECEIPTS"):
                await api(move.source, f"STREAM.PURGE.{name}", {"seq": 4})
            await move.write("late")

        await move.run(grow_old)
        assert not [name for do, name in move.said if do == "forget"]
        late = {f"{host} late".encode() for host in HOSTS}
        assert set((await move.store.events(20_000))[-2:]) == late
        copied = await Store.open(move.target)
        assert set((await copied.events(20_000))[-2:]) == late
        assert [(await copied.last_receipt(host))[1] for host in HOSTS] == [b"late"] * 2
        await copied.close()

    moved(test)


def test_more_than_is_kept_of_one_app_pushes_out_the_oldest_there_as_well(moved: Any) -> None:
    async def test(move: Move) -> None:
        for number in range(990):
            move.store.add_log("loud", f"before {number}".encode())
        await move.write("before")

        async def more() -> None:
            for number in range(600):
                move.store.add_log("loud", f"late {number}".encode())
            await move.write("late")

        await move.run(more)
        assert not [name for do, name in move.said if do == "forget"]
        assert len(await move.store.logs("loud")) == 1_000
        await move.check()

    moved(test)
