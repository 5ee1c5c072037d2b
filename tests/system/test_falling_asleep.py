"""Many small apps on a host that waits a moment, and no ten minutes, until one that nobody calls falls asleep."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.rows.starts import SLEEPY

from motes.client.cluster import Cluster
from motes.client.deploy import deploy
from motes.supervisor.launch import launch
from system.running import RunningCluster, family, wait_until

COUNT = 20
SMALL = """
from motes import function

@function(idle="0.05 s")
def add(number: int) -> int:
    return number + {}
"""
ASLEEP = 4
"""The processes of a host where no app is loaded: its agent, and the three of the blank space that it keeps."""
SETTLED_S = 0.2


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RunningCluster]:
    programs = tmp_path / "programs.json"
    programs.write_text(json.dumps(SLEEPY))
    with RunningCluster(tmp_path / "home") as cluster:
        _, supervisor = launch(cluster.home, "127.0.0.1:0", ["--programs", str(programs)])
        assert supervisor is not None
        yield cluster
    supervisor.wait()


def test_apps_that_nobody_calls_hold_no_process_and_wake_when_called(cluster: RunningCluster, tmp_path: Path) -> None:
    names = {f"small{number}" for number in range(COUNT)}

    async def deploy_and_call_all() -> None:
        client = await Cluster.open(cluster.home)
        try:
            gate = asyncio.Semaphore(4)

            async def add(number: int) -> None:
                file = tmp_path / f"small{number}.py"
                file.write_text(SMALL.format(number))
                async with gate:
                    await deploy(client, file)

            await asyncio.gather(*map(add, range(COUNT)))
            calls = (client.call(f"small{number}.add", 1) for number in range(COUNT))
            assert await asyncio.gather(*calls) == [1 + number for number in range(COUNT)]
        finally:
            await client.close()

    def is_asleep() -> bool:
        """For a while: a space that is about to open or to close is no answer."""
        agent = cluster.pid("agent-local")
        until = time.monotonic() + SETTLED_S
        while len(family(agent)) == ASLEEP:
            if time.monotonic() > until:
                return True
            time.sleep(SETTLED_S / 20)
        return False

    asyncio.run(deploy_and_call_all())
    wait_until(is_asleep, "no space of an app is left")
    assert cluster.json("ps") == []
    assert {each["app"] for each in cluster.json("apps")} == names
    assert cluster.json("call", "small7.add", "1") == 8
    wait_until(is_asleep, "no space of an app is left")
