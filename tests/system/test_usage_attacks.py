"""A host that lies about what it spent, and somebody who edits what is kept of it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest

from grants.accounts import Accounts
from motes.bus.connection import Connection, Message
from motes.bus.store import Store
from motes.bus.streams import Kept
from motes.controller.intake import BATCHES_BURST, BATCHES_PER_S
from motes.controller.proofs import Proofs
from motes.errors import BadInput, MotesError, Refused, TimedOut, TooLarge, Untrusted
from motes.grants import keys, roles
from motes.grants.receipts import read_receipt
from motes.model.host import HostReport, Lease, Offer
from motes.model.keeper import decode_answer
from motes.model.receipt import Permit, Receipt, Spent, UsagePage
from motes.model.release import Signed
from system.people import People, with_people
from system.running import DEADLINE_S, RunningCluster, wait_until

HELLO = """
    from motes import function

    @function
    def greet(name: str) -> str:
        return f"hello {name}"
"""
OFFER = Offer(cpus=2.0, memory_bytes=2**30, spaces=10)
USED = Spent(calls=1, instance_s=5.0, cpu_s=1.0, memory_byte_s=2.0**28)


class Attacked(RunningCluster):
    """A cluster with an honest host, and for each test credentials of another host `evil`, of which no agent runs."""

    evil = ""
    _count = 0

    def admit_evil(self) -> None:
        self._count += 1
        self.evil = f"evil{self._count}"
        self.make_keys(roles.host(self.evil))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with Attacked(tmp_path_factory.mktemp("usage") / "home") as made:
        made.up()
        made.deploy("hello", HELLO)
        yield made


@pytest.fixture
def cluster(running: Attacked) -> Attacked:
    running.admit_evil()
    return running


class Evil(Accounts):
    """The host that is evil in this test; it has the key of a host, and a lease for the app `hello`."""

    def __init__(self, cluster: Attacked, connection: Connection) -> None:
        super().__init__(cluster.evil, connection.credentials.secret)
        self._connection = connection
        self._keeper = keys.load_or_create(cluster.home.key("controller"))
        self._owner = keys.load_public(cluster.home.public_key("owner"))
        lease = Proofs(self._keeper).sealed(Lease(cluster.evil, "hello", "greet", "r", 3, 0, 7))
        self._permit = Permit("greet", 3, 7, lease.proof)

    def batch(self, **other: object) -> Signed:
        told = {"app": "hello", "owner": self._owner, "permit": self._permit, "spent": USED, **other}
        return super().batch(**told)

    async def join(self) -> None:
        """It lends, and takes no work."""
        report = HostReport(self.host, "b", 1, OFFER, "3.11.0", draining=True, number=time.time_ns())
        await self._connection.request(f"report.{self.host}.state", msgspec.msgpack.encode(report), DEADLINE_S)

    async def send(self, batch: Signed, timeout_s: float = DEADLINE_S) -> Receipt:
        """The receipt. Raises what the keeper refuses with."""
        return await self.send_bytes(msgspec.msgpack.encode(batch), timeout_s)

    async def send_bytes(self, data: bytes, timeout_s: float = DEADLINE_S) -> Receipt:
        answer = decode_answer(await self._connection.request(f"report.{self.host}.usage", data, timeout_s), Signed)
        return read_receipt(answer, self._keeper.public)[0]


def as_evil(cluster: Attacked, work: Callable[[Evil, People], Awaitable[None]]) -> None:
    async def run(people: People) -> None:
        evil = Evil(cluster, await people.connect(f"host-{cluster.evil}"))
        await evil.join()
        await work(evil, people)

    with_people(cluster, run)


def evils(cluster: Attacked) -> list[dict[str, Any]]:
    """What is kept of it."""
    lines = cluster.motes("usage", "--host", cluster.evil, "--format", "jsonl").splitlines()
    return [json.loads(line) for line in lines]


def numbers(cluster: Attacked) -> list[int]:
    return [each["number"] for each in evils(cluster) if each["counts"]]


def test_what_could_be_true_counts_whatever_the_hosts_clock_says(cluster: Attacked) -> None:
    async def work(evil: Evil, people: People) -> None:
        for shift_s in (0.0, 3600.0, -3600.0):
            now = time.time() + shift_s
            receipt = await evil.send(evil.batch(began_at=now - 10.0, ended_at=now))
            assert (receipt.refused, receipt.missing) == ("", "")
            assert abs(receipt.heard_at - time.time()) < DEADLINE_S

    as_evil(cluster, work)
    assert numbers(cluster) == [1, 2, 3]


def test_nobody_tells_what_another_host_spent(cluster: Attacked) -> None:
    async def work(evil: Evil, people: People) -> None:
        with pytest.raises(Untrusted, match=r"evil\d+ tells what host local spent"):
            await evil.send(evil.batch(host="local"))
        connection = await people.connect(f"host-{cluster.evil}")
        with pytest.raises((TimedOut, MotesError)):
            await connection.request("report.local.usage", msgspec.msgpack.encode(evil.batch(host="local")), 0.5)
        assert "Permissions Violation" in connection.refused

    as_evil(cluster, work)
    assert evils(cluster) == []


def test_only_the_hosts_own_key_signs_for_it(cluster: Attacked) -> None:
    async def work(evil: Evil, people: People) -> None:
        evil.key = keys.Key.generate()
        with pytest.raises(Untrusted, match="not trusted here"):
            await evil.send(evil.batch())
        evil.key = keys.Key(people.home.credentials(f"host-{cluster.evil}").secret)
        signed = evil.batch()
        for altered in (
            Signed(signed.payload[:-1] + b"\x00", signed.signature, signed.signer),
            Signed(signed.payload, bytes(64), signed.signer),
            Signed(signed.payload, b"", signed.signer),
        ):
            with pytest.raises(Untrusted, match="does not hold"):
                await evil.send(altered)

    as_evil(cluster, work)
    assert evils(cluster) == []


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"app": "bank"}, "never given a lease for app 'bank'"),
        ({"permit": Permit("greet", 3, 7, b"0123456789abcdef")}, "never given a lease"),
        ({"permit": Permit()}, "never given a lease"),
        ({"owner": b"x" * 32}, "owns no app"),
        ({"spent": Spent(cpu_s=500.0)}, "more than the host lends"),
        ({"spent": Spent(memory_byte_s=2.0**40)}, "more than the host lends"),
        ({"spent": Spent(instance_s=1e9)}, "more than the host lends"),
        ({"began_at": 2000.0, "ended_at": 1000.0}, "before it begins"),
    ],
)
def test_a_lie_is_kept_with_the_reason_and_does_not_count(
    cluster: Attacked, other: dict[str, object], why: str
) -> None:
    async def work(evil: Evil, people: People) -> None:
        assert why in (await evil.send(evil.batch(**other))).refused
        assert (await evil.send(evil.batch())).refused == ""

    as_evil(cluster, work)
    assert numbers(cluster) == [2] and len(evils(cluster)) == 2
    assert why in cluster.run("usage").stderr


def test_plausible_batches_without_end_add_up_to_no_more_than_the_host_lends(cluster: Attacked) -> None:
    async def work(evil: Evil, people: People) -> None:
        for _ in range(60):
            await evil.send(evil.batch(spent=Spent(cpu_s=20.0)))

    began = time.time()
    as_evil(cluster, work)
    told_s = sum(each["cpu_s"] for each in cluster.json("usage", "--host", cluster.evil))
    assert 0 < told_s <= OFFER.cpus * (60.0 + 2.0 * (time.time() - began))


def test_a_batch_counts_once_however_often_and_in_which_order_it_is_sent(cluster: Attacked) -> None:
    async def work(evil: Evil, people: People) -> None:
        first, second = evil.batch(), evil.batch()
        receipt = await evil.send(first)
        assert await evil.send(first) == receipt
        await evil.send(second)
        with pytest.raises(Refused) as refused:
            await evil.send(first)
        assert refused.value.detail["number"] == 2
        # Another batch under a number that was there.
        evil.number = 1
        with pytest.raises(Refused):
            await evil.send(evil.batch(spent=Spent(calls=1000)))
        evil.number, evil.before = 2, first.payload[:32]
        third = evil.batch()
        fourth = evil.batch()
        assert (await evil.send(fourth)).missing == "batches 3 to 3"
        with pytest.raises(Refused):
            await evil.send(third)

    as_evil(cluster, work)
    assert numbers_of_a_broken_chain(cluster) == [1, 2, 4]
    pid = cluster.kill("controller")
    cluster.wait_until_back("controller", pid)
    wait_until(lambda: cluster.run("apps").returncode == 0)

    async def again(evil: Evil, people: People) -> None:
        with pytest.raises(Refused) as refused:
            await evil.send(evil.batch())
        assert refused.value.detail["number"] == 4, "a later keeper knows the end of the chain"

    as_evil(cluster, again)
    assert numbers_of_a_broken_chain(cluster) == [1, 2, 4]


def numbers_of_a_broken_chain(cluster: Attacked) -> list[int]:
    done = cluster.run("usage", "--host", cluster.evil, "--format", "jsonl")
    assert done.returncode == 8 and f"batches 3 to 3 of host {cluster.evil} are missing" in done.stderr, done
    return [json.loads(line)["number"] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", Untrusted),
        (b"\xff" * 100, Untrusted),
        (msgspec.msgpack.encode(Signed(b"", b"", b"")), Untrusted),
        (msgspec.msgpack.encode((b"x", b"x", b"x", b"more")), Untrusted),
        (b"\x00" * 10**6, TooLarge),
        (b"\xdc\xff\xff" * 100, Untrusted),
    ],
)
def test_what_is_no_batch_is_refused(cluster: Attacked, data: bytes, error: type[MotesError]) -> None:
    async def work(evil: Evil, people: People) -> None:
        with pytest.raises(error):
            await evil.send_bytes(data)
        assert (await evil.send(evil.batch())).refused == ""

    as_evil(cluster, work)


@pytest.mark.parametrize("other", [{"app": "=cmd|'x'!A1"}, {"app": "\x1b[2J"}, {"boot": "\x1b[2J"}, {"app": "a" * 128}])
def test_names_that_a_terminal_or_a_spreadsheet_would_obey_are_none(cluster: Attacked, other: dict[str, str]) -> None:
    async def work(evil: Evil, people: People) -> None:
        with pytest.raises(BadInput):
            await evil.send(evil.batch(**other))

    as_evil(cluster, work)
    assert evils(cluster) == []


def test_a_receipt_goes_to_who_asked_and_to_nobody_else(cluster: Attacked) -> None:
    async def work(evil: Evil, people: People) -> None:
        heard: list[Message] = []
        other, keeper = await people.connect(f"host-{cluster.evil}"), await people.connect("keeper")
        await keeper.subscribe("_INBOX.host-local.>", heard.append)
        await keeper.subscribe("host.local.lease", heard.append)
        for reply in ("_INBOX.host-local.x", "host.local.lease", ""):
            other.publish(f"report.{cluster.evil}.usage", msgspec.msgpack.encode(evil.batch()), reply)
        await other.flush()
        evil.number, evil.before = 0, b""
        await evil.send(evil.batch())
        assert [message for message in heard if message.subject == "host.local.lease"] == []
        assert "_INBOX.host-local.x" not in {message.subject for message in heard}

    as_evil(cluster, work)
    assert numbers(cluster) == [1]


def test_a_flood_of_batches_is_cut_to_so_many_a_second_and_costs_no_other_host(cluster: Attacked) -> None:
    sent = int(BATCHES_BURST + 3 * BATCHES_PER_S)

    async def work(evil: Evil, people: People) -> None:
        batches = [msgspec.msgpack.encode(evil.batch(spent=Spent(calls=1))) for _ in range(sent)]
        flood = asyncio.gather(*(evil.send_bytes(each, 10.0) for each in batches), return_exceptions=True)
        done = await asyncio.to_thread(cluster.run, "call", "hello.greet", "Ada")
        assert done.stdout == '"hello Ada"\n'
        answers = await flood
        assert 0 < sum(isinstance(each, Receipt) for each in answers) < sent

    as_evil(cluster, work)
    wait_until(lambda: cluster.json("usage", "--host", "local", "--app", "hello"), "what the honest host says is kept")
    assert cluster.run("call", "hello.greet", "Ada").returncode == 0


def test_also_what_is_no_batch_is_read_only_so_many_times_a_second(cluster: Attacked) -> None:
    async def work(evil: Evil, people: People) -> None:
        async def send() -> bool:
            try:
                await evil.send_bytes(b"\xff", 2.0)
            except Untrusted:
                return True
            except TimedOut:
                return False
            raise AssertionError("garbage was taken")

        for _ in range(int(BATCHES_BURST)):
            if not all(await asyncio.gather(*(send() for _ in range(4)))):
                return
        raise AssertionError("all of it was answered")

    as_evil(cluster, work)
    assert cluster.run("call", "hello.greet", "Ada").returncode == 0


def test_the_owner_alone_reads_accounts(cluster: Attacked) -> None:
    async def work(evil: Evil, people: People) -> None:
        for user in (f"host-{cluster.evil}", "gateway"):
            with pytest.raises(Refused, match="for the owner"):
                await people.ask(await people.connect(user), "usage", {"since": 0.0}, dict)

    as_evil(cluster, work)


@pytest.mark.parametrize("question", [{"since": 2.0**53}, {"host": ">"}, {"host": "*.x"}, {"first": 2**62}])
def test_a_question_without_sense_finds_nothing(cluster: Attacked, question: dict[str, object]) -> None:
    async def work(evil: Evil, people: People) -> None:
        await evil.send(evil.batch())
        owner = await people.connect("local")
        assert await people.ask(owner, "usage", question, UsagePage) == UsagePage([])
        for bad in ({"since": -1.0}, {"since": float("nan")}, {"first": -1}, {"host": 7}):
            with pytest.raises(BadInput):
                await people.ask(owner, "usage", bad, UsagePage)

    as_evil(cluster, work)


# Somebody edits what is kept.


def edit(cluster: Attacked, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Write what is kept of `evil` anew."""

    async def work(people: People) -> None:
        store = await Store.open(await people.connect("keeper"))
        try:
            kept: list[Kept] = (await store.receipts(cluster.evil, 0.0, 0, 500)).messages
            await store._js.purge_stream("RECEIPTS", subject=f"receipt.{cluster.evil}")
            last = 0
            for data in change([each.data for each in kept]):
                last = await store.add_receipt(cluster.evil, data, last)
        finally:
            await store.close()

    with_people(cluster, work)


