"""A host and a caller who have credentials of the cluster and mean it harm. Everybody else is served as before."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from motes.bus.connection import Connection
from motes.errors import BadInput, MotesError
from motes.grants import keys, roles
from motes.model.call import pack_request
from motes.model.keeper import AskLogs, AskRoutes, Inspect, LogLine, decode_answer
from motes.model.release import Manifest
from motes.model.routes import Routes
from system.people import People, with_people
from system.running import DEADLINE_S, RunningCluster, wait_until

NOT_TEXT = b"\xff\xfe"

HELLO = """
    import time
    from motes import function

    @function
    def greet(name: str) -> str:
        print("greeting", name, flush=True)
        return f"hello {name}"

    @function(scale=(0, 1))
    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster with the app `hello`, one honest host, and credentials for the host `evil`, of which no agent runs."""
    with RunningCluster(tmp_path_factory.mktemp("hostile") / "home") as cluster:
        cluster.up()
        cluster.deploy("hello", HELLO)
        cluster.make_keys(roles.host("evil"), roles.caller("guest"))
        yield cluster


def send_raw(connection: Connection, subject: bytes, reply: bytes, data: bytes) -> None:
    """As a client does that checks nothing."""
    assert connection._wire is not None
    connection._wire.send(b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(data), data))


def is_whole(cluster: RunningCluster) -> bool:
    """Whether calls, hosts, events and logs are there as if nothing had been."""
    assert json.loads(cluster.motes("call", "hello.greet", "Ada")) == "hello Ada"
    assert "hello" in {each["app"] for each in cluster.json("apps")}
    assert cluster.json("events") != []
    wait_until(lambda: cluster.json("logs", "hello"), "what it printed is kept")
    return cluster.hosts()["local"] == "up"


def log_of(cluster: RunningCluster, process: str) -> str:
    return cluster.home.log(process).read_text(errors="replace")


# A caller.


def test_a_reply_subject_that_is_no_text_disconnects_nobody(cluster: RunningCluster) -> None:
    async def work(people: People) -> None:
        caller = await people.connect("local")
        for subject in (b"host.local.ps", b"keeper.local.apps", b"host.local.call.hello.greet.local"):
            send_raw(caller, subject, b"_INBOX.local." + NOT_TEXT, pack_request(os.urandom(16), 1.0, b'"x"'))
        await caller.flush()

    with_people(cluster, work)
    assert is_whole(cluster)
    for process in ("agent-local", "controller"):
        assert "cannot be read" not in log_of(cluster, process)


def test_an_answer_that_cannot_be_sent_stops_neither_the_next_call_nor_the_heartbeat(cluster: RunningCluster) -> None:
    async def work(people: People) -> None:
        caller = await people.connect("local")
        for reply in ("\u2028", "\x0b", "\u00a0"):
            inbox = f"{caller.inbox}.a{reply}b".encode()
            # One ends at its time's end while it runs, the others while they wait.
            send_raw(caller, b"host.local.call.hello.nap.local", inbox, pack_request(os.urandom(16), 0.4, b"1.0"))
        # The last in the queue, and its time ends after theirs: when it is answered, they were.
        last = pack_request(os.urandom(16), 0.5, b"0.9")
        with contextlib.suppress(MotesError):
            await caller.request("host.local.call.hello.nap.local", last, DEADLINE_S)

    with_people(cluster, work)
    assert is_whole(cluster)
    assert json.loads(cluster.motes("call", "hello.nap", "0")) == 0
    assert "is no subject" not in log_of(cluster, "agent-local")


@pytest.mark.parametrize("bundle", ["..", "../..", "/", "/etc", "0" * 63 + "/", "", "0" * 64 + "/../.."])
def test_a_bundle_is_named_by_its_hash_and_never_by_a_path(cluster: RunningCluster, bundle: str) -> None:
    """A path would show a folder of the host, as its agent may read it, to code of the asker's choice."""

    async def work(people: People) -> None:
        keeper, owner = await people.connect("keeper"), await people.connect("local")
        question = Inspect("spy", bundle, command=("sh", "-c", "ls /app; exit 1"))
        key = keys.load_or_create(cluster.home.key("owner"))
        signed = keys.sign(key, keys.Tag.INSPECTION, msgspec.msgpack.encode(question))
        with pytest.raises(BadInput, match="no bundle's hash"):
            await people.ask(owner, "inspect", signed, Manifest)
        # Nor does the agent take it from the controller.
        answer = await keeper.request("host.local.inspect", msgspec.msgpack.encode(signed), DEADLINE_S)
        with pytest.raises(MotesError, match="no bundle's hash"):
            decode_answer(answer, Manifest)

    with_people(cluster, work)


