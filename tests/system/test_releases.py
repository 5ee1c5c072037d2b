"""What the keeper stores of an app does not grow with the number of its deploys."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from motes.bus.connection import Connection
from motes.bus.store import Store
from system.running import RunningCluster, wait_until

APP = "from motes import function\n\n@function\ndef version() -> int:\n    return {number}\n"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RunningCluster]:
    """One in which nothing else is deployed."""
    with RunningCluster(tmp_path / "home") as cluster:
        cluster.up()
        yield cluster


def stored(cluster: RunningCluster) -> tuple[int, int]:
    """How many releases the store holds, and how many messages hold code: two for each small bundle."""

    async def look() -> tuple[int, int]:
        connection = await Connection.open(cluster.home.nats_url(), cluster.home.credentials("keeper"))
        store = await Store.open(connection)
        try:
            info = await store._js.stream_info("BUNDLES")
            return len(await store.releases()), int(info.state.messages)
        finally:
            await store.close()
            await connection.close()

    return asyncio.run(look())


def test_only_the_last_two_releases_are_kept_also_across_controllers(cluster: RunningCluster) -> None:
    for number in range(3):
        cluster.deploy("growing", APP.format(number=number))
    wait_until(lambda: stored(cluster) == (2, 4))
    cluster.wait_until_back("controller", cluster.kill("controller"))
    wait_until(lambda: cluster.run("apps").returncode == 0)
    cluster.deploy("growing", APP.format(number=3))
    wait_until(lambda: stored(cluster) == (2, 4))
    assert cluster.motes("call", "growing.version") == "3\n"
    cluster.motes("rm", "growing")
    wait_until(lambda: stored(cluster) == (0, 0))


def test_code_that_cannot_be_deployed_is_not_kept(cluster: RunningCluster) -> None:
    (cluster.folder.parent / "wrong.py").write_text("1 / 0")
    cluster.refusal(6, "deploy", str(cluster.folder.parent / "wrong.py"))
    wait_until(lambda: stored(cluster) == (0, 0))
