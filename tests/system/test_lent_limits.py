"""What a host lends is all that it uses: processors, memory, disk, and the lowest class, on a real host."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.test_walls import LackingCluster

from motes.space.cgroup import holding
from system.running import DEADLINE_S, RunningCluster, family, is_alive, wait_until

APP = """
import os, time

from motes import function


@function(timeout="60 s", scale=(8, 8))
def burn(seconds: float) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return os.getpid()


@function(memory="128 MiB", scale=(0, 4), timeout="60 s")
def hoard(mebibytes: int, seconds: float) -> int:
    held = bytearray(mebibytes * 2**20)
    for at in range(0, len(held), 4096):
        held[at] = 1
    time.sleep(seconds)
    return len(held)


@function
def ask_for_more() -> list[str]:
    def attempt(what, *words):
        try:
            what(*words)
        except OSError as error:
            return error.strerror
        return "done"

    return [
        attempt(os.sched_setaffinity, 0, range(os.cpu_count())),
        attempt(os.sched_setscheduler, 0, os.SCHED_OTHER, os.sched_param(0)),
        attempt(os.setpriority, os.PRIO_PROCESS, 0, 0),
    ]
"""
LENT = 0.2
SECONDS = 4.0
IOPRIO_GET, IDLE_CLASS = 252, 3
_libc = ctypes.CDLL(None)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RunningCluster]:
    """One for each test."""
    with RunningCluster(tmp_path / "home") as cluster:
        cluster.up()
        yield cluster


def lend(cluster: RunningCluster, what: str) -> int:
    """The only host of the cluster lends this, and has the app; the process id of its agent."""
    cluster.motes("host", "start", "--name", "b", "--lend", what)
    cluster.motes("host", "stop", "--name", "local")
    cluster.deploy("lent", APP)
    return cluster.pid("agent-b")


def calls(cluster: RunningCluster, count: int, *words: str) -> list[subprocess.Popen[str]]:
    return [cluster.start("call", *words) for _ in range(count)]


def used_s(pid: int) -> float:
    """CPU seconds of a process and all below it."""
    found = 0.0
    for each in family(pid):
        try:
            found += time.clock_gettime_ns((~each << 3) | 2) / 1e9
        except OSError:
            continue
    return found


def states(pid: int) -> dict[int, str]:
    found = {}
    for each in family(pid)[1:]:
        try:
            found[each] = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
    return found


def test_eight_instances_that_burn_stay_under_a_fifth_of_a_processor_and_the_host_is_heard(
    cluster: RunningCluster,
) -> None:
    agent = lend(cluster, f"cpus={LENT}")
    wait_until(lambda: len([each for each in cluster.instances("burn") if each["state"] == "idle"]) == 8)
    burning = calls(cluster, 8, "lent.burn", "25")
    wait_until(lambda: len([each for each in cluster.instances("burn") if each["state"] == "busy"]) == 8)
    began, before = time.monotonic(), used_s(agent)
    while time.monotonic() < began + SECONDS:
        time.sleep(0.5)
    beyond_s = used_s(agent) - before - LENT * (time.monotonic() - began)
    # What was not used before may still be, for a second.
    assert beyond_s <= LENT * 1.0 + 0.3
    assert cluster.json("host", "ls")[0]["state"] == "up"
    if not holding(agent):
        wait_until(lambda: "T" in states(agent).values(), "somebody rests")
    # Fairly: nobody has all of it.
    assert len({json.loads(each.communicate(timeout=DEADLINE_S)[0]) for each in burning}) == 8


def test_an_agent_that_is_killed_while_all_rest_leaves_nobody_behind(cluster: RunningCluster) -> None:
    agent = lend(cluster, f"cpus={LENT}")
    burning = calls(cluster, 2, "lent.burn", "30")
    wait_until(lambda: len([each for each in cluster.instances("burn") if each["state"] == "busy"]) == 2)
    inside = [pid for pid in family(agent)[1:] if Path(f"/proc/{pid}/comm").read_text().strip() != "bwrap"]
    assert len(inside) > 2
    for pid in inside:
        os.kill(pid, signal.SIGSTOP)
    cluster.kill("agent-b")
    wait_until(lambda: not any(map(is_alive, inside)), "all that was stopped has ended")
    for each in burning:
        each.kill()
        each.communicate()


def test_with_the_idle_priority_all_of_it_is_in_the_lowest_class_and_cannot_leave_it(cluster: RunningCluster) -> None:
    agent = lend(cluster, "cpus=1,priority=idle")
    assert json.loads(cluster.motes("call", "lent.ask_for_more")) == ["Operation not permitted"] * 3
    inside = family(agent)[1:]
    assert len(inside) >= 8
    # Bubblewrap's own two are told when the agent has learned which they are; what runs in them is born so.
    wait_until(lambda: {os.sched_getscheduler(pid) for pid in family(agent)[1:]} == {os.SCHED_IDLE})
    assert {_libc.syscall(IOPRIO_GET, 1, pid) >> 13 for pid in [agent, *inside]} == {IDLE_CLASS}
    # The agent itself has to be heard.
    assert os.sched_getscheduler(agent) == os.SCHED_OTHER and os.getpriority(os.PRIO_PROCESS, agent) == 19
    if not holding(agent):
        usable = [os.sched_getaffinity(pid) for pid in [agent, *inside]]
        assert all(len(each) == 1 and each == usable[0] for each in usable)


def test_when_a_machine_is_out_of_memory_the_kernel_takes_what_is_in_spaces_first(cluster: RunningCluster) -> None:
    agent = cluster.pid("agent-local")
    cluster.deploy("lent", APP)
    cluster.motes("call", "lent.hoard", "mebibytes=1", "seconds=0")

    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    inside = family(agent)[1:]
    assert len(inside) > 3 and all(score(pid) >= 900 for pid in inside)
    assert all(score(cluster.pid(each)) < 900 for each in ("agent-local", "nats-server", "controller", "gateway"))


def test_where_all_work_and_need_more_than_is_lent_the_newest_ends_and_its_caller_hears_why(
    cluster: RunningCluster,
) -> None:
    lend(cluster, "cpus=2,memory=300MiB")
    first = calls(cluster, 1, "lent.hoard", "mebibytes=110", "seconds=20")[0]
    wait_until(lambda: any(each["memory_bytes"] > 100 * 2**20 for each in cluster.instances("hoard")))
    second = calls(cluster, 1, "lent.hoard", "mebibytes=110", "seconds=20")[0]
    wait_until(lambda: sum(each["memory_bytes"] > 100 * 2**20 for each in cluster.instances("hoard")) == 2)
    third = calls(cluster, 1, "lent.hoard", "mebibytes=110", "seconds=20")[0]
    wait_until(lambda: third.poll() is not None or second.poll() is not None or first.poll() is not None)
    assert third.returncode is not None and third.returncode > 0
    told = third.communicate()[1]
    assert "host 'b' lends 300 MiB of memory" in told and "app 'lent' has the most" in told
    assert "pressure" in {each["reason"] for each in cluster.json("events")}
    assert first.communicate(timeout=DEADLINE_S)[0].strip() == str(110 * 2**20)
    second.communicate(timeout=DEADLINE_S)


WRITER = """
import time
from motes import function

