"""`motes up`, `down` and `host` as a user types them, with the programs that really run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from motes.agent.__main__ import KEEPER_AWAY_S
from motes.supervisor import control
from system.running import DEADLINE_S, MOTES, RunningCluster, family, is_alive, wait_until


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RunningCluster]:
    """One for each test, which starts it itself."""
    with RunningCluster(tmp_path / "home") as cluster:
        yield cluster


APP = """
import time

from motes import function


@function(idempotent=True)
def double(number: int) -> int:
    time.sleep(0.01)
    return 2 * number
"""


def test_up_says_where_it_is_and_twice_is_no_error(cluster: RunningCluster) -> None:
    first = cluster.up()
    assert {"http", "nats", "home"} <= set(first) and not first["already"]
    assert first["home"] == str(cluster.home.path)
    again = cluster.up()
    assert again == {**first, "already": True}
    assert "already" in cluster.motes("up")


def test_down_leaves_no_process_and_no_socket(cluster: RunningCluster) -> None:
    supervisor = cluster.up()["pid"]
    cluster.deploy("sums", APP)
    assert cluster.motes("call", "sums.double", "21") == "42\n"
    pids = family(supervisor)
    assert len(pids) > 6
    assert cluster.json("down") == {"home": str(cluster.home.path), "stopped": True}
    assert not any(map(is_alive, pids))
    assert not [path for path in cluster.home.path.rglob("*") if path.is_socket()]
    assert cluster.json("down")["stopped"] is False


def test_up_resumes_what_was_deployed(cluster: RunningCluster) -> None:
    cluster.up()
    cluster.deploy("sums", APP)
    cluster.motes("down")
    cluster.up()
    assert cluster.motes("call", "sums.double", "4") == "8\n"


def test_when_the_supervisor_is_killed_nothing_is_orphaned_and_up_resumes(cluster: RunningCluster) -> None:
    supervisor = cluster.up()["pid"]
    cluster.deploy("sums", APP)
    cluster.motes("call", "sums.double", "1")
    pids = family(supervisor)
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, pids)))
    assert "motes up" in cluster.refusal(8, "call", "sums.double", "1")
    cluster.up()
    assert cluster.motes("call", "sums.double", "4") == "8\n"


LOAD = """
import asyncio, sys
from motes import connect

async def main():
    async with connect() as cluster:
        assert await cluster.call("sums.double", 0) == 0
        over = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
        async def work(number):
            while not over.done():
                assert await cluster.call("sums.double", number) == 2 * number
                number += 4
                if number == 40:
                    print("loaded", flush=True)
            return number
        print(sum(await asyncio.gather(*map(work, range(4)))))

