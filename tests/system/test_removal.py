"""Who was removed acts no more: a host by `motes host rm`, a caller by `motes creds rm`. At once, and for good."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from motes.bus.connection import Connection
from motes.bus.store import Store
from motes.controller.members import CallerKeys, Member
from motes.errors import Refused, TimedOut, Unavailable
from motes.grants import jwt, keys, roles
from motes.model.credentials import Credentials
from motes.model.host import Beat
from system.crossings import report_of
from system.people import People, new_key, with_people
from system.running import DEADLINE_S, Keeper, RunningCluster

GREET = """
    from motes import function

    @function
    def greet(name: str) -> str:
        return f"hello {name}"
"""


@pytest.fixture(scope="module")
def keeper(keeper: Keeper) -> Keeper:
    """With the app `hello`."""
    keeper.deploy("hello", GREET)
    return keeper


@pytest.fixture
def machine(keeper: Keeper, machine: RunningCluster) -> Iterator[RunningCluster]:
    """One that has joined as `b`."""
    machine.join(keeper, "b")
    yield machine
    machine.down()
    if "b" in keeper.hosts():
        keeper.motes("host", "rm", "b")


async def is_ended(connection: Connection) -> bool:
    """Whether it was ended, and does not come back although it tries all the time."""
    try:
        await connection.flush()
    except (Unavailable, TimedOut):
        pass
    else:
        return False
    for _ in range(20):
        if connection.connected:
            return False
        await asyncio.sleep(0.05)
    return True


async def opens(people: People, user: Credentials) -> bool:
    try:
        await people.connect(user.user, user)
    except Unavailable as error:
        assert "Authorization Violation" in error.message
        return False
    return True


def test_a_host_is_cut_off_with_all_its_connections_and_what_it_says_then_counts_for_nothing(
    keeper: Keeper, machine: RunningCluster
) -> None:
    user = machine.home.credentials("host-b")

    async def work(people: People) -> None:
        # As many as it likes, the agent's beside them; each connects again the moment it is cut off.
        own = [await people.connect("host-b", user) for _ in range(4)]
        other = await people.connect("host-local")
        heard: list[str] = []
        listener = await people.connect("keeper")
        for subject in ("beat.b", "report.b.>", "keeper.host-b.*"):
            await listener.subscribe(subject, lambda message: heard.append(message.subject))
        await people.motes("host", "rm", "b")
        heard.clear()
        report = msgspec.msgpack.encode(report_of("b", "f" * 16))
        for each in own:
            each.publish("beat.b", msgspec.msgpack.encode(Beat("b", "f" * 16, 1)))
            each.publish("report.b.state", report)
        assert all(await asyncio.gather(*map(is_ended, own)))
        assert not await opens(people, user)
        await other.flush()
        assert other.connected, "the others notice nothing"
        assert heard == []

    with_people(keeper, work)
    assert "b" not in keeper.hosts()


def test_a_caller_whose_keys_are_withdrawn_is_cut_off_and_gets_in_with_none_of_them(
    keeper: Keeper, tmp_path: Path
) -> None:
    users = [new_key(keeper, "shop", tmp_path / f"{number}.creds") for number in range(2)]
    friend = new_key(keeper, "friend", tmp_path / "friend.creds")
    assert {each["name"]: each["keys"] for each in keeper.json("creds", "ls")} == {"shop": 2, "friend": 1}

    async def work(people: People) -> None:
        open_ = [await people.connect("shop", user) for user in users for _ in range(2)]
        other = await people.connect("friend", friend)
        for each in (*open_, other):
            assert await each.request(f"fn.hello.greet.{each.user}", b'"Ada"', DEADLINE_S) == b'"hello Ada"'
        assert await people.motes("creds", "rm", "shop") == "the keys of 'shop' open nothing any more\n"
        assert all(await asyncio.gather(*map(is_ended, open_)))
        assert [await opens(people, user) for user in users] == [False, False]
        assert await other.request("fn.hello.greet.friend", b'"Bob"', DEADLINE_S) == b'"hello Bob"'
        # The name may have a new key, which does not bring the old ones back.
        again = await asyncio.to_thread(new_key, keeper, "shop", tmp_path / "again.creds")
        assert await opens(people, again) and not await opens(people, users[0])

    with_people(keeper, work)
    assert {each["name"] for each in keeper.json("creds", "ls")} == {"shop", "friend"}
    keeper.motes("creds", "rm", "shop")
    assert "friend" in keeper.motes("creds", "ls") and "shop" not in keeper.motes("creds", "ls")
    for name in ("shop", "nobody", "no name", "local", "gateway"):
        assert "motes creds ls" in keeper.refusal(4, "creds", "rm", name)
    keeper.motes("creds", "rm", "friend")


def test_what_was_withdrawn_stays_so_when_nats_server_has_forgotten_it(tmp_path: Path) -> None:
    with Keeper(tmp_path / "home") as keeper:
        keeper.up()
        user = new_key(keeper, "shop", tmp_path / "shop.creds")
        keeper.motes("creds", "rm", "shop")
        keeper.down()
        shutil.rmtree(keeper.home.nats_accounts)
        keeper.up()

        async def work(people: People) -> None:
            assert not await opens(people, user)

        with_people(keeper, work)


@asynccontextmanager
async def store_of(keeper: Keeper) -> AsyncIterator[Store]:
    async with AsyncExitStack() as stack:
        connection = await Connection.open(keeper.home.nats_url(), keeper.home.credentials("keeper"))
        stack.push_async_callback(connection.close)
        store = await Store.open(connection)
        stack.push_async_callback(store.close)
        yield store


def test_a_clock_that_went_back_since_keeps_nobody_in(keeper: Keeper, machine: RunningCluster) -> None:
    """nats-server lets in who has a token that is newer than the word that its key is worth nothing."""
    later, account = int(time.time()) + 3600, keys.load_or_create(keeper.home.key("account"))
    shop = keys.Key.generate()
    early = Credentials("shop", jwt.user_token(account, roles.caller("shop"), shop.public, later), _seed(shop))
    host = machine.home.credentials("host-b")
    secret = keys.Key(host.secret)
    ahead = host._replace(jwt=jwt.user_token(account, roles.host("b"), secret.public, later))

    async def as_if_issued_then() -> None:
        async with store_of(keeper) as store:
            await store.put_caller("shop", msgspec.msgpack.encode(CallerKeys({shop.public.hex(): later})))
            member = msgspec.msgpack.decode(await store.member("b") or b"", type=Member)
            await store.put_member("b", msgspec.msgpack.encode(msgspec.structs.replace(member, joined_at=float(later))))

    asyncio.run(as_if_issued_then())

    async def work(people: People) -> None:
        assert await opens(people, early) and await opens(people, ahead)
        await people.motes("creds", "rm", "shop")
        await people.motes("host", "rm", "b")
        assert not await opens(people, early) and not await opens(people, ahead)

    with_people(keeper, work)


def _seed(key: keys.Key) -> str:
    return key.nkey_seed(keys.Nkey.USER)


def test_an_invite_lets_nobody_in_after_one_who_came_by_it_was_removed(keeper: Keeper, tmp_path: Path) -> None:
    line = keeper.invite("--uses", "3")
    with RunningCluster(tmp_path / "first") as first, RunningCluster(tmp_path / "second") as second:
        first.motes("join", line, "--name", "first")
        keeper.motes("host", "rm", "first")
        first.motes("leave")
        for other in (first, second):
            assert "'first', which had joined with it, was removed" in other.refusal(3, "join", line, "--name", "x")
        # Of one that left by itself there is nothing to fear.
        line = keeper.invite("--uses", "2")
        first.motes("join", line, "--name", "first")
        first.motes("leave")
        second.motes("join", line, "--name", "second")


def test_a_machine_that_gets_a_removed_ones_name_gets_nothing_else_of_it(
    keeper: Keeper, machine: RunningCluster, tmp_path: Path
) -> None:
    keeper.motes("host", "stop", "--name", "local")
    keeper.motes("call", "hello.greet", "Ada")
    (app,) = [each for each in keeper.json("apps") if each["app"] == "hello"]
    reads: list[bool] = []

    def tries(user: Credentials) -> None:
        async def work(people: People) -> None:
            host: Any = await people.connect("host-b", user)
            try:
                await people.ask(host, "release-get", app["release"], object)
                reads.append(True)
            except Refused:
                reads.append(False)

        with_people(keeper, work)

    tries(machine.home.credentials("host-b"))
    keeper.motes("host", "start", "--name", "local")
    keeper.motes("host", "rm", "b")
    invite = keeper.invite()
    with RunningCluster(tmp_path / "heir") as heir:
        # One that lends next to nothing is given nothing.
        heir.motes("join", invite, "--name", "b", "--lend", "memory=1MiB,spaces=1")
        tries(heir.home.credentials("host-b"))
    assert reads == [True, False]
