"""A client on another machine follows the keeper by its controller's word, and by nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import NatsServer, running_in
from motes.bus import subjects, tls
from motes.bus.connection import Connection, Message
from motes.client.cluster import Cluster
from motes.errors import MotesError, NotFound, Unavailable
from motes.grants import jwt, roles
from motes.grants.keys import Key, Tag, load_or_create, sign
from motes.home import Home
from motes.model import succession as words
from motes.model.keeper import encode_answer, encode_error
from motes.supervisor import founding
from ports import free_port
from waiting import until

DEADLINE_S = 20.0
THERE = ("server.example:7423", "10.0.0.7:7423")


class ListeningNatsServer(NatsServer):
    """One that others reach over TLS."""

    def __init__(self, home: Home) -> None:
        founding.listen(home, "127.0.0.1", free_port())
        super().__init__(home)
        self.certificate = tls.fingerprint_of(home.tls_certificate)

    def signed(self, serial: int, tag: Tag = Tag.NOTICE, key: Key | None = None, **other: Any) -> bytes:
        """The controller's word of where the keeper is."""
        notice = words.Notice(**{"addresses": THERE, "certificate": self.certificate, "serial": serial, **other})
        key = key or load_or_create(self.home.key("controller"))
        return msgspec.msgpack.encode(sign(key, tag, msgspec.msgpack.encode(notice)))


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ListeningNatsServer]:
    yield from running_in(tmp_path_factory.mktemp("keeper"), ListeningNatsServer)  # type: ignore[misc]


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[ListeningNatsServer]:
    """The keeper of another cluster."""
    yield from running_in(tmp_path / "impostor", ListeningNatsServer)  # type: ignore[misc]


@pytest.fixture
def context(keeper: ListeningNatsServer, tmp_path: Path) -> Home:
    """What another machine knows, as `motes context add` writes it; it has followed once."""
    home = Home(tmp_path / "context")
    home.create()
    account = load_or_create(keeper.home.key("account"))
    home.save_credentials(jwt.credentials(account, roles.caller("shop")))
    home.write_json(home.client_file, {"user": "shop"})
    home.write_text(home.public_key("controller"), keeper.home.public_key("controller").read_text())
    addresses = [f"127.0.0.1:{keeper.port}"]
    home.write_json(home.keeper_file, {"addresses": addresses, "certificate": keeper.certificate.hex(), "serial": 5})
    return home


class Told:
    """The keeper, as far as it says where it is; who asks, and with which number."""

    def __init__(self, connection: Connection, answers: list[bytes]) -> None:
        self._connection, self._answers = connection, answers
        self.asked: list[int] = []

    def on_message(self, message: Message) -> None:
        self.asked.append(msgspec.msgpack.decode(message.data, type=int))
        self._connection.publish(message.reply, self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])


def run(
    keeper: ListeningNatsServer, context: Home, answers: list[bytes], test: Callable[[Cluster, Told], Awaitable[None]]
) -> None:
    """With a client that asks a keeper that answers this, the last of them again and again."""

    async def within_deadline() -> None:
        async with asyncio.timeout(DEADLINE_S):
            own = await Connection.open(keeper.url, keeper.home.credentials("keeper"))
            told = Told(own, answers)
            await own.subscribe(subjects.keeper("shop", "where"), told.on_message)
            cluster = await Cluster.open(context)
            try:
                await test(cluster, told)
            finally:
                await cluster.close()
                await own.close()

    asyncio.run(within_deadline())


def addresses_in(home: Home) -> list[str]:
    return list(json.loads(home.keeper_file.read_text())["addresses"])


async def has_handled(cluster: Cluster, told: Told, answers: int = 1) -> None:
    """Until that many answers came, and nothing is done about them any more."""
    await until(lambda: len(told.asked) == answers and not len(cluster._following))


def test_it_is_led_to_the_new_address_and_keeps_the_old_one(keeper: ListeningNatsServer, context: Home) -> None:
    old = addresses_in(context)

    async def test(cluster: Cluster, told: Told) -> None:
        await has_handled(cluster, told)
        assert told.asked == [5], "the keeper is told what is known here"
        assert addresses_in(context) == [*THERE, *old]
        assert cluster.connection.server == ",".join(f"tls://{each}" for each in (*THERE, *old))
        assert cluster.connection.connected, "it stays where it is as long as it can"
        assert context.keeper().certificate == keeper.certificate and context.followed() == 6
        assert context.keeper_file.stat().st_mode & 0o777 == 0o600
        assert not list(context.path.glob(".keeper.json*"))

    run(keeper, context, [encode_answer(keeper.signed(6))], test)


