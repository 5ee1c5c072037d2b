from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from conftest import NatsServer, WebNatsServer, running_in
from motes.bus import connection, server
from motes.bus.connection import Connection, Message
from motes.bus.notices import Session, disconnects, told
from motes.errors import TimedOut, TooLarge, Unavailable
from motes.grants import jwt, roles
from motes.grants.keys import Key, Nkey, load_or_create
from waiting import until

DEADLINE_S = 20.0

Join = Callable[..., Awaitable[Connection]]


TRANSPORTS = {"tcp": NatsServer, "websocket": WebNatsServer}


@pytest.fixture(scope="module", params=TRANSPORTS)
def nats_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Every test here is one over TCP and one over WebSocket."""
    yield from running_in(tmp_path_factory.mktemp("cluster"), TRANSPORTS[request.param])


@pytest.fixture(params=TRANSPORTS)
def own_nats_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NatsServer]:
    yield from running_in(tmp_path, TRANSPORTS[request.param])


def run(running: Any, test: Callable[[Join], Awaitable[None]]) -> None:
    async def within_deadline() -> None:
        async with asyncio.timeout(DEADLINE_S), AsyncExitStack() as stack:

            async def join(user: str, **hooks: Any) -> Connection:
                user_ = running.home.credentials(user)
                connection = await Connection.open(running.url, user_, certificate=running.certificate, **hooks)
                stack.push_async_callback(connection.close)
                return connection

            await test(join)

    asyncio.run(within_deadline())


def test_a_thousand_messages_arrive_in_order(nats_server: Any) -> None:
    async def test(join: Join) -> None:
        keeper = await join("keeper")
        heard: list[bytes] = []
        await keeper.subscribe("order.*", lambda message: heard.append(message.data))
        for number in range(1000):
            assert keeper.publish(f"order.{number % 7}", b"%d" % number)
        await keeper.flush()
        assert heard == [b"%d" % number for number in range(1000)]

    run(nats_server, test)


def test_many_requests_at_once_each_get_their_own_answer(nats_server: Any) -> None:
    async def test(join: Join) -> None:
        keeper, caller = await join("keeper"), await join("local")
        await keeper.subscribe("keeper.*.*", lambda message: keeper.publish(message.reply, message.data * 2) and None)
        asked = [caller.request("keeper.local.x", b"%d;" % number, DEADLINE_S) for number in range(200)]
        assert await asyncio.gather(*asked) == [b"%d;" % number * 2 for number in range(200)]

    run(nats_server, test)


def test_a_request_that_nobody_hears_fails_at_once(nats_server: Any) -> None:
    async def test(join: Join) -> None:
        caller = await join("local")
        with pytest.raises(Unavailable, match="nobody"):
            await caller.request("keeper.local.x", b"", DEADLINE_S)

    run(nats_server, test)


def test_a_request_that_nobody_answers_times_out(nats_server: Any) -> None:
    async def test(join: Join) -> None:
        keeper, caller = await join("keeper"), await join("local")
        await keeper.subscribe("keeper.*.*", lambda message: None)
        with pytest.raises(TimedOut) as caught:
            await caller.request("keeper.local.x", b"", 0.05)
        assert caught.value.detail == {"timeout_s": 0.05}

    run(nats_server, test)


def test_who_has_unsubscribed_hears_no_more(nats_server: Any) -> None:
    async def test(join: Join) -> None:
        keeper = await join("keeper")
        heard: list[Message] = []
        subscription = await keeper.subscribe("gone.a", heard.append)
        subscription.unsubscribe()
        subscription.unsubscribe()
        keeper.publish("gone.a", b"")
        await keeper.flush()
        assert heard == []

    run(nats_server, test)


def test_a_message_over_the_limit_is_an_error_and_not_the_end_of_the_connection(nats_server: Any) -> None:
    async def test(join: Join) -> None:
        keeper = await join("keeper")
        with pytest.raises(TooLarge) as caught:
            keeper.publish("gone.a", b"x" * (server.MAX_PAYLOAD_BYTES + 1))
        assert caught.value.detail == {"limit_bytes": server.MAX_PAYLOAD_BYTES}
        await keeper.flush()

    run(nats_server, test)


def test_a_connection_comes_back_after_the_server_was_killed(own_nats_server: Any) -> None:
    async def test(join: Join) -> None:
        happened: list[str] = []
        keeper = await join(
            "keeper",
            on_disconnected=lambda: happened.append("disconnected"),
            on_reconnected=lambda: happened.append("reconnected"),
        )
        caller = await join("local")
        await keeper.subscribe("keeper.*.*", lambda message: keeper.publish(message.reply, b"yes") and None)
        own_nats_server.stop(signal.SIGKILL)
        await until(lambda: not keeper.connected and not caller.connected)
        assert not keeper.publish("gone.a", b"")
        with pytest.raises(Unavailable):
            await caller.request("keeper.local.x", b"", 1)
        own_nats_server.start()
        await until(lambda: keeper.connected and caller.connected)
        assert await caller.request("keeper.local.x", b"", DEADLINE_S) == b"yes"
        assert happened == ["disconnected", "reconnected"] and keeper.count == caller.count == 2

    run(own_nats_server, test)


def test_what_was_published_while_disconnected_is_gone_and_not_late(own_nats_server: Any) -> None:
    async def test(join: Join) -> None:
        keeper = await join("keeper")
        heard: list[Message] = []
        await keeper.subscribe("gone.a", heard.append)
        own_nats_server.stop(signal.SIGKILL)
        await until(lambda: not keeper.connected)
        assert not keeper.publish("gone.a", b"late")
        own_nats_server.start()
        await until(lambda: keeper.connected)
        keeper.publish("gone.a", b"in time")
        await keeper.flush()
        assert [message.data for message in heard] == [b"in time"]

    run(own_nats_server, test)


def test_a_subscription_made_while_disconnected_holds_afterwards(own_nats_server: Any) -> None:
    async def test(join: Join) -> None:
        keeper = await join("keeper")
        own_nats_server.stop(signal.SIGKILL)
        await until(lambda: not keeper.connected)
        heard: list[Message] = []
        await keeper.subscribe("gone.a", heard.append)
        own_nats_server.start()
        await until(lambda: keeper.connected)
        keeper.publish("gone.a", b"x")
        await keeper.flush()
        assert len(heard) == 1

    run(own_nats_server, test)


def test_a_request_under_way_fails_when_the_server_dies(own_nats_server: Any) -> None:
    async def test(join: Join) -> None:
        keeper, caller = await join("keeper"), await join("local")
        await keeper.subscribe("keeper.*.*", lambda message: None)
        asked = asyncio.create_task(caller.request("keeper.local.x", b"", DEADLINE_S))
        await caller.flush()
        own_nats_server.stop(signal.SIGKILL)
        with pytest.raises(Unavailable, match="lost"):
            await asked

    run(own_nats_server, test)


def test_a_frozen_server_counts_as_lost(own_nats_server: Any) -> None:
    async def test(join: Join) -> None:
        keeper = await join("keeper")
        own_nats_server.signal(signal.SIGSTOP)
        await until(lambda: not keeper.connected)
        own_nats_server.signal(signal.SIGCONT)
        await until(lambda: keeper.connected)
        await keeper.flush()

    run(own_nats_server, test)


def test_a_server_that_has_much_to_send_before_its_answer_to_a_ping_is_not_lost(
    nats_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PING_INTERVAL_S", 0.05)
    drips = 0

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal drips
        writer.write(b'INFO {"max_payload":1048576}\r\n')
        for _ in range(3):
            while b"PING" not in (line := await reader.readline()):
                if not line:
                    return
            writer.write(b"PONG\r\n")
        while drips < 40:
            drips += 1
            writer.write(b"+OK\r\n")
            await asyncio.sleep(0.02)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await drip(reader, writer)
            await reader.read()
        writer.transport.abort()

    async def test(join: Join) -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            user, losses = nats_server.home.credentials("local"), list[int]()
            busy = await Connection.open(f"nats://127.0.0.1:{port}", user, on_disconnected=lambda: losses.append(drips))
            await until(lambda: losses)
            assert losses[0] == 40, "it was taken for lost while something came"
            await busy.close()
            await asyncio.sleep(0.05)

    run(nats_server, test)


def test_no_server_is_one_clear_error(own_nats_server: Any) -> None:
    own_nats_server.stop()

    async def test(join: Join) -> None:
        with pytest.raises(Unavailable, match=f"no connection to NATS at {own_nats_server.url} as 'keeper'"):
            await join("keeper")

    run(own_nats_server, test)


def test_a_server_that_is_none_is_one_clear_error(own_nats_server: Any) -> None:
    async def test(join: Join) -> None:
        async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 smtp\r\n")
            await reader.read()
            writer.close()

        other = await asyncio.start_server(babble, "127.0.0.1", 0)
        async with other:
            url = f"nats://127.0.0.1:{other.sockets[0].getsockname()[1]}"
            with pytest.raises(Unavailable):
                await Connection.open(url, own_nats_server.home.credentials("keeper"))

    run(own_nats_server, test)


def test_the_server_tells_whose_connection_ended_whatever_it_called_itself(nats_server: Any) -> None:
    async def test(join: Join) -> None:
        system, host = await join("system"), await join("host-other")
        ended: asyncio.Queue[Session] = asyncio.Queue()
        await system.subscribe(ends(nats_server), lambda message: ended.put_nowait(told(message.data)))
        await host.close()
        while (session := await ended.get()).user != "host-other":
            pass
        assert (session.server, session.number) == (host.server_id, host.number) and host.server_id

    run(nats_server, test)


def test_who_is_not_let_in_ends_nobodys_connection_whatever_name_it_gives_itself(nats_server: Any) -> None:
    """Else anybody who reaches the port could have the controller take a host for lost, without a key."""

    async def test(join: Join) -> None:
        system, other = await join("system"), await join("gateway")
        ended: list[str] = []
        last: asyncio.Queue[str] = asyncio.Queue()

        def note(message: Message) -> None:
            ended.append(told(message.data).user)
            last.put_nowait(ended[-1])

        await system.subscribe(ends(nats_server), note)
        stranger = jwt.credentials(Key.generate(), roles.host("other"))
        with pytest.raises(Unavailable, match="Authorization Violation"):
            await Connection.open(nats_server.url, stranger, certificate=nats_server.certificate)
        await other.close()
        while await last.get() != "gateway":
            pass
        assert "host-other" not in ended

    run(nats_server, test)


def ends(running: Any) -> str:
    """Where the server tells of ended connections of the cluster's own account."""
    return disconnects(load_or_create(running.home.key("account")).nkey(Nkey.ACCOUNT))


