"""A list is that of all servers, however many answer and however long each one's is; who is ended is ended there."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from motes.bus import notices
from motes.bus.connection import Message
from motes.bus.notices import Session, told
from motes.controller import connections
from motes.controller.connections import Connections
from motes.errors import Unavailable


def token(**claims: object) -> str:
    return f"x.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.x"


def client(cid: int) -> dict[str, object]:
    return {"cid": cid, "start": f"2026-01-01T00:00:{cid:02}.5Z", "jwt": token(name="shop")}


class System:
    """In the place of a connection in the system account of servers, by id each with its own connections."""

    inbox = "_INBOX.system.x"

    def __init__(self, **servers: int) -> None:
        self.servers = {name: [client(cid) for cid in range(count)] for name, count in servers.items()}
        self.silent: set[str] = set()
        self.connected = True
        self.asked: list[tuple[str, Any]] = []
        self.hear: dict[str, Callable[[Message], None]] = {}
        self.on_reconnected: Callable[[], None] | None = None

    async def subscribe(self, subject: str, callback: Callable[[Message], None]) -> None:
        self.hear[subject] = callback

    def publish(self, subject: str, data: bytes, reply: str) -> None:
        wanted = json.loads(data)
        self.asked.append((subject, wanted))
        for name in self.servers.keys() - self.silent:
            page = self.servers[name][wanted["offset"] :][: wanted["limit"]]
            answer = {"server": {"id": name}, "data": {"server_id": name, "connections": page}}
            self.hear[f"{self.inbox}.list.*"](Message(reply, "", json.dumps(answer).encode(), False))

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        self.asked.append((subject, json.loads(data)))
        if subject.split(".")[3] in self.silent:
            raise Unavailable("nobody hears this subject now")
        return b"{}"


def over(system: System, story: Callable[[Connections], Awaitable[None]]) -> None:
    async def run() -> None:
        await story(await Connections.open(cast(Any, system), "A"))

    asyncio.run(run())


async def listed(known: Connections) -> list[Session]:
    return [session async for sessions in known.by_server() for session in sessions]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "QUIET_S", 0.01)
    monkeypatch.setattr(connections, "ANSWER_TIMEOUT_S", 0.01)
    monkeypatch.setattr(connections, "PAGE", 3)


@pytest.mark.parametrize("servers", [{"N": 0}, {"N": 2}, {"N": 3}, {"N": 7, "O": 1, "P": 4}, {"N": 3, "O": 0, "P": 9}])
def test_all_of_all_servers_are_listed(servers: dict[str, int]) -> None:
    async def story(known: Connections) -> None:
        found = await listed(known)
        assert len(found) == sum(servers.values())
        assert Counter(each.server for each in found) == Counter(servers) - Counter()
        assert len(set(found)) == len(found)

    over(System(**servers), story)


def test_of_each_server_all_are_told_at_once_for_who_is_ended_meanwhile_would_shift_its_pages() -> None:
    async def story(known: Connections) -> None:
        lists = [(sessions[0].server, len(sessions)) async for sessions in known.by_server() if sessions]
        assert sorted(lists) == [("N", 7), ("O", 1), ("P", 3)]

    over(System(N=7, O=1, P=3), story)


def test_servers_that_do_not_answer_are_said_to_and_not_taken_for_empty() -> None:
    async def story(known: Connections) -> None:
        system.silent = {"N"}
        with pytest.raises(Unavailable):
            await listed(known)
        # With the connection all answers may be gone.
        system.silent, system.connected = set(), False
        with pytest.raises(Unavailable):
            await listed(known)

    system = System(N=2)
    over(system, story)


def test_a_server_that_fails_in_the_middle_of_its_list_keeps_no_other_from_being_listed() -> None:
    async def story(known: Connections) -> None:
        publish = system.publish

        def lose(subject: str, data: bytes, reply: str) -> None:
            publish(subject, data, reply)
            system.silent = {"N"}

        cast(Any, system).publish = lose
        assert len(await listed(known)) == 3 + 5

    system = System(N=4, O=5)
    over(system, story)


def test_a_connection_is_ended_at_its_own_server() -> None:
    async def story(known: Connections) -> None:
        found = await listed(known)
        assert await known.end(found)
        kicks = {(subject, asked["cid"]) for subject, asked in system.asked if subject != notices.LIST}
        assert kicks == {("$SYS.REQ.SERVER.N.KICK", 0), ("$SYS.REQ.SERVER.O.KICK", 0), ("$SYS.REQ.SERVER.O.KICK", 1)}
        system.silent = {"O"}
        assert not await known.end(found), "one of them does not say so"

    system = System(N=1, O=2)
    over(system, story)


def test_a_user_is_known_by_its_token_and_not_by_what_its_client_says() -> None:
    client = {"id": 7, "user": "UANOTHER", "name": "host-another", "start": "2026-01-01T00:00:00.123456789+02:00"}
    signed = token(name="host-b", sub="UB", iat=5, nats={"type": "user"})
    found = told(json.dumps({"server": {"id": "N"}, "client": {**client, "jwt": signed}}).encode())
    assert (found.server, found.number, found.user, found.key, found.issued_at) == ("N", 7, "host-b", "UB", 5)