@function(timeout="60 s")
def write(mebibytes: int, seconds: float) -> int:
    with open("file", "wb") as file:
        file.write(bytes(mebibytes * 2**20))
    time.sleep(seconds)
    return mebibytes
"""


def test_code_that_does_not_fit_on_the_disk_that_is_lent_is_refused_with_the_numbers(cluster: RunningCluster) -> None:
    lend(cluster, "disk=200KiB")
    folder = cluster.folder.parent / "heavy"
    folder.mkdir()
    (folder / "app.py").write_text("from motes import function\n@function\ndef one() -> int: return 1\n")
    (folder / "heavy.bin").write_bytes(os.urandom(300 * 2**10))
    done = cluster.run("deploy", str(folder))
    assert done.returncode == 7, done
    assert "do not fit: the host lends 200 KiB of disk" in done.stderr and "lend more" in done.stderr
    assert json.loads(cluster.motes("call", "lent.ask_for_more")), "what was there before goes on"


def test_what_functions_write_to_the_hosts_disk_counts_and_who_wrote_the_most_ends(tmp_path: Path) -> None:
    with LackingCluster(tmp_path / "home") as cluster:
        cluster.lacks = "namespaces"
        cluster.up()
        cluster.run("host", "start", "--name", "b", "--lend", "disk=20MiB")
        cluster.run("host", "stop", "--name", "local")
        for name in ("small", "large"):
            (tmp_path / f"{name}.py").write_text(WRITER)
            assert cluster.run("deploy", str(tmp_path / f"{name}.py")).returncode == 0
        small = calls(cluster, 1, "small.write", "mebibytes=9", "seconds=20")[0]
        wait_until(lambda: any(each["state"] == "busy" for each in cluster.instances("write")))
        large = calls(cluster, 1, "large.write", "mebibytes=14", "seconds=20")[0]
        told = large.communicate(timeout=DEADLINE_S)[1]
        assert large.returncode and "what functions wrote to /tmp is too much: the host lends 20 MiB of disk" in told
        assert small.communicate(timeout=DEADLINE_S)[0] == "9\n"
