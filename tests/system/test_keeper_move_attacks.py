"""Who would have the keys: strangers, other hosts, and a keeper that is none."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from motes.bus import subjects, tls
from motes.bus.connection import Connection
from motes.bus.frames import Frames
from motes.errors import MotesError, Refused
from motes.grants.keys import Key, Tag, load_or_create, sign
from motes.home import Home
from motes.model import succession as words
from motes.model.wire import WIRE
from motes.moving.luggage import pack
from motes.supervisor import forward, founding, succession
from system.moving import APP, Machine, has_secrets, machines
from system.people import People, with_people
from system.running import DEADLINE_S, wait_until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Machine]]:
    """The keeper on a laptop, and two hosts; no test here moves it."""
    with machines(tmp_path_factory.mktemp("cluster"), "laptop", "server", "thief") as made:
        yield made


def run(attack: Coroutine[Any, Any, None]) -> None:
    async def within_deadline() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await attack
        # TLS says goodbye.
        await asyncio.sleep(0.1)

    asyncio.run(within_deadline())


def signed_line(by: Machine, user: str, **fields: Any) -> str:
    """A line as `motes keeper accept` prints it, with the key of `user` on that machine."""
    key = Key(by.home.credentials(user).secret)
    return words.line(sign(key, Tag.WILLING, msgspec.msgpack.encode(words.Willing(**fields))))


@contextlib.contextmanager
def a_trap() -> Iterator[tuple[str, list[bytes]]]:
    """Who waits for keys at an address, and what came there."""
    came: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        yield f"127.0.0.1:{listener.getsockname()[1]}", came
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            came.append(connection.recv(1024))


def test_a_host_gets_no_keys_in_the_name_of_another(cluster: list[Machine]) -> None:
    """The owner pastes a line that somebody has changed on the way."""
    laptop, server, thief = cluster
    with a_trap() as (address, came):
        fields = {"addresses": (address,), "certificate": bytes(32), "session": bytes(16)}
        own = signed_line(thief, "host-thief", host="thief", **fields)
        forged = signed_line(thief, "host-thief", host="server", **fields)
        assert "not trusted here" in laptop.refusal(8, "keeper", "move", "server", forged)
        assert "not trusted here" in laptop.refusal(8, "keeper", "move", "server", own)
        true = msgspec.msgpack.decode(msgspec.msgpack.encode(words.parse_line(forged)), type=words.Signed)
        replaced = msgspec.structs.replace(true, signer=Key(server.home.credentials("host-server").secret).public)
        assert "does not hold" in laptop.refusal(8, "keeper", "move", "server", words.line(replaced))
        named = signed_line(server, "host-server", host="thief", **fields)
        assert "the line is that of host 'thief'" in laptop.refusal(8, "keeper", "move", "server", named)
    assert came == []


def test_without_its_owners_consent_no_machine_becomes_the_keeper(cluster: list[Machine]) -> None:
    laptop, server, _ = cluster
    line = server.accept()
    server.stop_waiting()
    assert "nobody waits" in laptop.refusal(8, "keeper", "move", "server", line)
    # Nor by a line of an earlier time, whoever kept it.
    server.accept()
    told = laptop.refusal(8, "keeper", "move", "server", line)
    assert "paste the one that it shows now" in told
    server.stop_waiting()
    assert "is missing" in laptop.refusal(3, "keeper", "move", "server")
    assert "it begins with" in laptop.refusal(3, "keeper", "move", "server", "motes1-abc")
    assert "no host 'nobody' has joined" in laptop.refusal(4, "keeper", "move", "nobody", line)
    assert "is on this machine" in laptop.refusal(3, "keeper", "move", "local", line)
    assert "joined the cluster" in server.refusal(3, "keeper", "move", "thief", line)
    assert "a machine joins first" in laptop.refusal(3, "keeper", "accept")
    assert not has_secrets(server) and laptop.is_keeper


async def greeted(machine: Machine) -> Frames:
    """A stranger's connection to a machine that waits."""
    reader, writer, greeting = await forward.open_at(machine.address)
    assert greeting == words.GREETING
    await forward.secure(writer, tls.fingerprint_of(machine.home.accept_certificate))
    return Frames(reader, writer, DEADLINE_S)


def order(key: Key, machine: Machine, line: str, do: str = "take", **other: Any) -> str:
    willing = msgspec.msgpack.decode(words.parse_line(line).payload, type=words.Willing)
    fields = {"host": willing.host, "certificate": willing.certificate, "session": willing.session}
    made = words.Order(do=do, **{"attempt": bytes(16), "wire": WIRE, **fields, **other})
    return msgspec.msgpack.encode(sign(key, Tag.ORDER, msgspec.msgpack.encode(made))).hex()


