"""What is kept of what happened and what was printed: bounded, for each app and host, and without gaps."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from motes.agent.logs import APP_BUFFER_BYTES
from motes.bus.connection import Connection
from motes.bus.streams import LOGS_OF_ONE_LIMIT
from motes.controller.intake import EVENTS_BURST
from motes.grants import roles
from motes.model.instance import Event
from motes.model.keeper import LogLine
from system.running import MOTES, RunningCluster, is_alive, wait_until

QUIET = """
    from motes import function

    @function
    def say(text: str) -> None:
        print(text)
"""
LOUD = """
    from motes import function

    @function
    def shout(lines: int) -> None:
        for number in range(lines):
            print(number, "x" * 100)
"""
LASTING = """
    from motes import function

    @function(idle="10 min")
    def stay() -> None: ...
"""
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster, and credentials for the host `evil`, of which no agent runs."""
    with RunningCluster(tmp_path_factory.mktemp("record") / "home") as cluster:
        cluster.up()
        cluster.deploy("quiet", QUIET)
        cluster.make_keys(roles.host("evil"))
        yield cluster


def as_evil(cluster: RunningCluster, work: Callable[[Connection], Awaitable[None]]) -> None:
    async def within_deadline() -> None:
        async with asyncio.timeout(DEADLINE_S), AsyncExitStack() as stack:
            host = await Connection.open(cluster.home.nats_url(), cluster.home.credentials("host-evil"))
            stack.push_async_callback(host.close)
            await work(host)
            await host.flush(DEADLINE_S)

    asyncio.run(within_deadline())


def events(cluster: RunningCluster, what: str) -> list[dict[str, Any]]:
    return [each for each in cluster.json("events", "--limit", "5000") if each["what"] == what]


def test_a_loud_app_costs_a_quiet_one_none_of_its_lines(cluster: RunningCluster) -> None:
    cluster.motes("call", "quiet.say", '"before"')
    wait_until(lambda: "before" in cluster.motes("logs", "quiet"))
    cluster.deploy("loud", LOUD)
    lines = 2 * APP_BUFFER_BYTES // 100
    cluster.motes("call", "loud.shout", str(lines))
    cluster.motes("call", "quiet.say", '"after"')
    wait_until(lambda: "after" in cluster.motes("logs", "quiet"))
    wait_until(lambda: f"{lines - 1} xxx" in cluster.motes("logs", "loud"))
    assert "before" in cluster.motes("logs", "quiet")
    kept = cluster.json("logs", "loud", "--limit", "5000")
    assert len(kept) <= LOGS_OF_ONE_LIMIT


def test_a_removed_apps_lines_are_gone(cluster: RunningCluster) -> None:
    cluster.deploy("brief", QUIET)
    cluster.motes("call", "brief.say", '"secret"')
    wait_until(lambda: "secret" in cluster.motes("logs", "brief"))
    cluster.motes("rm", "brief")
    cluster.deploy("brief", QUIET)
    assert "secret" not in cluster.motes("logs", "brief")


def test_a_host_logs_only_for_what_it_was_given(cluster: RunningCluster) -> None:
    async def work(host: Connection) -> None:
        line = LogLine(time.time(), "evil", "quiet", "say", 1, "forged\n")
        for _ in range(2 * LOGS_OF_ONE_LIMIT):
            host.publish("report.evil.log.quiet.say", msgspec.json.encode(line))

    cluster.motes("call", "quiet.say", '"honest"')
    wait_until(lambda: "honest" in cluster.motes("logs", "quiet"))
    as_evil(cluster, work)
    cluster.motes("call", "quiet.say", '"later"')
    wait_until(lambda: "later" in cluster.motes("logs", "quiet"))
    shown = cluster.motes("logs", "quiet", "--limit", "5000")
    assert "honest" in shown and "forged" not in shown


def test_a_host_that_tells_without_end_is_not_kept_and_that_is_said(cluster: RunningCluster) -> None:
    async def work(host: Connection) -> None:
        event = Event(time.time(), "instance.start", "load", "evil", "quiet", "say", "r", 1, "x" * 100)
        for _ in range(2 * int(EVENTS_BURST)):
            host.publish("report.evil.event", msgspec.json.encode(event))

    before = events(cluster, "app.deployed")
    as_evil(cluster, work)
    wait_until(lambda: [each for each in events(cluster, "reports.dropped") if each["host"] == "evil"])
    (dropped, *_) = events(cluster, "reports.dropped")
    assert "events of it were not kept: a host may send" in dropped["detail"]
    assert events(cluster, "app.deployed") == before
    assert json.loads(cluster.motes("call", "quiet.say", '"x"')) is None


def test_what_ends_while_there_is_no_controller_is_told_by_the_next(cluster: RunningCluster, tmp_path: Path) -> None:
    cluster.deploy("lasting", LASTING)
    cluster.motes("call", "lasting.stay")
    (instance,) = cluster.instances("stay")
    supervisor, controller = int(cluster.home.cluster()["pid"]), cluster.pid("controller")
    heard = tmp_path / "heard"
    with heard.open("w") as output:
        follower = subprocess.Popen([MOTES, "events", "-f", "--json"], env=cluster.environment, stdout=output)

    def told() -> int:
        return heard.read_text().count(f'"pid":{instance["pid"]},')

    wait_until(lambda: told() == 1, "its start is shown, and what comes next is followed")
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(controller, signal.SIGKILL)
        wait_until(lambda: not is_alive(controller))
        os.kill(instance["pid"], signal.SIGKILL)
        wait_until(lambda: not is_alive(instance["pid"]))
        wait_until(lambda: told() == 2, "the agent has told its end, and nobody was there to keep it")
    finally:
        follower.kill()
        follower.wait()
        os.kill(supervisor, signal.SIGCONT)
    wait_until(lambda: cluster.run("apps").returncode == 0, "the controller answers")

    def ends() -> list[str]:
        return [each["reason"] for each in events(cluster, "instance.end") if each["pid"] == instance["pid"]]

    wait_until(ends)
    assert ends() == ["unheard"]