def test_another_word_than_the_controllers_newest_changes_nothing(keeper: ListeningNatsServer, context: Home) -> None:
    """Also where it comes as the keeper's own answer."""
    stranger = Key.generate()
    controller = load_or_create(keeper.home.key("controller"))
    true = msgspec.msgpack.decode(keeper.signed(9), type=words.Signed)
    lies = {
        "signed by nobody": msgspec.msgpack.encode(msgspec.structs.replace(true, signature=bytes(64))),
        "by another cluster's controller": keeper.signed(9, key=stranger),
        "by one that says to be this one": msgspec.msgpack.encode(
            msgspec.structs.replace(sign(stranger, Tag.NOTICE, true.payload), signer=controller.public)
        ),
        "altered": msgspec.msgpack.encode(msgspec.structs.replace(true, payload=true.payload.replace(b"10.", b"66."))),
        "signed as something else": keeper.signed(9, tag=Tag.LEASE),
        "with another certificate": keeper.signed(9, certificate=bytes(32)),
        "with an address that is none": keeper.signed(9, addresses=("10.0.0.7:7423,nats://evil:1",)),
        "with a user in an address": keeper.signed(9, addresses=("me@evil:1",)),
        "without TLS": keeper.signed(9, addresses=("nats://evil:4222",)),
        "an old one": keeper.signed(4),
        "the one that is known": keeper.signed(5),
        "no notice": b"garbage",
        "nothing": b"",
    }
    before = context.keeper_file.read_bytes()

    async def test(cluster: Cluster, told: Told) -> None:
        servers = cluster.connection.server
        await has_handled(cluster, told)
        assert cluster.connection.server == servers

    for what, lie in lies.items():
        run(keeper, context, [encode_answer(lie)], test)
        assert context.keeper_file.read_bytes() == before, what
    run(keeper, context, [encode_error(NotFound("an earlier version knows no such verb"))], test)
    run(keeper, context, [b"\xc1"], lambda cluster, told: until(lambda: len(told.asked) > 1))
    assert context.keeper_file.read_bytes() == before
    run(keeper, context, [encode_answer(keeper.signed(6))], has_handled)
    assert context.keeper_file.read_bytes() != before, "and the true one is believed"


def test_a_caller_tells_no_other_where_the_keeper_is(keeper: ListeningNatsServer, context: Home) -> None:
    """Neither in the keeper's place nor at the inbox of who asks, even where it has a true notice."""
    before = context.keeper_file.read_bytes()
    account = load_or_create(keeper.home.key("account"))

    async def test(cluster: Cluster, told: Told) -> None:
        mallory = await Connection.open(keeper.url, jwt.credentials(account, roles.caller("mallory")))
        for subject in ("keeper.shop.where", "keeper.*.*", "_INBOX.shop.>"):
            await mallory.subscribe(subject, lambda message: told.asked.clear())
            assert "ermissions Violation" in mallory.refused
            mallory.refused = ""
        for subject in (f"{cluster.connection.inbox}.request.x", "_INBOX.shop.keeper", "keeper.shop.where"):
            mallory.publish(subject, encode_answer(keeper.signed(9)))
            await mallory.flush()
            assert "ermissions Violation" in mallory.refused, subject
            mallory.refused = ""
        await mallory.close()
        await has_handled(cluster, told)

    run(keeper, context, [encode_answer(b"")], test)
    assert context.keeper_file.read_bytes() == before


def test_a_keeper_that_does_not_answer_yet_is_asked_again(keeper: ListeningNatsServer, context: Home) -> None:
    """As one that has just moved, whose controller has yet to start."""
    answers = [encode_error(Unavailable("about to start")), encode_answer(keeper.signed(6))]

    async def test(cluster: Cluster, told: Told) -> None:
        await has_handled(cluster, told, 2)

    run(keeper, context, answers, test)
    assert addresses_in(context)[:2] == list(THERE)


def test_it_asks_again_whenever_it_had_to_connect_again(keeper: ListeningNatsServer, context: Home) -> None:
    async def test(cluster: Cluster, told: Told) -> None:
        await has_handled(cluster, told)
        assert cluster.connection._wire is not None
        cluster.connection._wire.abort()
        await has_handled(cluster, told, 2)

    run(keeper, context, [encode_answer(b""), encode_answer(keeper.signed(6))], test)
    assert addresses_in(context)[:2] == list(THERE)


def test_where_it_cannot_be_kept_the_program_itself_follows(
    keeper: ListeningNatsServer, context: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose settings cannot be written to."""
    before = context.keeper_file.read_bytes()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)

    async def test(cluster: Cluster, told: Told) -> None:
        await has_handled(cluster, told)
        assert set(THERE) < {each.removeprefix("tls://") for each in cluster.connection.server.split(",")}
        assert cluster.connection._wire is not None
        cluster.connection._wire.abort()
        await has_handled(cluster, told, 2)
        assert set(THERE) < {each.removeprefix("tls://") for each in cluster.connection.server.split(",")}

    run(keeper, context, [encode_answer(keeper.signed(6)), encode_answer(b"")], test)
    assert context.keeper_file.read_bytes() == before


def test_on_the_keepers_own_machine_nobody_asks(keeper: ListeningNatsServer) -> None:
    async def test() -> None:
        cluster = await Cluster.open(keeper.home)
        try:
            assert len(cluster._following) == 0
        finally:
            await cluster.close()

    asyncio.run(test())


def test_each_address_is_tried_in_turn(
    keeper: ListeningNatsServer, context: Home, impostor: ListeningNatsServer
) -> None:
    """At the first nobody answers, at the second somebody else is by now."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = silent.getsockname()[1], impostor.port, keeper.port
        addresses = [f"127.0.0.1:{port}" for port in ports]
        told = {"addresses": addresses, "certificate": keeper.certificate.hex(), "serial": 5}
        context.write_json(context.keeper_file, told)
        run(keeper, context, [encode_answer(b"")], has_handled)


def test_a_home_is_led_to_no_other_certificate(context: Home) -> None:
    """Whoever writes it: an agent's word at its start, too."""
    before = context.keeper_file.read_bytes()
    with contextlib.suppress(MotesError):
        context.follow(THERE, bytes(32), 99)
    assert context.keeper_file.read_bytes() == before


def test_who_looks_in_anothers_home_leaves_it_as_it_is(
    keeper: ListeningNatsServer, context: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What root wrote there its owner could not read."""
    before, owner = context.keeper_file.read_bytes(), os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    run(keeper, context, [encode_answer(keeper.signed(6))], has_handled)
    assert context.keeper_file.read_bytes() == before