def test_nobody_but_its_keeper_makes_a_machine_the_keeper(cluster: list[Machine], tmp_path: Path) -> None:
    """Strangers at the address where a machine waits: each is refused, and the true one comes through after them."""
    laptop, server, thief = cluster
    line = server.accept()
    true = load_or_create(laptop.home.key("controller"))
    strange = Key(thief.home.credentials("host-thief").secret)
    orders = {
        "not trusted": order(strange, server, line),
        "another machine": order(true, server, line, host="thief"),
        "for another machine": order(true, server, line, certificate=bytes(32)),
        "it shows now": order(true, server, line, session=bytes(16)),
        "another version": order(true, server, line, wire=WIRE + 1),
        "no order": "00",
        "of a order": msgspec.msgpack.encode(sign(true, Tag.NOTICE, b"\x80")).hex(),
    }

    async def attack() -> None:
        for reason, made in orders.items():
            frames = await greeted(server)
            await frames.say(order=made)
            told = str((await frames.hear())["error"])
            assert reason.replace("of a order", "signature") in told, (reason, told)
            frames.close()
        # What is committed must have been prepared, by the same attempt.
        frames = await greeted(server)
        await frames.say(do="commit", order=order(true, server, line, "commit"))
        assert await frames.hear() == {"error": "unknown"}
        frames.close()
        # And what cannot be read ends that connection only.
        frames = await greeted(server)
        frames.writer.write(b"\xff\xff\xff\xff" + b"x" * 100)
        with pytest.raises(MotesError):
            await frames.hear()
        frames.close()
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"no TLS at all\r\n\r\n" * 100)
        await asyncio.sleep(0.1)
        writer.close()

    run(attack())
    assert not has_secrets(server) and server.waiting is not None and server.waiting.poll() is None
    foreign = Home(tmp_path / "foreign")
    founding.found(foreign)
    founding.listen(foreign, "127.0.0.1", 7423)

    async def bring_anothers_keys() -> None:
        """As a controller that was taken over would, to have a host obey other keys."""
        frames = await greeted(server)
        await frames.ask(order=order(true, server, line))
        await frames.say(luggage=msgspec.to_builtins(pack(foreign)))
        assert "another cluster's" in str((await frames.hear())["error"])
        frames.close()
        frames = await greeted(server)
        await frames.ask(order=order(true, server, line))
        await frames.say(luggage={**msgspec.to_builtins(pack(laptop.home)), "../../evil": "x", "operator": 1})
        assert "no keeper's" in str((await frames.hear())["error"])
        frames.close()
        # Nor may they come behind the true ones.
        frames = await greeted(server)
        await frames.ask(order=order(true, server, line))
        await frames.ask(luggage=msgspec.to_builtins(pack(laptop.home)))
        await frames.say(do="prepare", luggage=msgspec.to_builtins(pack(foreign)))
        assert "another cluster's" in str((await frames.hear())["error"])
        frames.close()
        assert not succession.arrival(server.home)

    run(bring_anothers_keys())

    async def break_off() -> None:
        """The true keys, and then nothing more."""
        frames = await greeted(server)
        await frames.ask(order=order(true, server, line))
        await frames.ask(luggage=msgspec.to_builtins(pack(laptop.home)))
        assert has_secrets(server)
        frames.close()

    run(break_off())
    server.stop_waiting()
    assert not has_secrets(server), "keys that came for nothing are left"
    assert laptop.is_keeper and laptop.is_up("server")


def test_who_stands_between_the_two_machines_reads_no_key(cluster: list[Machine]) -> None:
    """An address of the line leads to somebody else, who speaks as if he waited himself."""
    laptop, server, _ = cluster
    line = server.accept()
    heard = bytearray()

    async def attack() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        key, certificate = tls.make_certificate("motes")
        folder = server.folder.parent
        (folder / "k").write_text(key)
        (folder / "c").write_text(certificate)
        context.load_cert_chain(folder / "c", folder / "k")

        async def spy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(words.GREETING)
            with contextlib.suppress(OSError):
                await writer.start_tls(context)
                heard.extend(await reader.read(65536))
            writer.close()

        listening = await asyncio.start_server(spy, "127.0.0.1", 0)
        address = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        willing = msgspec.msgpack.decode(words.parse_line(line).payload, type=words.Willing)
        fields = {name: getattr(willing, name) for name in ("host", "certificate", "session")}
        altered = signed_line(server, "host-server", addresses=(address,), **fields)
        done = await asyncio.to_thread(laptop.move, "server", altered)
        assert done.returncode == 8 and "certificate" in done.stderr, done
        listening.close()

    run(attack())
    server.stop_waiting()
    assert bytes(heard) == b""
    assert laptop.is_keeper


def test_only_the_owner_says_who_is_to_be_the_keeper(cluster: list[Machine]) -> None:
    laptop, _, thief = cluster

    async def attack() -> None:
        keeper = thief.home.keeper()
        user = thief.home.credentials("host-thief")
        connection = await Connection.open(keeper.servers, user, certificate=keeper.certificate)
        question = words.AskSuccessor("thief", {"local": bytes(32)})
        people = People(laptop, contextlib.AsyncExitStack())
        with pytest.raises(Refused, match="for the owner"):
            await people.ask(connection, "successor", question, words.Successor)
        await connection.close()

    run(attack())


def test_nobody_but_the_controllers_key_leads_a_host_to_another_keeper(cluster: list[Machine]) -> None:
    laptop, server, thief = cluster
    laptop.deploy("work", APP)
    certificate = tls.fingerprint_of(laptop.home.tls_certificate)
    with a_trap() as (address, came):
        notice = msgspec.msgpack.encode(words.Notice((address,), certificate, 2**30))
        forged = sign(Key(thief.home.credentials("host-thief").secret), Tag.NOTICE, notice)
        lease = sign(load_or_create(laptop.home.key("controller")), Tag.LEASE, notice)

        async def attack(people: People) -> None:
            local = await people.connect("local")
            local.publish(subjects.notice("server"), b"x")
            await local.flush()
            assert "ermissions Violation" in local.refused
            keeper = await people.connect("keeper")
            for each in (msgspec.msgpack.encode(forged), msgspec.msgpack.encode(lease), b"garbage"):
                # Even who may publish there: what counts is the signature.
                with pytest.raises(MotesError):
                    await keeper.request(subjects.notice("server"), each, 0.3)

        with_people(laptop, attack)
        agent = server.pid("agent-server")
        keeper = laptop.pid("nats-server")
        laptop.kill("nats-server")
        laptop.wait_until_back("nats-server", keeper)
        wait_until(lambda: laptop.is_up("server"), "it found the true one")
        assert server.pid("agent-server") == agent
    assert came == []
    assert not (server.home.host("server") / "keeper.notice").exists()
