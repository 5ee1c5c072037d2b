"""What each user may do, at a real nats-server, and how far; what it may not is in `tests/system/test_crossings.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from motes.bus import server
from motes.bus.connection import Connection, Message
from motes.errors import BadInput, TimedOut, Unavailable
from motes.grants import jwt, roles
from motes.grants.keys import Key, load_or_create

DEADLINE_S = 10.0
QUIET_S = 0.1
"""How long a message that must not arrive has time to arrive; the sender has flushed before."""


class People:
    """Connections of the users of one cluster, closed at the end of the test."""

    def __init__(self, running: Any, stack: AsyncExitStack) -> None:
        self.running = running
        self._stack = stack

    async def join(self, user: str) -> Connection:
        connection = await Connection.open(self.running.url, self.running.home.credentials(user))
        self._stack.push_async_callback(connection.close)
        return connection


def run(running: Any, test: Callable[[People], Awaitable[None]]) -> None:
    async def within_deadline() -> None:
        async with asyncio.timeout(DEADLINE_S), AsyncExitStack() as stack:
            await test(People(running, stack))

    asyncio.run(within_deadline())


async def is_refused(connection: Connection, what: str) -> bool:
    """Whether the server refused what was just sent, for `what`, and kept the connection."""
    await connection.flush()
    return what in connection.refused and "Permissions Violation" in connection.refused and connection.connected


def test_what_apps_print_and_hosts_report_is_heard_by_the_owner(nats_server: Any) -> None:
    async def test(people: People) -> None:
        owner = await people.join("local")
        for subject in ("report.*.event", "report.*.log.>", "report.local.log.app.f"):
            await owner.subscribe(subject, lambda message: None)
        await owner.flush()
        assert not owner.refused

    run(nats_server, test)


def test_a_call_goes_from_a_caller_to_a_host_and_back(nats_server: Any) -> None:
    async def test(people: People) -> None:
        caller, host = await people.join("local"), await people.join("host-local")
        await host.subscribe("host.local.>", lambda message: host.publish(message.reply, message.data[::-1]) and None)
        assert await caller.request("host.local.call.a.f.local", b"abc", DEADLINE_S) == b"cba"
        assert not host.refused and not caller.refused

    run(nats_server, test)


@pytest.mark.parametrize(
    "subject",
    ["$JS.API.STREAM.DELETE.KV_apps", "$KV.apps.hello", "route.hello", "host.other.lease", "gone.other", "_INBOX.x"],
)
def test_a_caller_cannot_lend_a_host_a_subject_by_asking_with_it(nats_server: Any, subject: str) -> None:
    """A host and a caller together could else delete what is deployed, or send leases and routes."""

    async def test(people: People) -> None:
        keeper, caller, host = await people.join("keeper"), await people.join("local"), await people.join("host-local")
        heard: list[Message] = []
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def answer(message: Message) -> None:
            host.publish(message.reply, b"forged")
            asked.set_result(None)

        await host.subscribe("host.local.>", answer)
        await keeper.subscribe(subject, heard.append)
        caller.publish("host.local.call.a.f.local", b"", subject)
        await asked
        assert await is_refused(host, f'Publish to "{subject}"')
        await keeper.flush()
        assert [message.data for message in heard if message.data == b"forged"] == []

    run(nats_server, test)


def test_the_inbox_of_a_call_is_not_guessed_from_the_one_before(nats_server: Any) -> None:
    async def test(people: People) -> None:
        caller, host = await people.join("local"), await people.join("host-local")
        replies: list[str] = []

        def answer(message: Message) -> None:
            replies.append(message.reply)
            host.publish(message.reply, b"")

        await host.subscribe("host.local.>", answer)
        for _ in range(3):
            await caller.request("host.local.ps", b"", DEADLINE_S)
        tokens = [int(reply.rpartition(".")[2], 16) for reply in replies]
        assert len({reply.rpartition(".")[0] for reply in replies}) == 1
        assert min(abs(one - other) for one in tokens for other in tokens if one is not other) > 2**64

    run(nats_server, test)


def test_a_host_asks_the_keeper_in_its_own_name(nats_server: Any) -> None:
    async def test(people: People) -> None:
        keeper, host = await people.join("keeper"), await people.join("host-local")
        await keeper.subscribe("keeper.*.*", lambda message: keeper.publish(message.reply, b"yes") and None)
        assert await host.request("keeper.host-local.release", b"", DEADLINE_S) == b"yes"

    run(nats_server, test)


@pytest.mark.parametrize("mine", ["fn.a.f", "fn.a.f.local"])
def test_the_gateway_answers_functions_called_by_name(nats_server: Any, mine: str) -> None:
    async def test(people: People) -> None:
        caller, gateway = await people.join("local"), await people.join("gateway-answers")
        for subject in ("fn.*.*", "fn.*.*.*"):
            await gateway.subscribe(subject, lambda message: gateway.publish(message.reply, b"yes") and None)
        assert await caller.request(mine, b"", DEADLINE_S) == b"yes"

    run(nats_server, test)


@pytest.mark.parametrize("user", ["local", "gateway", "host-local"])
@pytest.mark.parametrize("subject", ["host.local.call.a.f", "fn.a.f"])
def test_nobody_calls_in_anothers_name(nats_server: Any, user: str, subject: str) -> None:
    """An agent takes the last word of a call's subject for who sent it."""

    async def test(people: People) -> None:
        keeper, caller = await people.join("keeper"), await people.join(user)
        heard: list[Message] = []
        await keeper.subscribe(f"{subject}.>", heard.append)
        for end in ("ada", "keeper", f"ada.{user}", f"{user}.ada", "*", ">"):
            caller.publish(f"{subject}.{end}", b"", f"{caller.inbox}.call.x")
            assert await is_refused(caller, f'Publish to "{subject}.{end}"'), end
        await asyncio.sleep(QUIET_S)
        assert heard == []

    run(nats_server, test)