def swap(kept: list[bytes]) -> list[bytes]:
    return [kept[0], kept[2], kept[1], *kept[3:]]


def alter(kept: list[bytes]) -> list[bytes]:
    at = kept[1].index(msgspec.msgpack.encode(USED.cpu_s))
    altered = kept[1][:at] + msgspec.msgpack.encode(USED.cpu_s * 100) + kept[1][at + 9 :]
    return [kept[0], altered, *kept[2:]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (alter, "a receipt of host evil was altered"),
        (lambda kept: [kept[0], kept[1][:-1], *kept[2:]], "a receipt of host evil was altered"),
        (lambda kept: [kept[0], *kept[2:]], "batches 2 to 2 of host evil are missing"),
        (lambda kept: [*kept, kept[1]], "batch 2 of host evil is there twice"),
        (swap, "is there twice, or was altered"),
    ],
    ids=["altered", "cut short", "removed", "put in twice", "another order"],
)
def test_what_is_edited_is_pointed_out_and_counts_no_more_than_it_did(
    cluster: Attacked, change: Callable[[list[bytes]], list[bytes]], said: str
) -> None:
    async def work(evil: Evil, people: People) -> None:
        for _ in range(4):
            await evil.send(evil.batch())

    as_evil(cluster, work)
    assert cluster.motes("usage", "--host", cluster.evil) != ""
    edit(cluster, change)
    for words in ((), ("--json",), ("--format", "csv")):
        done = cluster.run("usage", "--host", cluster.evil, *words)
        assert done.returncode == 8 and said in done.stderr.replace(cluster.evil, "evil") and done.stdout, done
    (total,) = json.loads(cluster.run("usage", "--host", cluster.evil, "--json").stdout)
    assert total["calls"] <= 4 and total["cpu_s"] <= 4 * USED.cpu_s


def test_accounts_are_checked_without_a_word_from_the_keepers_other_parts(cluster: Attacked) -> None:
    """An editor who has the stream, and a key of his own, cannot sign in the keeper's stead."""

    async def work(evil: Evil, people: People) -> None:
        await evil.send(evil.batch())

    as_evil(cluster, work)
    forger = keys.Key(os.urandom(32))

    def forge(kept: list[bytes]) -> list[bytes]:
        signed = msgspec.msgpack.decode(kept[0], type=Signed)
        return [msgspec.msgpack.encode(keys.sign(forger, keys.Tag.RECEIPT, signed.payload))]

    edit(cluster, forge)
    done: subprocess.CompletedProcess[str] = cluster.run("usage", "--host", cluster.evil)
    assert done.returncode == 8 and "a key that is not trusted here" in done.stderr, done
