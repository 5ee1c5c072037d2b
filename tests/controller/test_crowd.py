"""Of a user's connections those that came last are too many, and all of who was shut out; nobody else's are ended."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, cast

import pytest

from motes.bus.notices import Session
from motes.controller import crowd
from motes.controller.crowd import MOST, Crowd, shut_out, too_many
from motes.errors import Unavailable

AT = 1_000
"""When a key was shut out, in the tokens' time."""


def session(number: int, user: str = "shop", key: str = "U", issued_at: int = AT, server: str = "N") -> Session:
    began_at = datetime.datetime.fromtimestamp(number, datetime.UTC)
    return Session(server, number, began_at, user, key, issued_at)


class Servers:
    """In the place of the servers: lists what is there, and ends it."""

    def __init__(self, *there: Session) -> None:
        self.there = list(there)
        self.ended: list[Session] = []
        self.lists = 0
        self.fails = 0

    async def watch(self, on_begun: Any, on_ended: Any, on_unsure: Any) -> None:
        self.on_begun, self.on_ended, self.on_unsure = on_begun, on_ended, on_unsure

    async def by_server(self) -> AsyncIterator[list[Session]]:
        self.lists += 1
        if self.fails:
            self.fails -= 1
            raise Unavailable("no server answers")
        servers = sorted({each.server for each in self.there}, reverse=True)
        lists = {server: [each for each in self.there if each.server == server] for server in servers}
        for told in lists.values():
            await self.on_the_way()
            yield told

    async def on_the_way(self) -> None:
        """While a server's list, which was made before, has not arrived."""

    async def end(self, sessions: Iterable[Session]) -> bool:
        for each in sessions:
            self.ended.append(each)
            if each in self.there:
                self.there.remove(each)
        return True

    def begin(self, each: Session) -> None:
        self.there.append(each)
        self.on_begun(each)


def watched(servers: Servers, story: Callable[[Crowd], Awaitable[None]]) -> None:
    async def run() -> None:
        watching = Crowd(cast(Any, servers))
        await watching.start()
        await settled()
        await story(watching)
        await watching.close()

    asyncio.run(run())


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "PAUSE_S", 0.0)
    monkeypatch.setattr(crowd, "STAY_S", 0.0)


@pytest.mark.parametrize(
    ("user", "most"), [("guest-0", MOST["guest"]), ("host-a", MOST["host"]), ("shop", MOST["caller"])]
)
def test_the_newest_beyond_the_limit_are_ended_and_nobody_elses(user: str, most: int) -> None:
    sessions = [session(number, user if number % 2 else f"{user}1") for number in range(2 * most + 6)]
    assert too_many(sessions) == sessions[2 * most :]


@pytest.mark.parametrize("user", ["local", "keeper", "gateway", "gateway-answers", "gateway-streams"])
def test_this_machines_own_programs_have_as_many_as_they_like(user: str) -> None:
    assert too_many(session(number, user) for number in range(10_000)) == []


def test_who_was_shut_out_is_known_by_key_and_not_by_name() -> None:
    gone, earlier, anew = session(1, key="GONE"), session(2, key="EARLIER"), session(3, key="ANEW")
    nobodys = session(4, key="", issued_at=0)
    assert shut_out([gone, earlier, anew, nobodys], {"GONE": AT, "EARLIER": AT}) == [gone, earlier]


@pytest.mark.parametrize(("issued_at", "is_out"), [(AT - 1, True), (AT, True), (AT + 1, False)])
def test_a_key_that_was_let_in_anew_later_stays(issued_at: int, is_out: bool) -> None:
    assert bool(shut_out([session(1, issued_at=issued_at)], {"U": AT})) == is_out


def test_who_is_there_when_he_is_shut_out_is_ended_and_each_time_that_he_comes_back() -> None:
    servers = Servers(session(1, "host-b", "GONE"), session(2, "host-b", "ANEW"))

    async def story(watching: Crowd) -> None:
        watching.shut_out({"GONE": AT})
        assert await watching.look()
        assert servers.there == [session(2, "host-b", "ANEW")]
        for number in range(3, 6):
            servers.begin(session(number, "host-b", "GONE"))
            servers.begin(session(number + 10, "host-b", "ANEW"))
            await settled()
        assert {each.key for each in servers.there} == {"ANEW"} and len(servers.there) == 4

    watched(servers, story)


