"""Processes of the cluster killed, stopped and frozen, at rest and under load; nothing accepted is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from motes.client.cluster import Cluster
from motes.errors import Exited, HostLost, MotesError, Overloaded
from system.running import DEADLINE_S, RunningCluster, is_alive, wait_until

WORK = """
    import os, time
    from motes import function

    @function(idempotent=True, idle="60 s")
    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @function(idle="60 s")
    def once(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @function(scale=(0, 1), idempotent=True)
    def one(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @function(idempotent=True)
    def version() -> int:
        return 1
"""

LARGE = """
    from motes import function

    @function(scale=(0, 3))
    def text(size: int) -> str:
        return "x" * size
"""

MAP_ALL = """
import os, signal, sys
from motes import remote

agent = int(sys.argv[1])
inputs = [0.01 + number / 1e6 for number in range(1_000)]
results = []
for result in remote("work.nap").map(inputs):
    results.append(result)
    if len(results) == 100:
        os.kill(agent, signal.SIGKILL)
assert results == inputs, [pair for pair in zip(results, inputs, strict=True) if pair[0] != pair[1]]
print("all, in order")
"""
MAP_UNTIL_LOST = """
from motes import remote
from motes.errors import HostLost

results = remote("work.once").map([0.0] * 10 + [20.0] + [0.0] * 10, in_flight=1)
try:
    for result in results:
        print(result, flush=True)
except HostLost as lost:
    print(lost.detail["index"], *lost.__notes__)
print("after it:", list(results))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """Three hosts and the app `work`."""
    with RunningCluster(tmp_path_factory.mktemp("trouble") / "home") as cluster:
        cluster.up()
        for name in ("b", "c"):
            cluster.motes("host", "start", "--name", name)
        cluster.deploy("work", WORK)
        yield cluster


@contextlib.asynccontextmanager
async def connected(cluster: RunningCluster) -> AsyncIterator[Cluster]:
    client = await Cluster.open(cluster.home)
    try:
        yield client
    finally:
        await client.close()


async def busy_host(client: Cluster, workload: str) -> str:
    """A host that has a call of the workload in flight."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        for instance in await client.instances():
            if instance.workload == workload and instance.state == "busy":
                return instance.host
        await asyncio.sleep(0.01)
    raise AssertionError(f"no instance of {workload} is busy")


def under_load(cluster: RunningCluster, process: str, number: signal.Signals) -> list[object]:
    """The outcomes of a stream of idempotent calls in the middle of which `process` gets a signal."""

    async def work() -> list[object]:
        async with connected(cluster) as client:
            calls = [asyncio.create_task(client.call("work.nap", 0.05)) for _ in range(20)]
            await asyncio.gather(*calls)
            for index in range(200):
                if index == 40:
                    cluster.kill(process, number)
                calls.append(asyncio.create_task(client.call("work.nap", 0.05)))
                await asyncio.sleep(0.01)
            return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(work())


def answers(cluster: RunningCluster) -> bool:
    return cluster.run("call", "work.nap", "0.01", "--timeout", "5").returncode == 0


def are_up(cluster: RunningCluster) -> bool:
    """Whether every host can be killed and missed."""
    return cluster.hosts() == dict.fromkeys(("local", "b", "c"), "up")


def test_a_call_whose_host_is_killed_is_answered_by_another(cluster: RunningCluster) -> None:
    async def work() -> float:
        async with connected(cluster) as client:
            call = asyncio.create_task(client.call("work.nap", 2.0))
            host = await busy_host(client, "nap")
            pid = cluster.kill(f"agent-{host}")
            result = await call
            assert not is_alive(pid)
            return float(result)

    assert asyncio.run(work()) == 2.0


def test_a_call_that_may_not_run_twice_ends_with_host_lost(cluster: RunningCluster) -> None:
    async def work() -> None:
        async with connected(cluster) as client:
            call = asyncio.create_task(client.call("work.once", 5.0))
            host = await busy_host(client, "once")
            cluster.kill(f"agent-{host}")
            with pytest.raises(HostLost, match="whether it ran is unknown"):
                await call

    asyncio.run(work())


def test_a_map_over_a_function_that_may_run_twice_loses_nothing_with_a_host(cluster: RunningCluster) -> None:
    wait_until(lambda: are_up(cluster))
    command = [sys.executable, "-W", "error", "-c", MAP_ALL, str(cluster.pid("agent-b"))]
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.stdout == "all, in order\n", done.stderr


def test_a_map_over_a_function_that_may_not_ends_at_the_input_whose_host_is_lost(cluster: RunningCluster) -> None:
    def busy() -> list[str]:
        return [each["host"] for each in cluster.instances("once") if each["state"] == "busy"]

    wait_until(lambda: are_up(cluster))
    command = [sys.executable, "-W", "error", "-c", MAP_UNTIL_LOST]
    with subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert [next(program.stdout) for _ in range(10)] == ["0.0\n"] * 10
        wait_until(busy)
        cluster.kill(f"agent-{busy()[0]}")
        assert list(program.stdout) == ["10 this was input 10\n", "after it: []\n"]


def test_a_call_whose_process_is_killed_runs_once_more_where_that_is_harmless(cluster: RunningCluster) -> None:
    async def test() -> None:
        async with connected(cluster) as client:
            for name, harmless in (("nap", True), ("once", False)):
                call = asyncio.create_task(client.call(f"work.{name}", 4.0))
                busy: list[int] = []
                while not busy:
                    await asyncio.sleep(0.01)
                    hosts = [each for each in (await client.look()).values() if each is not None]
                    busy = [
                        each.pid
                        for host in hosts
                        for each in host.instances
                        if each.workload == name and each.state == "busy"
                    ]
                os.kill(busy[0], signal.SIGKILL)
                if harmless:
                    assert await call == 4.0
                else:
                    with pytest.raises(Exited):
                        await call

    asyncio.run(asyncio.wait_for(test(), DEADLINE_S))


def test_many_large_results_at_a_time_all_arrive(cluster: RunningCluster) -> None:
    cluster.deploy("large", LARGE)

    async def test() -> None:
        async with connected(cluster) as client:
            for _ in range(2):
                results = await asyncio.gather(*(client.call("large.text", 7 * 2**20) for _ in range(40)))
                assert [len(result) for result in results] == [7 * 2**20] * 40

    asyncio.run(asyncio.wait_for(test(), DEADLINE_S))
    cluster.motes("rm", "large")


def test_the_spaces_of_a_killed_agent_end_with_it(cluster: RunningCluster) -> None:
    async def work() -> tuple[str, list[int]]:
        async with connected(cluster) as client:
            call = asyncio.create_task(client.call("work.nap", 1.0))
            host = await busy_host(client, "nap")
            pids = [each.pid for each in await client.instances() if each.host == host]
            cluster.kill(f"agent-{host}")
            await call
            return host, pids

    host, pids = asyncio.run(work())
    assert pids
    wait_until(lambda: not any(map(is_alive, pids)), f"the instances of {host} are gone")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("process", ["agent-b", "controller", "gateway", "nats-server"])
def test_no_idempotent_call_fails_when_a_process_ends_under_load(
    cluster: RunningCluster, process: str, number: signal.Signals
) -> None:
    wait_until(lambda: cluster.pid(process))
    failed = [outcome for outcome in under_load(cluster, process, number) if outcome != 0.05]
    assert failed == []
    wait_until(lambda: answers(cluster))


@pytest.mark.parametrize("process", ["agent-c", "controller", "gateway", "nats-server"])
def test_a_process_killed_at_rest_comes_back(cluster: RunningCluster, process: str) -> None:
    cluster.wait_until_back(process, cluster.kill(process))
    wait_until(lambda: answers(cluster))
    assert {each["app"] for each in cluster.json("apps")} == {"work"}


def test_a_frozen_hosts_calls_are_answered_by_others(cluster: RunningCluster) -> None:
    async def work() -> None:
        async with connected(cluster) as client:
            call = asyncio.create_task(client.call("work.nap", 1.0))
            host = await busy_host(client, "nap")
            pid = cluster.kill(f"agent-{host}", signal.SIGSTOP)
            try:
                assert await call == 1.0
                assert await asyncio.gather(*(client.call("work.nap", 0.01) for _ in range(20))) == [0.01] * 20
            finally:
                os.kill(pid, signal.SIGCONT)

    asyncio.run(work())
    wait_until(lambda: are_up(cluster))


def test_overload_is_refused_and_passes(cluster: RunningCluster) -> None:
    async def work() -> tuple[list[object], float]:
        async with connected(cluster) as client:
            await client.call("work.one", 0.0)
            calls = (client.call("work.one", 0.01, timeout_s=20.0) for _ in range(6_000))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            return outcomes, float(await client.call("work.one", 0.02))

    outcomes, after = asyncio.run(work())
    refused = [each for each in outcomes if isinstance(each, Overloaded)]
    assert refused and refused[0].detail["retry_after_s"] == 1
    assert all(each == 0.01 or isinstance(each, MotesError) for each in outcomes)
    assert after == 0.02


def test_a_new_release_takes_over_under_load_with_no_failed_call(cluster: RunningCluster) -> None:
    async def work() -> tuple[list[int], list[int]]:
        async with connected(cluster) as client:
            during: list[int] = []
            stop = asyncio.Event()

            async def call_on_and_on() -> None:
                while not stop.is_set():
                    during.append(await client.call("work.version"))

            callers = [asyncio.create_task(call_on_and_on()) for _ in range(4)]
            source = WORK.replace("return 1", "return 2")
            await asyncio.to_thread(cluster.deploy, "work", source)
            after = await asyncio.gather(*(client.call("work.version") for _ in range(1_000)))
            stop.set()
            await asyncio.gather(*callers)
            return during, after

    during, after = asyncio.run(work())
    assert set(during) == {1, 2} and during[0] == 1
    assert set(after) == {2}, "a call after the deploy found the old release"


def test_a_host_that_fails_every_start_does_not_attract_the_calls(cluster: RunningCluster, tmp_path: Path) -> None:
    cluster.deploy("fresh", "from motes import function\n\n@function\ndef one() -> int:\n    return 1\n")
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)

    async def work() -> list[object]:
        async with connected(cluster) as client:
            calls = (client.call("fresh.one") for _ in range(200))
            return await asyncio.gather(*calls, return_exceptions=True)

    with cluster.foreign_host("bad", {"BWRAP": str(broken)}):
        assert asyncio.run(work()) == [1] * 200
    cluster.motes("rm", "fresh")


def test_killing_the_supervisor_leaves_nothing_and_up_resumes_what_was_deployed(cluster: RunningCluster) -> None:
    assert answers(cluster)
    supervisor = cluster.home.cluster()["pid"]
    names = ("nats-server", "controller", "gateway", "agent-local", "agent-b", "agent-c")
    pids = [cluster.pid(name) for name in names] + [each["pid"] for each in cluster.instances()]
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, pids)), "every process of the cluster is gone")
    cluster.up()
    wait_until(lambda: answers(cluster))
    assert {each["name"] for each in cluster.json("host", "ls")} >= {"local", "b", "c"}


def test_calls_under_way_when_the_supervisor_is_killed_are_answered_after_up(cluster: RunningCluster) -> None:
    async def work() -> list[object]:
        async with connected(cluster) as client:
            calls = [asyncio.create_task(client.call("work.nap", 0.05)) for _ in range(20)]
            await asyncio.gather(*calls)
            calls += [asyncio.create_task(client.call("work.nap", 0.5, timeout_s=DEADLINE_S)) for _ in range(20)]
            await busy_host(client, "nap")
            os.kill(cluster.home.cluster()["pid"], signal.SIGKILL)
            await asyncio.to_thread(cluster.up)
            return await asyncio.gather(*calls, return_exceptions=True)

    assert set(asyncio.run(work())) == {0.05, 0.5}