def test_a_question_for_logs_cannot_become_another_one(cluster: RunningCluster) -> None:
    async def work(people: People) -> None:
        owner = await people.connect("local")
        for workload in ('x","seq":1,"last_by_subj":"report.>', ">", "*", "a b", ""):
            with pytest.raises(BadInput, match="names no workload"):
                await people.ask(owner, "logs", AskLogs("hello", workload), list[LogLine])

    with_people(cluster, work)


# A host.


def test_garbage_and_forged_reports_are_shown_to_nobody(cluster: RunningCluster) -> None:
    event = {"at": 1, "what": "start.failed", "reason": "forged", "host": "local", "app": "hello"}
    line = {"at": 1, "host": "local", "app": "hello", "workload": "greet", "pid": 1, "text": "forged\n"}
    reports = {
        "report.evil.event": [
            event,
            {**event, "host": "evil", "pid": 10**30},
            {**event, "host": "evil", "at": 1e300},
            {**event, "host": "evil", "what": "app.removed"},
        ],
        "report.evil.log.hello.greet": [line, {**line, "host": "evil", "workload": "nap"}],
    }

    async def work(people: People) -> None:
        host = await people.connect("host-evil")
        for subject, told in reports.items():
            for data in (b"garbage", NOT_TEXT, b"[]", *map(msgspec.json.encode, told)):
                host.publish(subject, data)
        # The last one is honest, so that what came before has been heard when it shows.
        host.publish("report.evil.event", msgspec.json.encode({**event, "host": "evil", "reason": "honest"}))
        await host.flush()

    with_people(cluster, work)
    wait_until(lambda: "honest" in {each["reason"] for each in cluster.json("events")}, "the honest event shows")
    assert "forged" not in {each["reason"] for each in cluster.json("events")}
    assert "forged" not in cluster.motes("logs", "hello")
    assert is_whole(cluster)


@pytest.mark.parametrize(
    "absurd",
    [
        {"offer": {"cpus": float("nan"), "memory_bytes": 2**30, "spaces": 10}},
        {"offer": {"cpus": 1.0, "memory_bytes": 2**64 - 1, "spaces": 2**64 - 1}},
        {"offer": {"cpus": 1.0, "memory_bytes": 0, "spaces": 0}},
        {"spaces_used": -(2**62), "memory_bytes": -1},
        {"held": {"hello.greet": [1, "r", 2**64 - 1, 2**64 - 1]}},
        {"held": {"hello.greet": [2**64 - 1, "r", 1]}},
        {"held": {"hello.greet": [1, "r", 1, 0, 0, 0, float("-inf")]}},
        {"held": {"hello.greet": ["1", "r", 1]}},
        {"held": {f"a{number}.f": [1, "r", 1] for number in range(60_000)}},
        {"running": {"hello.greet": [-1, 2**64 - 1]}},
        {"running": {f"a{number}.f": [1] for number in range(60_000)}},
        {"running": {"hello.greet": list(range(1, 100_000))}},
        {"host": "local"},
        {"host": ["evil"]},
    ],
    ids=range(14),
)
def test_an_absurd_report_harms_only_who_sent_it(cluster: RunningCluster, absurd: dict[str, Any]) -> None:
    honest = {
        "host": "evil",
        "boot": "1",
        "pid": 1,
        "offer": {"cpus": 1.0, "memory_bytes": 1, "spaces": 1},
        "python": "3.11",
    }

    async def work(people: People) -> None:
        host = await people.connect("host-evil")
        for number, report in enumerate((honest, {**honest, **absurd}), start=1):
            host.publish("report.evil.state", msgspec.msgpack.encode({**report, "number": number}))
        load = {f"a{number}.f": [2**63, -1, 10**9] for number in range(20_000)}
        for beat in (
            ["evil", "1", 1, load],
            ["evil", "1", 2**64 - 1, {"hello.greet": [-(2**62), 0, 2**62]}],
            ["local"],
        ):
            host.publish("beat.evil", msgspec.msgpack.encode(beat))
        await host.flush()
        started = time.monotonic()
        owner = await people.connect("local")
        await people.ask(owner, "routes", AskRoutes("hello"), Routes)
        assert time.monotonic() - started < 10

    with_people(cluster, work)
    assert is_whole(cluster)
    assert "a turn of the controller failed" not in log_of(cluster, "controller")