@pytest.mark.parametrize(
    "notice", [b"", b"{}", b'{"client":{}}', b'{"client":{"jwt":"x"}}', b'{"client":{"jwt":"a.b.c"}}', b"[]"]
)
def test_a_notice_of_another_shape_names_nobody(notice: bytes) -> None:
    assert told(notice).user == ""


def test_closing_twice_and_while_disconnected_is_fine(own_nats_server: Any) -> None:
    async def test(join: Join) -> None:
        keeper = await join("keeper")
        own_nats_server.stop(signal.SIGKILL)
        await until(lambda: not keeper.connected)
        await keeper.close()
        await keeper.close()
        assert not keeper.publish("gone.a", b"")

    run(own_nats_server, test)


GREETING = b'INFO {"max_payload":1048576,"nonce":"abc"}\r\n'
INJECTED = b"MSG host.b.call 1 5\r\nhello\r\n"


@pytest.mark.parametrize(
    "said",
    [
        [GREETING + INJECTED],
        [GREETING, INJECTED],
        [GREETING[:9], GREETING[9:] + INJECTED[:25], INJECTED[25:]],
        [INJECTED, GREETING],
        [b"MSG host.b.call 1 -2\r\n", GREETING],
        [GREETING + b"MSG host.b.call 1 4\r\n"],
    ],
)
def test_nothing_is_heard_before_tls_when_a_connection_comes_back(nats_server: Any, said: list[bytes]) -> None:
    """Whoever is on the way can cut a connection, and speak first when the next one is made."""
    heard: list[Message] = []

    async def test(url: str) -> None:
        user = nats_server.home.credentials("local")
        returning = Connection(url, user, None, None, certificate=bytes(32))
        returning._handlers[b"1"] = heard.append
        with pytest.raises(Unavailable):
            await returning._connect()

    on_the_way(said, test)
    assert heard == []


