"""In a NATS that its user runs, the same users have the same rights, and who was removed counts for nothing.

That NATS goes on letting in a key that was removed, until its operator says otherwise: what it says is passed over.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from motes.bus import subjects
from motes.bus.connection import Connection, Message
from motes.errors import MotesError, NotFound, Refused, Unavailable
from motes.grants import jwt, roles
from motes.grants.issuing import issuer_of
from motes.grants.keys import Key, SigningKey, read_public_nkey
from motes.model import invite as invites
from motes.model.call import pack_request
from motes.model.credentials import Credentials
from motes.model.host import Beat
from motes.model.instance import Event
from motes.model.keeper import GetChunk
from system.crossings import report_of
from system.own_nats import APP, Account, Lodger, OwnNats
from system.people import People, left_behind, new_key, with_people
from system.running import DEADLINE_S, Away, RunningCluster


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnNats]:
    with OwnNats(tmp_path_factory.mktemp("nats"), Account("MOTES")) as made:
        yield made


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory, nats: OwnNats) -> Iterator[Lodger]:
    with Lodger(tmp_path_factory.mktemp("keeper") / "home") as cluster:
        cluster.live_in(nats)
        cluster.deploy("app", APP)
        yield cluster


async def is_heard(people: People, attacker: Credentials, subject: str, said: str, by: str = "keeper") -> bool:
    """Whether a connection with those credentials hears on `subject` what `by` says on `said`."""
    heard: list[Message] = []
    listener, speaker = await people.connect(attacker.user, attacker), await people.connect(by)
    await listener.subscribe(subject, heard.append)
    speaker.publish(said, b"")
    await speaker.flush()
    await listener.flush()
    return bool(heard)


def test_a_host_hears_no_other_and_speaks_in_no_others_name(
    nats: OwnNats, keeper: Lodger, machine: RunningCluster
) -> None:
    machine.join(keeper, "b")
    own = machine.home.credentials("host-b")
    issuer = issuer_of(keeper.home)
    role = roles.host("b")
    spying = ("host.>", "host.local.>", "host.*.lease", ">", "_INBOX.>", "beat.*", "keeper.*.*")
    wide = jwt.credentials(issuer, role._replace(subscribe=(*role.subscribe, *spying)))
    talking = ("beat.local", "host.local.lease", "gone.local", "$JS.API.STREAM.NAMES", "$SYS.REQ.ACCOUNT.PING.CONNZ")
    loud = jwt.credentials(issuer, role._replace(publish=(*role.publish, *talking)))

    async def work(people: People) -> None:
        for subject in spying:
            said = subject.replace("*", "local").replace(">", "local.lease")
            assert not await is_heard(people, own, subject, said), subject
            # It is the role that keeps it from that, and not that nothing is said there.
            assert await is_heard(people, wide, subject, said), subject
        for subject in talking:
            for user, is_refused in ((own, True), (loud, False)):
                speaker = await people.connect(user.user, user)
                speaker.publish(subject, b"", "_INBOX.host-b.x")
                await speaker.flush()
                assert ("Permissions Violation" in speaker.refused) == is_refused, subject

    with_people(keeper, work)
    keeper.motes("host", "rm", "b")


def test_nobody_comes_in_by_a_key_that_the_account_does_not_list(
    nats: OwnNats, keeper: Lodger, machine: RunningCluster
) -> None:
    line = invites.parse(str(keeper.json("invite")["invite"]))
    for forged in (
        line._replace(expires_at=line.expires_at + 3600),
        line._replace(secret=Key.generate().secret),
        line._replace(issuer=Key.generate().public),
        line._replace(account=Key.generate().public),
    ):
        assert "does not take this invite" in machine.refusal(3, "join", forged.line(), "--name", "x")
    stranger = jwt.credentials(SigningKey(Key.generate().secret, nats.accounts[0].key.public), roles.KEEPER)

    async def work(people: People) -> None:
        with pytest.raises(Unavailable, match="Authorization Violation"):
            await people.connect("keeper", stranger)

    with_people(keeper, work)


def test_what_a_removed_host_says_counts_for_nothing_although_nats_lets_it_in(
    nats: OwnNats, keeper: Lodger, machine: RunningCluster
) -> None:
    user = left_behind(keeper, machine, "gone")

    async def speak(people: People, connection: Connection, boot: str) -> None:
        report = msgspec.msgpack.encode(report_of("gone", boot))
        connection.publish("report.gone.state", report, f"{connection.inbox}.x.request.y")
        connection.publish("beat.gone", msgspec.msgpack.encode(Beat("gone", boot, 1)))
        event = Event(0.0, "instance.end", "lies", "gone", "app", "double", "", 1, f"lie {boot}")
        connection.publish("report.gone.event", msgspec.json.encode(event))
        await connection.flush()

    async def listed(people: People) -> bool:
        owner = await people.program("local")
        return "gone" in {host.name for host in await owner.hosts()}

    async def work(people: People) -> None:
        connection = await people.connect(user.user, user)
        # Before, the very same is believed.
        await speak(people, connection, "f" * 16)
        assert await listed(people) and "lie f" in await people.motes("events", "--json")
        line = await people.motes("host", "rm", "gone")
        assert "its connections are not ended" in line and "nsc revocations add-user --account" in line
        for again in (connection, await people.connect(user.user, user)):
            await speak(people, again, "e" * 16)
            assert not await listed(people)
            assert "lie e" not in await people.motes("events", "--json")
            with pytest.raises(NotFound, match="was removed from this cluster"):
                await people.ask(again, "bundle-get", GetChunk("0" * 64, 0), Any)
        # Its operator ends that, with the words that were said.
        revoked = line.partition("--user-public-key ")[2].split()[0]
        nats.accounts[0].revoked[read_public_nkey(revoked)] = 2**31
        await asyncio.to_thread(nats.push, nats.accounts[0])
        with pytest.raises(Unavailable):
            while True:
                await connection.flush()
                await asyncio.sleep(0.05)
        with pytest.raises(MotesError, match="Authorization Violation"):
            await people.connect(user.user, user)

    with_people(keeper, work)
    assert keeper.hosts() == {"local": "up"}


def test_who_reports_without_end_is_not_told_each_time_who_was_withdrawn(
    nats: OwnNats, keeper: Lodger, machine: RunningCluster, tmp_path: Path
) -> None:
    """The list is signed and may be long: a host's reports would have the keeper send it as often as it likes."""
    keeper.motes("creds", "mail", "--output", str(tmp_path / "mail.creds"))
    keeper.motes("creds", "rm", "mail")
    user = left_behind(keeper, machine, "loud")
    reports, heard = 5_000, list[Message]()

    async def work(people: People) -> None:
        listener, loud = await people.connect("keeper"), await people.connect(user.user, user)
        await listener.subscribe(subjects.shut("loud"), heard.append)
        await listener.flush()
        for number in range(reports):
            # Nor is it told each time when it says that it has just started.
            report = report_of("loud", f"{number:016x}", number)
            loud.publish(subjects.state("loud"), msgspec.msgpack.encode(report))
        with pytest.raises(Refused, match="given nothing"):
            await people.ask(loud, "bundle-get", GetChunk("0" * 64, 0), Any)
        await listener.flush()

    with_people(keeper, work)
    assert 0 < len(heard) < reports / 2
    keeper.motes("host", "rm", "loud")