asyncio.run(main())
"""


@pytest.mark.parametrize("process", ["controller", "gateway", "agent-local"])
def test_no_idempotent_call_is_lost_when_a_process_is_killed_under_load(cluster: RunningCluster, process: str) -> None:
    cluster.up()
    cluster.motes("host", "start", "--name", "b")
    cluster.deploy("sums", APP)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", LOAD], env=cluster.environment, text=True, **pipes) as caller:
        assert caller.stdout is not None and caller.stdout.readline() == "loaded\n"
        cluster.wait_until_back(process, cluster.kill(process))
        assert int(caller.communicate(timeout=DEADLINE_S)[0]) > 0
        assert caller.returncode == 0


def test_calls_go_on_after_nats_was_killed(cluster: RunningCluster) -> None:
    cluster.up()
    cluster.deploy("sums", APP)
    assert cluster.motes("call", "sums.double", "4") == "8\n"
    cluster.kill("nats-server")
    wait_until(lambda: cluster.run("call", "sums.double", "4").returncode == 0)
    assert cluster.motes("call", "sums.double", "5") == "10\n"


def test_hosts_are_started_listed_remembered_and_stopped(cluster: RunningCluster) -> None:
    cluster.up()
    told = cluster.json("host", "start", "--name", "b", "--lend", "cpus=1,memory=64MiB,spaces=3")
    assert told["name"] == "b" and is_alive(told["pid"])
    cluster.motes("down")
    cluster.up()
    listed = {each["name"]: each for each in cluster.json("host", "ls")}
    assert set(listed) == {"local", "b"}
    assert listed["b"]["lends"].items() >= {"cpus": 1.0, "memory_bytes": 64 * 2**20, "spaces": 3}.items()
    assert listed["b"]["state"] == "up" and is_alive(listed["b"]["pid"])
    cluster.motes("host", "stop", "--name", "b")
    assert not is_alive(listed["b"]["pid"])
    assert [each["name"] for each in cluster.json("host", "ls")] == ["local"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("host", "start", "--name", "a.b"), 3, "cannot be a name"),
        (("host", "start", "--lend", "cpus=0"), 3, "cpus=2,memory=1GiB,disk=5GiB,spaces=100"),
        (("host", "start", "--lend", "memory=lots"), 3, "cpus=2,memory=1GiB,disk=5GiB,spaces=100"),
        (("host", "start", "--lend", "gold=1"), 3, "cpus=2,memory=1GiB,disk=5GiB,spaces=100"),
        (("host", "start", "--name", "local", "--lend", "cpus=1"), 3, "motes host stop --name local"),
        (("host", "stop", "--name", "nobody"), 4, "there are: local"),
        (("host", "stop"), 2, "--name"),
        (("dance",), 2, "dance"),
    ],
)
def test_a_wrong_command_is_one_clear_error(
    cluster: RunningCluster, arguments: tuple[str, ...], code: int, words: str
) -> None:
    cluster.up()
    done = cluster.run(*arguments)
    assert (done.returncode, done.stdout) == (code, "") and words in done.stderr and "Traceback" not in done.stderr


def test_without_a_cluster_commands_say_how_to_start_one(cluster: RunningCluster) -> None:
    for arguments in (("host", "ls"), ("host", "start"), ("host", "stop", "--name", "local")):
        assert "motes up" in cluster.refusal(8, *arguments)


def test_a_port_in_use_is_one_clear_error(cluster: RunningCluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        http = f"127.0.0.1:{taken.getsockname()[1]}"
        told = cluster.refusal(8, "up", "--http", http)
    assert f"port {http.rpartition(':')[2]}" in told and "motes up --http" in told


def test_in_the_foreground_it_ends_with_a_signal(cluster: RunningCluster) -> None:
    command = [MOTES, "up", "--foreground", "--http", "127.0.0.1:0", "--json"]
    with subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, text=True) as foreground:
        assert foreground.stdout is not None
        pids = family(json.loads(foreground.stdout.readline())["pid"])
        foreground.send_signal(signal.SIGINT)
        assert foreground.wait(DEADLINE_S) == 0
    assert not any(map(is_alive, pids))


def test_up_holds_none_of_its_callers_streams(cluster: RunningCluster) -> None:
    """Else `$(motes up)` in a shell would wait for as long as the cluster runs."""
    cluster.up()
    for pid in family(cluster.home.cluster()["pid"]):
        targets = [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]
        assert not any(target.startswith(("/dev/pts", "/dev/tty")) for target in targets), targets


def test_a_host_beside_its_keeper_is_up_only_when_the_controller_has_taken_it(cluster: RunningCluster) -> None:
    cluster.up()
    cluster.kill("controller", signal.SIGSTOP)
    try:
        cluster.wait_until_back("agent-local", cluster.kill("agent-local"))
        # A machine that has joined is taken for up by then, with or without its keeper.
        time.sleep(KEEPER_AWAY_S + 2)
        assert state_of(cluster, "agent-local") == "starting"
    finally:
        cluster.kill("controller", signal.SIGCONT)
    wait_until(lambda: state_of(cluster, "agent-local") == "running", "the host is up")
    assert [host["state"] for host in cluster.json("host", "ls")] == ["up"]


def state_of(cluster: RunningCluster, process: str) -> str:
    """As the supervisor sees it."""
    processes = control.ask(cluster.home, "status", DEADLINE_S)["processes"]
    return str({each["name"]: each["state"] for each in processes}[process])