@pytest.mark.parametrize("greeting", [b"{}", b"[]", b"1", b'{"max_payload":"much"}', b'{"max_payload":[]}', b"no"])
def test_what_greets_as_no_nats_server_does_is_not_there(nats_server: Any, greeting: bytes) -> None:
    async def test(url: str) -> None:
        with pytest.raises(Unavailable):
            await Connection.open(url, nats_server.home.credentials("local"))

    on_the_way([b"INFO " + greeting + b"\r\n"], test)


@pytest.mark.parametrize(
    "address", ["", "here", "here:", ":", "127.0.0.1:99999", "127.0.0.1:-1", "a" * 300 + ":1", "[::1"]
)
def test_what_is_no_address_is_not_there(nats_server: Any, address: str) -> None:
    async def test() -> None:
        with pytest.raises(Unavailable):
            await Connection.open(f"tls://{address}", nats_server.home.credentials("local"), certificate=bytes(32))

    asyncio.run(asyncio.wait_for(test(), DEADLINE_S))


def on_the_way(said: list[bytes], test: Callable[[str], Awaitable[None]]) -> None:
    """Run `test` with the address of somebody who says this to whoever connects."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                for part in said:
                    writer.write(part)
                    await asyncio.sleep(0.05)
                await reader.read(65536)
        finally:
            writer.close()

    async def within_deadline() -> None:
        speaker = await asyncio.start_server(speak, "127.0.0.1", 0)
        async with asyncio.timeout(DEADLINE_S), speaker:
            await test(f"nats://127.0.0.1:{speaker.sockets[0].getsockname()[1]}")

    asyncio.run(within_deadline())