def test_a_callers_key_is_no_hosts_and_its_name_is_no_others_when_it_is_withdrawn(
    nats: OwnNats, keeper: Lodger, away: Away, tmp_path: Path
) -> None:
    file = tmp_path / "shop.creds"
    shop = new_key(keeper, "shop", file)
    away.motes("context", "add", "work", "--creds", str(file))
    assert away.json("--context", "work", "call", "app.double", "4") == 8
    assert "for the owner" in away.refusal(3, "--context", "work", "host", "ls")

    async def answers(people: People) -> list[str]:
        """What a NATS client with that key gets, by each way that it may try; it has none without its name."""
        found = []
        client = await people.connect("shop", shop)
        for subject, body in (
            ("fn.app.double.shop", b"4"),
            ("host.local.call.app.double.shop", pack_request(os.urandom(16), 5.0, b"4")),
            ("keeper.shop.services", b"\xc0"),
        ):
            found.append((await client.request(subject, body, DEADLINE_S)).decode(errors="replace"))
        client.publish("fn.app.double", b"4", f"{client.inbox}.x")
        await client.flush()
        assert "Permissions Violation" in client.refused
        return found

    async def before(people: People) -> None:
        said = await answers(people)
        assert said[0] == "8" and not [each for each in said if "withdrawn" in each]

    async def afterwards(people: People) -> None:
        said = await answers(people)
        assert all("withdrawn" in each for each in said), said

    with_people(keeper, before)
    told = keeper.json("creds", "rm", "shop")
    assert told["ended"] is False
    assert told["revoke"][0].startswith("nsc revocations add-user --account A")
    assert "goes on letting them in" in keeper.refusal(3, "creds", "shop", "--output", str(tmp_path / "again.creds"))
    nats.accounts[0].revoked[read_public_nkey(told["revoke"][0].split()[-1])] = 2**31
    assert told["revoke"][1].startswith("nsc push --account A")
    # NATS knows nothing of it yet; nobody serves it all the same, nor does who was not there when it was said.
    with_people(keeper, afterwards)
    assert "withdrawn" in away.refusal(3, "--context", "work", "call", "app.double", "4")
    keeper.down()
    keeper.up()
    with_people(keeper, afterwards)
    nats.push(nats.accounts[0])

    async def attempt(people: People) -> None:
        with pytest.raises(Unavailable, match="Authorization Violation"):
            await people.connect("shop", shop)

    with_people(keeper, attempt)
    assert away.run("--context", "work", "call", "app.double", "4").returncode != 0