def test_the_keeper_sees_nothing_of_the_servers_own_account(nats_server: Any) -> None:
    async def test(people: People) -> None:
        keeper = await people.join("keeper")
        with pytest.raises((Unavailable, TimedOut)):
            await keeper.request("$SYS.REQ.SERVER.PING.VARZ", b"", 0.3)

    run(nats_server, test)


def test_credentials_of_another_cluster_are_refused(nats_server: Any) -> None:
    async def test(people: People) -> None:
        stranger = jwt.credentials(Key.generate(), roles.KEEPER)
        with pytest.raises(Unavailable, match="Authorization Violation"):
            await Connection.open(people.running.url, stranger)

    run(nats_server, test)


def test_a_user_with_nothing_to_publish_may_publish_nothing(nats_server: Any) -> None:
    async def test(people: People) -> None:
        system = await people.join("system")
        system.publish("$SYS.REQ.SERVER.PING", b"")
        assert await is_refused(system, "Publish to")

    run(nats_server, test)


@pytest.mark.parametrize("name", ["", "a.b", "*", ">", "a b", "-a", "a" * 64, "é", "a\r\nSUB > 1"])
def test_a_name_that_is_no_single_token_gets_no_role(name: str) -> None:
    for make in (roles.host, roles.caller):
        with pytest.raises(BadInput):
            make(name)


@pytest.mark.parametrize("name", ["keeper", "gateway", "gateway-answers", "gateway-streams", "system", "host-x"])
def test_nobody_is_made_a_caller_under_the_name_of_a_program(name: str) -> None:
    with pytest.raises(BadInput):
        roles.caller(name)


def test_no_host_is_named_as_the_controller_speaks() -> None:
    """It could publish `report.keeper.event`."""
    with pytest.raises(BadInput, match="controller's own name"):
        roles.host("keeper")


def test_the_server_carries_a_whole_payload_with_its_envelope(nats_server: Any) -> None:
    async def test(people: People) -> None:
        caller, host = await people.join("local"), await people.join("host-local")
        await host.subscribe("host.local.>", lambda message: host.publish(message.reply, message.data) and None)
        body = bytes(range(256)) * (server.MAX_PAYLOAD_BYTES // 256)
        assert await caller.request("host.local.call.a.f.local", body, DEADLINE_S) == body

    run(nats_server, test)


def test_a_key_made_twice_is_the_same_account(nats_server: Any) -> None:
    home = nats_server.home
    assert load_or_create(home.key("account")).public == load_or_create(home.key("account")).public


def test_a_token_of_a_role_says_so_and_no_token_of_another_does() -> None:
    account = Key.generate()
    token = jwt.credentials(account, roles.host("a")).jwt
    assert roles.host("a").is_in(token)
    narrower = roles.host("a")._replace(payload_bytes=1)
    for other in (roles.host("b"), roles.caller("a"), narrower):
        assert not other.is_in(token)
    for nonsense in ("", "a.b.c", token[:40], ".e30."):
        assert not roles.host("a").is_in(nonsense)


def test_no_role_lets_a_connection_be_a_leaf_node_which_speaks_for_others() -> None:
    programs = (roles.GATEWAY, roles.ANSWERING, roles.STREAMING)
    for role in (roles.host("a"), roles.caller("a"), roles.guest(b"1" * 32), *programs):
        assert role.claims()["allowed_connection_types"] == ["STANDARD", "WEBSOCKET"]
