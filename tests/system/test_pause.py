"""A machine's owner wants it for himself: at once, until he says otherwise, and without loss to callers."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.running import DEADLINE_S, Keeper, RunningCluster, family, is_alive, wait_until

APP = """
    import time
    from motes import function

    @function(idempotent=True)
    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @function
    def once(seconds: float) -> float:
        time.sleep(seconds)
        return seconds
"""
GENEROUS_S = 8.0
"""Five seconds are promised; a busy machine that runs tests may take longer to notice."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Keeper]:
    with Keeper(tmp_path / "home") as made:
        made.up()
        yield made
        made.motes("resume")


def test_a_paused_machine_is_free_at_once_and_stays_so_until_it_is_resumed(cluster: Keeper) -> None:
    cluster.deploy("work", APP)
    assert cluster.motes("call", "work.nap", "0.01") == "0.01\n"
    processes = family(cluster.pid("agent-local"))
    assert len(processes) > 2, "nothing runs that could be ended"
    busy = cluster.start("call", "work.nap", "60")
    wait_until(lambda: any(each["state"] == "busy" for each in cluster.instances()))
    processes += family(cluster.pid("agent-local"))
    began = time.monotonic()
    assert cluster.json("pause") == {"hosts": ["local"]}
    assert time.monotonic() - began < GENEROUS_S
    assert not [pid for pid in processes if is_alive(pid)]
    assert cluster.json("host", "ls") == []
    # It holds when everything is started anew, and says so.
    cluster.down()
    assert "paused" in cluster.motes("up", "--http", "127.0.0.1:0")
    assert cluster.json("host", "ls") == []
    assert cluster.json("resume") == {"hosts": ["local"], "running": True}
    assert cluster.motes("call", "work.nap", "0.01") == "0.01\n"
    busy.communicate(timeout=DEADLINE_S)


def test_what_runs_on_a_machine_that_is_paused_is_run_elsewhere_where_that_is_harmless(cluster: Keeper) -> None:
    with joined(cluster) as other:
        call = begun(cluster, "work.nap", "6")
        cluster.motes("host", "start", "--name", "local")
        other.motes("pause")
        assert call.communicate(timeout=DEADLINE_S)[0] == "6.0\n"


def test_what_may_run_only_once_ends_as_lost_with_its_host_however_its_owner_takes_that_back(
    cluster: Keeper,
) -> None:
    """That is no fault of the function, whose process did not end by itself."""
    with joined(cluster) as other:
        for taken, again in (("pause", "resume"), ("down", "up"), ("leave", "")):
            call = begun(cluster, "work.once", "60")
            other.motes(taken)
            said = call.communicate(timeout=DEADLINE_S)[1]
            assert call.returncode == 7 and "its host was stopped or paused" in said, (taken, said)
            if again:
                other.motes(again)
    cluster.motes("host", "start", "--name", "local")
    call = begun(cluster, "work.once", "60")
    cluster.motes("host", "stop", "--name", "local")
    call.communicate(timeout=DEADLINE_S)
    assert call.returncode == 7


@contextlib.contextmanager
def joined(cluster: Keeper) -> Iterator[RunningCluster]:
    """Another machine's home, whose host is the only one of the cluster, with an app."""
    cluster.deploy("work", APP)
    cluster.down()
    cluster.listen()
    with RunningCluster(cluster.folder.parent / "other") as other:
        other.motes("join", cluster.invite(), "--name", "other")
        cluster.motes("host", "stop", "--name", "local")
        try:
            yield other
        finally:
            other.motes("resume")


def begun(cluster: RunningCluster, *words: str) -> subprocess.Popen[str]:
    """A call that runs by now."""
    call = cluster.start("call", *words)
    wait_until(lambda: any(each["state"] == "busy" for each in cluster.instances()))
    return call


def test_pausing_what_does_not_run_holds_for_the_next_start(tmp_path: Path) -> None:
    with RunningCluster(tmp_path / "home") as cluster:
        cluster.motes("pause")
        cluster.up()
        assert cluster.json("host", "ls") == []
        assert cluster.json("resume")["running"] is True
    assert cluster.json("resume") == {"hosts": ["local"], "running": False}