def test_who_was_shut_out_is_ended_before_the_last_server_has_told_its_list() -> None:
    servers, left = Servers(), list[int]()

    async def on_the_way() -> None:
        await settled()
        left.append(len(servers.there))

    async def story(watching: Crowd) -> None:
        watching.shut_out({"U": AT})
        servers.there = [session(1, server="N"), session(2, server="O")]
        cast(Any, servers).on_the_way = on_the_way
        assert await watching.look()
        assert left == [2, 1] and not servers.there

    watched(servers, story)


def test_a_users_connections_are_counted_over_all_servers_by_when_they_began() -> None:
    most = MOST["guest"]
    sessions = [session(number, "guest-0", server="NO"[number % 2]) for number in range(2 * most)]
    servers = Servers(*sessions)

    async def story(watching: Crowd) -> None:
        assert servers.there == sessions[:most]

    watched(servers, story)


def test_what_was_said_last_of_a_key_counts_and_earlier_words_do_not() -> None:
    servers = Servers(session(1, issued_at=AT))

    async def story(watching: Crowd) -> None:
        watching.shut_out({"U": AT})
        watching.shut_out({"U": AT - 5})
        assert await watching.look() and not servers.there

    watched(servers, story)


def test_who_comes_back_in_a_loop_is_ended_now_and_then_without_a_look_at_the_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crowd, "MOST_BACK", 10)
    servers = Servers()

    async def story(watching: Crowd) -> None:
        watching.shut_out({"U": AT})
        looks = servers.lists
        for number in range(10):
            servers.begin(session(number, "host-b"))
            if number % 2:
                servers.on_ended(servers.there.pop())
        await settled()
        # Whoever has gone by himself is not ended.
        assert [each.number for each in servers.ended] == [0, 2, 4, 6, 8] and servers.lists == looks
        for number in range(20, 35):
            servers.begin(session(number, "host-b"))
        # More at a time than are remembered show in the list.
        await settled()
        assert not servers.there and servers.lists == looks + 1

    watched(servers, story)


def test_after_a_loss_of_the_connection_the_list_shows_who_came_meanwhile() -> None:
    servers = Servers()

    async def story(watching: Crowd) -> None:
        watching.shut_out({"U": AT})
        servers.there.append(session(1))
        servers.on_unsure()
        await settled()
        assert not servers.there

    watched(servers, story)


def test_while_somebody_is_shut_out_the_list_is_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "LOOK_EVERY_S", 0.0)
    servers = Servers()

    async def story(watching: Crowd) -> None:
        assert servers.lists == 1
        watching.shut_out({"U": AT})
        servers.there.append(session(1))
        await settled()
        assert not servers.there

    watched(servers, story)


def test_a_list_that_cannot_be_read_keeps_nobody_from_being_looked_at_later() -> None:
    servers = Servers()

    async def story(watching: Crowd) -> None:
        watching.shut_out({"GONE": AT})
        servers.fails = 1
        assert not await watching.look()
        servers.fails = 1
        for number in range(MOST["caller"] + 1):
            servers.begin(session(number))
        await settled()
        assert len(servers.there) == MOST["caller"]

    watched(servers, story)


def test_who_begins_while_the_servers_are_asked_is_counted_all_the_same() -> None:
    """Else each look at the list would hide those that came during it."""
    servers, most = Servers(session(0, "guest-0", server="O")), MOST["guest"]

    async def story(watching: Crowd) -> None:
        async def on_the_way() -> None:
            cast(Any, servers).on_the_way = settled
            for number in range(1, 3 * most):
                servers.begin(session(number, "guest-0", server="O"))

        cast(Any, servers).on_the_way = on_the_way
        servers.on_unsure()
        await settled()
        await settled()
        assert len(servers.there) == most

    watched(servers, story)


def test_connections_whose_end_nobody_told_count_no_more_after_a_look() -> None:
    """As when a server has died: else who comes back at another would seem to have too many, look after look."""
    most = MOST["host"]
    servers = Servers(*(session(number, "host-b", server="N") for number in range(most)))

    async def story(watching: Crowd) -> None:
        servers.there.clear()
        for number in range(most):
            servers.begin(session(number, "host-b", server="O"))
        await settled()
        assert watching._counts == {"host-b": most} and not servers.ended
        looks = servers.lists
        await settled()
        assert servers.lists == looks

    watched(servers, story)


def test_nobody_is_counted_who_has_gone() -> None:
    servers = Servers()

    async def story(watching: Crowd) -> None:
        for change in (servers.on_begun, servers.on_ended, servers.on_ended):
            change(session(1))
        assert not watching._about and not watching._counts

    watched(servers, story)
