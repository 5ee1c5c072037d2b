"""In a NATS of three servers that its user runs, with a user of its system account: who was removed does not stay.

That NATS lets his key in until its operator says otherwise, so he comes back; then he is ended again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from motes.bus.connection import Connection
from motes.controller.crowd import MOST
from motes.errors import Unavailable
from motes.grants import jwt, roles
from motes.grants.issuing import issuer_of
from motes.grants.keys import Key, Nkey
from motes.model.credentials import Credentials
from system.own_nats import APP, Account, Lodger, OwnNats
from system.people import People, left_behind, new_key, with_people
from system.running import Away, RunningCluster, is_alive, wait_until

SERVERS = 3
TIMES = 5
"""So often one is ended: looks at the list alone would take minutes for that."""


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnNats]:
    with OwnNats(tmp_path_factory.mktemp("nats"), Account("MOTES"), servers=SERVERS) as made:
        yield made


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory, nats: OwnNats) -> Iterator[Lodger]:
    with Lodger(tmp_path_factory.mktemp("keeper") / "home") as cluster:
        cluster.live_in(nats, *nats.system_options())
        yield cluster


class Stubborn(Connection):
    """A connection that comes back whenever it was lost, and gives itself out for another's."""

    losses = 0
    says: tuple[str, str] = ("", "")

    def _note_loss(self, wire: Any) -> None:
        if wire is self._wire:
            self.losses += 1
        super()._note_loss(wire)

    def _options(self, nonce: str) -> dict[str, Any]:
        name, key = self.says
        return super()._options(nonce) | ({"name": name, "user": key, "nkey": key} if key else {})


@contextlib.asynccontextmanager
async def at_each_server(
    people: People, user: Credentials, says: tuple[str, str] = ("", "")
) -> AsyncIterator[list[Stubborn]]:
    """Connections of that user, one at each server."""
    keeper = people.home.keeper()
    kind = type("Lying", (Stubborn,), {"says": says})
    opened = [await kind.open(server, user, certificate=keeper.certificate) for server in keeper.servers.split(",")]
    try:
        yield opened
    finally:
        for each in opened:
            await each.close()


async def until_ended(connections: list[Stubborn], times: int) -> None:
    while any(each.losses < times for each in connections):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def test_a_removed_host_is_ended_at_every_server_as_often_as_it_comes_back_and_nobody_else_is(
    nats: OwnNats, keeper: Lodger, machine: RunningCluster
) -> None:
    removed = left_behind(keeper, machine, "b")
    # Who has its name with another key, as one that has joined anew would.
    other = jwt.credentials(issuer_of(keeper.home), roles.host("b"))
    innocent = Key(other.secret).nkey(Nkey.USER)

    async def work(people: People) -> None:
        async with (
            at_each_server(people, removed, ("host-local", innocent)) as lying,
            at_each_server(people, removed) as plain,
            at_each_server(people, other) as others,
        ):
            line = await people.motes("host", "rm", "b")
            assert "its connections are ended" in line and "nsc revocations add-user --account" in line
            await until_ended([*lying, *plain], TIMES)
            for each in others:
                await each.flush()
            assert not any(each.losses for each in others)

    with_people(keeper, work)
    assert keeper.hosts() == {"local": "up"}


def test_who_was_removed_does_not_stay_by_coming_while_there_is_no_keeper(
    nats: OwnNats, keeper: Lodger, machine: RunningCluster
) -> None:
    removed = left_behind(keeper, machine, "c")
    assert keeper.json("host", "rm", "c")["ended"] is True
    assert keeper.hosts() == {"local": "up"}
    keeper.down()

    async def work(people: People) -> None:
        async with at_each_server(people, removed) as connections:
            await asyncio.to_thread(keeper.up)
            await until_ended(connections, TIMES)

    with_people(keeper, work)


def test_a_withdrawn_caller_is_ended_with_all_of_its_keys_and_may_hear_why(
    nats: OwnNats, keeper: Lodger, away: Away, tmp_path: Path
) -> None:
    files = [tmp_path / f"{number}.creds" for number in range(2)]
    first, second = (new_key(keeper, "shop", file) for file in files)
    keeper.deploy("app", APP)
    away.motes("context", "add", "work", "--creds", str(files[0]))
    assert away.json("--context", "work", "call", "app.double", "4") == 8

    async def work(people: People) -> None:
        async with at_each_server(people, first) as one, at_each_server(people, second) as two:
            assert "are ended" in await people.motes("creds", "rm", "shop")
            await until_ended([*one, *two], TIMES)

    with_people(keeper, work)
    assert "withdrawn" in away.refusal(3, "--context", "work", "call", "app.double", "4")


def test_an_honest_host_that_is_removed_ends_and_leaves_as_ever(
    nats: OwnNats, keeper: Lodger, machine: RunningCluster
) -> None:
    machine.join(keeper, "d")
    agent = machine.pid("agent-d")
    keeper.motes("host", "rm", "d")
    wait_until(lambda: not is_alive(agent), "the agent has ended")
    machine.down()
    machine.up()
    wait_until(lambda: "was removed from this cluster" in machine.home.log("agent-d").read_text(), "it was told")
    assert machine.json("leave") == {"name": "d", "told": True}
    machine.join(keeper, "e")
    assert machine.json("leave") == {"name": "e", "told": True}
    assert keeper.hosts() == {"local": "up"}


def test_a_host_that_goes_by_itself_hears_the_answer_and_does_not_stay(
    nats: OwnNats, keeper: Lodger, machine: RunningCluster
) -> None:
    user = left_behind(keeper, machine, "f")

    async def work(people: People) -> None:
        async with at_each_server(people, user) as connections:
            assert await people.ask(connections[0], "quit", None, bool)
            await until_ended(connections, TIMES)

    with_people(keeper, work)


def test_a_users_connections_are_counted_at_all_servers_together(nats: OwnNats, keeper: Lodger, tmp_path: Path) -> None:
    many, most = new_key(keeper, "many", tmp_path / "many.creds"), MOST["caller"]

    async def work(people: People) -> None:
        keeper = people.home.keeper()
        opened: list[Connection] = []
        try:
            for number in range(most + SERVERS):
                server = keeper.servers.split(",")[number % SERVERS]
                with contextlib.suppress(Unavailable):
                    opened.append(await Connection.open(server, many, certificate=keeper.certificate))
                    opened[-1]._closed = True  # It does not come back.
            while sum(is_open(each) for each in opened) > most:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            # Those that came first stay.
            assert all(map(is_open, opened[:most]))
        finally:
            for each in opened:
                await each.close()

    with_people(keeper, work)


def is_open(connection: Connection) -> bool:
    return connection._wire is not None and connection._wire.open
