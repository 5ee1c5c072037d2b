"""A layer that is large beside what any process here may hold: sent, fetched and resumed a little at a time."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.test_packages import header, only_index
from tests.wheels import make_wheel

from motes.bus.connection import Connection
from motes.bus.store import Store
from motes.model.keeper import CHUNK_BYTES
from motes.model.names import KEEPER
from system.running import DEADLINE_S, MOTES, RunningCluster, wait_until

SIZE_BYTES = 48 * 2**20
MOST_GROWTH_BYTES = SIZE_BYTES * 2 // 3
"""The client is watched from its first moment, and its code alone takes half of this."""
CHUNKS = SIZE_BYTES // CHUNK_BYTES
IN_FLIGHT = 8
"""Chunks that may be on their way, and count for nothing, when one side is killed."""
HEAVY = """
from motes import function
import heavy

@function
def version() -> str:
    return heavy.VERSION
"""


class Memory:
    """The most that a process has held of its own, looked at all the time."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.first_bytes = self.peak_bytes = self._now_bytes()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ends.wait(0.01):
            self.peak_bytes = max(self.peak_bytes, self._now_bytes())

    def _now_bytes(self) -> int:
        try:
            status = Path(f"/proc/{self._pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))

    def growth_bytes(self) -> int:
        self._ends.set()
        self._thread.join()
        return self.peak_bytes - self.first_bytes


@pytest.fixture
def heavy(tmp_path: Path) -> Iterator[tuple[RunningCluster, Path]]:
    """A cluster, and an app that needs a package which nothing makes smaller."""
    with RunningCluster(tmp_path / "home") as cluster:
        index = tmp_path / "index"
        make_wheel(
            index, "heavy", files={"heavy/__init__.py": "VERSION = '1.0'\n", "heavy/data": os.urandom(SIZE_BYTES)}
        )
        app = tmp_path / "app.py"
        app.write_text(header("heavy") + HEAVY)
        cluster.up()
        with only_index(cluster, index):
            yield cluster, app


def deploying(cluster: RunningCluster, app: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([MOTES, "deploy", str(app)], env=cluster.environment, stdout=subprocess.DEVNULL)


def the_layer(cluster: RunningCluster) -> str:
    """Its hash, as soon as it has been made."""
    wait_until(lambda: list(cluster.home.layers.glob("*.layer")), "the layer is made")
    (made,) = cluster.home.layers.glob("*.layer")
    with made.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def in_store(cluster: RunningCluster, layer: str) -> tuple[int, int]:
    """How many chunks of it the keeper has, and how many it was ever sent of anything."""

    async def ask() -> tuple[int, int]:
        connection = await Connection.open(cluster.home.nats_url(), cluster.home.credentials(KEEPER))
        store = await Store.open(connection)
        try:
            sent = (await store._js.stream_info("BUNDLES")).state.last_seq
            return len(await store.chunks(layer)), sent
        finally:
            await store.close()
            await connection.close()

    return asyncio.run(ask())


def test_a_large_layer_goes_in_little_memory_and_goes_on_where_it_was_when_either_side_is_killed(
    heavy: tuple[RunningCluster, Path],
) -> None:
    cluster, app = heavy
    watched = {name: Memory(cluster.pid(name)) for name in ("controller", "gateway")}

    # The client is killed while it sends.
    client = deploying(cluster, app)
    watched["client that packs"] = Memory(client.pid)
    layer = the_layer(cluster)
    wait_until(lambda: in_store(cluster, layer)[0] > CHUNKS // 4, "some of it has arrived")
    client.kill()
    client.wait(DEADLINE_S)
    arrived = in_store(cluster, layer)[0]
    assert arrived < CHUNKS, "the test was too slow"

    # The next one sends the rest; and the agent is killed while it fetches.
    client = deploying(cluster, app)
    watched["client that sends the rest"] = Memory(client.pid)
    part = cluster.home.host("local") / "layers" / ".parts" / layer

    def fetched_bytes() -> int:
        return part.stat().st_size if part.exists() else 0

    wait_until(lambda: fetched_bytes() > SIZE_BYTES // 4, "some of it was fetched")
    killed = cluster.kill("agent-local", signal.SIGKILL)
    before = fetched_bytes() // CHUNK_BYTES * CHUNK_BYTES
    assert 0 < before < SIZE_BYTES, "the test was too slow"
    cluster.wait_until_back("agent-local", killed)
    watched["agent"] = Memory(cluster.pid("agent-local"))
    least = before
    while client.poll() is None:
        least = min(least, fetched_bytes() or least)
        time.sleep(0.001)
    assert client.returncode == 0 and least == before, "what was fetched before is kept"
    assert cluster.json("call", "app.version") == "1.0"

    count, sent = in_store(cluster, layer)
    of_the_app = 2 + 2  # The app's own one chunk, and for each archive the word that it is whole.
    assert sent <= count + IN_FLIGHT + of_the_app, "what had arrived is not sent again"
    for name, memory in watched.items():
        assert memory.growth_bytes() < MOST_GROWTH_BYTES, name
