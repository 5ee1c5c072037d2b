"""reuse="caller" with real users of a cluster: what one left in a process, no other finds, whatever it claims to be."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from motes.bus.connection import Connection
from motes.grants import roles
from motes.model.call import Context, pack_request, unpack_reply
from motes.model.caller import digest
from motes.model.credentials import Credentials
from system.people import People, with_people
from system.running import DEADLINE_S, RunningCluster

NOTES = """
import asyncio
from motes import function

words: list[str] = []

# Only one host has so much: every call of a caller finds the same instance.
@function(reuse="caller", memory="300 GiB", idle="5 min")
def keep(word: str) -> list[str]:
    words.append(word)
    return words

@function(reuse="caller", memory="300 GiB", idle="5 min", concurrency=10)
async def meet(count: int) -> int:
    words.append("x")
    while len(words) < count:
        await asyncio.sleep(0.01)
    return len(words)

@function(calls=[keep])
def pass_on(word: str) -> list[str]:
    return keep.remote(word)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster with the app `notes`, of which the host `large` keeps, and the users ada and bob."""
    with RunningCluster(tmp_path_factory.mktemp("callers") / "home") as cluster:
        cluster.up()
        cluster.motes("host", "start", "--name", "large", "--lend", "cpus=2,memory=600GiB,spaces=20")
        cluster.deploy("notes", NOTES)
        cluster.make_keys(roles.caller("ada"), roles.caller("bob"))
        yield cluster


def over_http(cluster: RunningCluster, word: str, caller: str | None = None) -> list[str]:
    headers = {"content-type": "application/json"} | ({"motes-caller": caller} if caller else {})
    address = f"{cluster.home.cluster()['http']}/notes/keep"
    request = urllib.request.Request(address, json.dumps(word).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return list(json.load(answer))
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()) from None


async def keep(connection: Connection, word: str, subject: str = "host.large.call.notes.keep", **more: Any) -> Any:
    """What `keep` answers to a request that is made by hand."""
    request = pack_request(os.urandom(16), 5.0, json.dumps(word).encode(), Context(**more))
    end = "" if subject.startswith("relay") else f".{connection.user}"
    outcome = unpack_reply(await connection.request(subject + end, request, DEADLINE_S))
    return json.loads(outcome.body)


def test_a_caller_finds_what_it_left_and_nothing_of_anothers(cluster: RunningCluster) -> None:
    async def work(people: People) -> None:
        ada, bob = await people.program("ada"), await people.program("bob")
        for number in range(3):
            assert await ada.call("notes.keep", f"a{number}") == [f"a{each}" for each in range(number + 1)]
            assert await bob.call("notes.keep", f"b{number}") == [f"b{each}" for each in range(number + 1)]
        again = await people.program("ada")
        assert await again.call("notes.keep", "a3") == ["a0", "a1", "a2", "a3"], "it is the name that counts"

    with_people(cluster, work)


def test_keys_made_with_the_command_are_two_callers_also_by_the_services_subjects(
    cluster: RunningCluster, tmp_path: Path
) -> None:
    people_made = {}
    for name in ("carol", "dan"):
        made = cluster.json("creds", name, "--output", str(tmp_path / name))
        text = Path(made["file"]).read_text().splitlines()
        people_made[name] = Credentials(name, text[1], text[5])

    async def work(people: People) -> None:
        carol, dan = [await people.connect(name, key) for name, key in people_made.items()]
        for number in (1, 2):
            for client in (carol, dan):
                mine = await client.request(f"fn.notes.keep.{client.user}", b'"mine"', DEADLINE_S)
                assert json.loads(mine) == ["mine"] * number
                assert json.loads(await client.request("fn.notes.keep", b'"nobodys"', DEADLINE_S)) == ["nobodys"]

    with_people(cluster, work)


def test_many_calls_of_one_caller_share_a_process_where_the_function_says_so(cluster: RunningCluster) -> None:
    async def work(people: People) -> None:
        ada, bob = await people.program("ada"), await people.program("bob")
        calls = [each.call("notes.meet", 4) for each in (ada, bob) for _ in range(4)]
        assert await asyncio.gather(*calls) == [4] * 8

    with_people(cluster, work)


def test_over_http_who_sends_requests_says_whose_they_are(cluster: RunningCluster) -> None:
    assert over_http(cluster, "k1", "kim") == ["k1"]
    assert over_http(cluster, "l1", "lou") == ["l1"]
    assert over_http(cluster, "k2", "kim") == ["k1", "k2"]
    assert over_http(cluster, "n1") == ["n1"] and over_http(cluster, "n2") == ["n2"]
    assert over_http(cluster, "x", "ada") == ["x"], "a name over HTTP is no user of NATS"


def test_a_program_calls_on_behalf_of_its_own_users(cluster: RunningCluster) -> None:
    async def work(people: People) -> None:
        shop, bob = await people.program("ada"), await people.program("bob")
        kim = shop.on_behalf_of("kim")
        assert await kim.call("notes.keep", "1") == ["1"] and await kim.call("notes.keep", "2") == ["1", "2"]
        assert await shop.on_behalf_of("lou").call("notes.keep", "1") == ["1"]
        assert await bob.on_behalf_of("kim").call("notes.keep", "3") == ["3"], "another program's kim"

    with_people(cluster, work)


# Who claims to be another.


def test_who_publishes_in_anothers_name_is_refused_and_who_claims_it_is_believed_nothing(
    cluster: RunningCluster,
) -> None:
    async def work(people: People) -> None:
        ada, bob = await people.connect("ada"), await people.connect("bob")
        await keep(ada, "secret")
        for subject in ("host.large.call.notes.keep.ada", "fn.notes.keep.ada", "host.large.call.notes.keep"):
            bob.publish(subject, pack_request(os.urandom(16), 5.0, b'"spied"'), f"{bob.inbox}.call.x")
            await bob.flush()
            assert f'Publish to "{subject}"' in bob.refused
        for claim in ("ada", "http/ada", "nats/ada", digest(("ada", "")), "ada\n"):
            assert await keep(bob, "x", on_behalf=claim) == ["x"]
            assert "secret" not in await keep(bob, "x", through=(claim,))
        words = await keep(ada, "last")
        assert "secret" in words and not {"spied", "x"} & set(words)

    with_people(cluster, work)


def test_the_same_call_in_anothers_name_gets_no_share_of_the_answer(cluster: RunningCluster) -> None:
    """A host that works on a call knows its id, and could have a friend send it once more."""

    async def work(people: People) -> None:
        ada, bob = await people.connect("ada"), await people.connect("bob")
        known = pack_request(b"k" * 16, 5.0, b"100")
        adas = asyncio.ensure_future(ada.request("host.large.call.notes.meet.ada", known, DEADLINE_S))
        await ada.flush()
        bobs = unpack_reply(await bob.request("host.large.call.notes.meet.bob", known, DEADLINE_S))
        assert "of this id is under way" in bobs.error().message
        ada.publish("host.large.cancel", b"k" * 16)
        adas.cancel()
        await asyncio.gather(adas, return_exceptions=True)

    with_people(cluster, work)


def test_what_a_function_does_for_two_callers_does_not_meet(cluster: RunningCluster) -> None:
    async def work(people: People) -> None:
        ada, bob = await people.program("ada"), await people.program("bob")
        await ada.call("notes.keep", "ada herself")
        found: dict[str, set[str]] = {"ada": set(), "bob": set()}
        for number in range(6):
            for name, program in (("ada", ada), ("bob", bob)):
                words = await program.call("notes.pass_on", f"{name}{number}")
                assert {word.rstrip("0123456789") for word in words} == {name}
                found[name].update(words[:-1])
        assert found["ada"] and found["bob"], "the same caller meets what it did before"
        nobodys = {tuple(await bob.call("notes.keep", "b")) for _ in range(2)}
        assert not [words for words in nobodys if set(words) & found["bob"]], "nor does it meet that directly"

    with_people(cluster, work)


def test_a_host_that_lies_about_whose_call_it_is_reaches_nobody_elses_instance(cluster: RunningCluster) -> None:
    """It has a lease for a function that calls `keep`, as honest hosts have, and relays what it likes."""
    assert over_http(cluster, "kims", "mia") == ["kims"]

    async def work(people: People) -> None:
        ada, bob = await people.program("ada"), await people.program("bob")
        await ada.call("notes.keep", "adas")
        for number in range(4):
            await ada.call("notes.pass_on", f"adas {number}")
        assert "local" in (await ada.routes("notes")).workloads["pass_on"].hosts
        host = await people.connect("host-local")
        for claim in ("ada", "http/mia", "nats/ada", "", "host/large", digest(("ada", "")), "z" * 100):
            said = {"through": ("notes.pass_on",), "on_behalf": claim}
            assert set(await keep(host, "lied", "relay.local.call.notes.keep", **said)) == {"lied"}, claim
        assert "lied" not in await ada.call("notes.keep", "x") + await bob.call("notes.pass_on", "y")

    with_people(cluster, work)
    assert over_http(cluster, "again", "mia") == ["kims", "again"]
