"""A machine's owner decides when it lends, by real commands on real hosts; callers notice no more than they must."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from motes import connect
from motes.agent.owner import PRETENDED
from motes.bus.connection import Connection
from motes.errors import MotesError
from motes.space import cgroup
from motes.supervised import ORDERS_FD_VARIABLE
from motes.supervisor import control
from system.running import DEADLINE_S, MOTES, Keeper, RunningCluster, family, is_alive, wait_until

APP = """
    import json, os, time
    from motes import function

    @function(idempotent=True)
    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @function(timeout="60 s")
    def once(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @function
    def shout(words: str) -> int:
        reached = 0
        for descriptor in range(256):
            try:
                os.write(descriptor, words.encode())
                reached += 1
            except OSError:
                pass
        return reached
"""
AWAY, HERE = {"idle_s": 9_999.0}, {"idle_s": 0.0}


class Taking(NamedTuple):
    """How an owner's machine is his again: by these terms, when these signs come after those that let it lend."""

    terms: str
    lent: dict[str, Any]
    taken: dict[str, Any]
    why: str


OWNER = Taking("when=idle", AWAY, HERE, "its owner is here")
CHARGER = Taking("when=charging", {"charging": True}, {"charging": False}, "it is not on its charger")
MEMORY = Taking("when=always", {}, {"free_bytes": 1}, "the machine is short of memory")
HOURS = Taking("hours=mon/00-01", {"minute": 59}, {"minute": 60}, "these are not its hours")
FREE_WITHIN_S = 8.0
"""Five seconds are promised; a busy machine that runs tests may take longer to notice."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Keeper]:
    """Two hosts, `local` and `b`."""
    with Keeper(tmp_path / "home") as made:
        made.up()
        made.motes("host", "start", "--name", "b")
        made.deploy("work", APP)
        yield made
        made.motes("resume")


def pretend(cluster: RunningCluster, host: str, signs: dict[str, Any]) -> str:
    """The host's machine shows these signs from now on; returns why it lends nothing then."""
    offers = cluster.home.offers()
    cluster.home.write_json(cluster.home.hosts_file, {**offers, host: {**offers[host], PRETENDED: signs}})
    return str(control.ask(cluster.home, "lend", DEADLINE_S, name=host)["away"])


def state(cluster: RunningCluster, host: str) -> dict[str, Any]:
    return next(each for each in cluster.json("host", "ls") if each["name"] == host)


def guests(cluster: RunningCluster, host: str) -> list[int]:
    """Every process below the host's agent."""
    return family(cluster.pid(f"agent-{host}"))[1:]


def wait_until_gone(cluster: RunningCluster, before: list[int]) -> None:
    """Nothing of what `b` ran is left, nor of what it runs."""
    wait_until(lambda: not any(map(is_alive, [*before, *guests(cluster, "b")])), "nothing is left of it")


def wait_until_all_have(cluster: RunningCluster, count: int) -> None:
    """Until the agent and all that it has started may use so many processors."""

    def found() -> set[int]:
        everybody = family(cluster.pid("agent-local"))
        with contextlib.suppress(ProcessLookupError):
            return {len(os.sched_getaffinity(pid)) for pid in everybody}
        return set()

    wait_until(lambda: found() == {count}, f"{count} processors for each")


@contextlib.asynccontextmanager
async def load(cluster: RunningCluster, seconds: float, at_once: int) -> AsyncIterator[list[float]]:
    """Calls of `nap`, one after the other by each of so many callers; none may fail. Gives how long each took."""
    took: list[float] = []
    stop = asyncio.Event()

    async def caller() -> None:
        while not stop.is_set():
            began = time.monotonic()
            assert await client.call("work.nap", seconds, timeout_s=DEADLINE_S) == seconds
            took.append(time.monotonic() - began)

    async with connect(cluster.folder) as client, asyncio.TaskGroup() as callers:
        for _ in range(at_once):
            callers.create_task(caller())
        try:
            yield took
        finally:
            stop.set()


@pytest.mark.parametrize(
    ("taking", "seconds", "times"),
    [(OWNER, 0.05, 2), (OWNER, 12.0, 2), (CHARGER, 0.05, 1), (MEMORY, 0.05, 1), (HOURS, 0.05, 1)],
    ids=["owner", "owner-slow", "charger", "memory", "hours"],
)
def test_an_owner_has_his_machine_back_at_once_and_no_idempotent_call_fails(
    cluster: RunningCluster, taking: Taking, seconds: float, times: int
) -> None:
    # What this machine shows itself does not count from here on.
    pretend(cluster, "b", taking.lent)
    cluster.motes("lend", "--host", "b", taking.terms)

    def come_and_go() -> None:
        wait_until(lambda: len(guests(cluster, "b")) > 2 and cluster.instances("nap"), "b works")
        for _ in range(times):
            began, before = time.monotonic(), guests(cluster, "b")
            assert pretend(cluster, "b", taking.taken) == taking.why
            wait_until_gone(cluster, before)
            assert time.monotonic() - began < FREE_WITHIN_S
            found = state(cluster, "b")
            assert (found["state"], found["away"]) == ("away", taking.why)
            wait_until(lambda: state(cluster, "b")["spaces"] == 0, "the cluster knows")
            pretend(cluster, "b", taking.lent)
            wait_until(lambda: state(cluster, "b")["state"] == "up", "it lends again by itself")
            wait_until(lambda: {"b"} & {each["host"] for each in cluster.instances("nap")}, "it works again")

    async def meanwhile() -> None:
        async with load(cluster, seconds, at_once=8) as took:
            await asyncio.to_thread(come_and_go)
        assert took

    asyncio.run(meanwhile())
    told = [(each["what"], each["reason"]) for each in cluster.json("events") if each["host"] == "b"]
    assert ("host.away", "withdrawn") in told and ("host.up", "back") in told


def test_a_call_that_may_run_only_once_is_told_that_its_host_was_taken_back(cluster: RunningCluster) -> None:
    cluster.motes("host", "stop", "--name", "local")
    cluster.motes("lend", "--host", "b", "when=idle")
    pretend(cluster, "b", AWAY)
    call = cluster.start("call", "work.once", "50")
    wait_until(lambda: any(each["state"] == "busy" for each in cluster.instances("once")))
    pretend(cluster, "b", HERE)
    error = call.communicate(timeout=DEADLINE_S)[1]
    assert call.returncode == 7 and "the owner of host 'b' wants the machine" in error
    # Where nobody lends, nothing is even looked at, and it is said why.
    file = cluster.folder.parent / "other.py"
    file.write_text("from motes import function\n\n@function\ndef f() -> int:\n    return 1\n")
    assert "no host" in cluster.refusal(8, "deploy", str(file))
    assert not guests(cluster, "b")


def test_what_a_running_host_lends_is_changed_at_once_and_for_good(cluster: RunningCluster) -> None:
    cluster.motes("host", "stop", "--name", "b")
    agent = cluster.pid("agent-local")
    calls = [
        subprocess.Popen([MOTES, "call", "work.nap", "20"], env=cluster.environment, stdout=subprocess.DEVNULL)
        for _ in range(3)
    ]
    wait_until(lambda: len([each for each in cluster.instances() if each["state"] == "busy"]) == 3)
    told = cluster.json("lend", "spaces=1", "memory=300MiB,disk=1GiB", "labels=attic")
    assert told["lends"] | {"spaces": 1, "memory_bytes": 300 * 2**20, "labels": ["attic"]} == told["lends"]
    assert (told["running"], told["away"], told["host"]) == (True, "", "local")
    wait_until(lambda: len(cluster.instances()) == 1, "it gets under what it lends")
    wait_until(lambda: state(cluster, "local")["lends"]["spaces"] == 1, "the cluster knows")
    assert state(cluster, "local")["lends"]["disk_bytes"] == 2**30
    assert cluster.pid("agent-local") == agent, "without a restart"
    for call in calls:
        call.kill()
        call.wait()
    cluster.down()
    cluster.up()
    assert state(cluster, "local")["lends"]["labels"] == ["attic"]
    if cgroup.holding(cluster.pid("agent-local")) is None:
        # No cgroup keeps it to what is lent: each process has its processors.
        for count in (1, min(2, len(os.sched_getaffinity(0)))):
            cluster.motes("lend", f"cpus={count}")
            cluster.motes("call", "work.nap", "0.01")
            wait_until_all_have(cluster, count)
    said = cluster.motes("lend", "spaces=default", "labels=default")
    assert "spaces=100" in said and "attic" not in said and "now: it lends" in said.splitlines()
    assert "is not understood" in cluster.refusal(3, "lend", "hours=99")
    assert "nothing that is lent" in cluster.refusal(3, "lend", "hats=default")


def test_hours_that_are_over_hold_over_restarts_and_a_pause_beyond_them(cluster: RunningCluster) -> None:
    hour = time.localtime().tm_hour
    others = f"hours={(hour + 4) % 24}-{(hour + 8) % 24}"
    assert "several hosts" in cluster.refusal(3, "lend", others)
    assert "no host 'c'" in cluster.refusal(4, "lend", "--host", "c")
    cluster.motes("host", "stop", "--name", "b")
    assert "these are not its hours" in cluster.motes("lend", others)
    wait_until(lambda: state(cluster, "local")["away"] == "these are not its hours")
    cluster.down()
    assert "does not run" in cluster.motes("lend")
    cluster.up()
    assert state(cluster, "local")["state"] == "away"
    cluster.motes("pause")
    assert "paused" in cluster.motes("lend", "hours=always")
    assert cluster.json("host", "ls") == [], "a pause ends only with resume"
    cluster.motes("resume")
    assert state(cluster, "local")["state"] == "up"
    assert cluster.motes("call", "work.nap", "0.01") == "0.01\n"


def test_a_machine_that_has_joined_says_itself_when_it_lends(cluster: Keeper) -> None:
    with RunningCluster(cluster.folder.parent / "other") as other:
        cluster.down()
        cluster.listen()
        invite = cluster.invite()
        other.motes("join", invite, "--name", "other", "--lend", "spaces=5,when=idle")
        assert other.json("lend")["lends"]["when"] == "idle"
        pretend(other, "other", HERE)
        wait_until(lambda: state(cluster, "other")["state"] == "away")
        cluster.down()
        told = other.json("lend", "when=always")
        assert told["running"] and told["lends"]["when"] == ""


def opened(pid: int) -> dict[int, str]:
    """What the process has open, by descriptor, in the kernel's words."""
    found = {}
    with contextlib.suppress(OSError):
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found[int(each.name)] = os.readlink(each)
    return found


def test_neither_a_guest_nor_a_caller_makes_a_host_lend(cluster: RunningCluster) -> None:
    cluster.motes("host", "stop", "--name", "local")
    words = json.dumps({**cluster.home.offers()["b"], "when": "", "hours": "", "spaces": 9_999, PRETENDED: AWAY})
    cluster.motes("lend", "--host", "b", "when=idle", "serve=work+other")
    pretend(cluster, "b", AWAY)
    # A guest says it on all that it has open.
    cluster.run("call", "work.shout", json.dumps(words), "--timeout", "10")
    cluster.motes("call", "work.nap", "0.01")
    lends = state(cluster, "b")["lends"]
    assert (lends["spaces"], lends["serve"]) == (100, ["other", "work"])
    # Nothing that the agent has started holds what the owner speaks on.
    agent = cluster.pid("agent-b")
    environment = Path(f"/proc/{agent}/environ").read_text().split("\0")
    descriptor = next(each for each in environment if each.startswith(ORDERS_FD_VARIABLE)).partition("=")[2]
    orders = opened(agent)[int(descriptor)]
    below = [opened(pid) for pid in guests(cluster, "b")]
    assert orders.startswith("socket:") and any(below) and not any(orders in each.values() for each in below)
    assert pretend(cluster, "b", HERE) == "its owner is here"
    wait_until(lambda: not guests(cluster, "b"))

    async def say_everything() -> None:
        user = cluster.home.credentials("local")
        connection = await Connection.open(cluster.home.nats_url(), user)
        try:
            for verb in ("lend", "return", "order", "lease", "call", "call.work.nap", "call.work.nap.local", "inspect"):
                connection.publish(f"host.b.{verb}", words.encode(), f"_INBOX.{user.user}.x")
            with contextlib.suppress(MotesError):
                await connection.request("keeper.local.lend", words.encode(), 1.0)
        finally:
            await connection.close()

    asyncio.run(say_everything())
    assert "no host" in cluster.refusal(8, "call", "work.nap", "0.01", "--timeout", "3")
    assert state(cluster, "b")["state"] == "away" and not guests(cluster, "b")
