"""A private cluster in a temporary home, for one row: the real programs, ended by pid at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from bench.nats import Bare, Thin, connect_bare
from motes.bus.connection import Connection
from motes.client.cluster import Cluster
from motes.client.deploy import deploy
from motes.home import Home
from motes.supervisor import control
from motes.supervisor.launch import END_WITH_PARENT, launch

APPS = Path(__file__).parent / "apps"
OFFER = {"cpus": 2.0, "memory_bytes": 4 * 2**30, "spaces": 400}
END_TIMEOUT_S = 20.0
LOOK_AGAIN_S = 0.05


def offer_of(host: str) -> dict[str, Any]:
    """Each host counts as a machine of its own, or work would not be spread over them."""
    return {**OFFER, "machine": host}


class Private:
    """A running private cluster and a client of it."""

    def __init__(self, home: Home, facts: dict[str, Any], client: Cluster) -> None:
        self.home = home
        self.nats_url: str = facts["nats"]
        self.http: str = facts["http"]
        self.client = client
        self._closing: list[Callable[[], Awaitable[None]]] = []

    def processes(self) -> dict[str, int]:
        """The process id of each of the cluster's programs, by name: nats-server, controller, agent-..."""
        status = control.ask(self.home, "status", 5.0)
        return {"supervisor": status["pid"]} | {each["name"]: each["pid"] or 0 for each in status["processes"]}

    async def deploy(self, app: str, **options: Any) -> None:
        """Deploy bench/apps/APP.py."""
        await deploy(self.client, APPS / f"{app}.py", **options)

    async def bare(self, subject: str) -> Bare:
        """A nats-py client of this cluster's server, for requests on `subject`."""
        client = await connect_bare(self.nats_url, self.home.credentials("keeper"))
        self._closing.append(client.close)
        return Bare(client, subject)

    async def thin(self, subject: str) -> Thin:
        """The same with a minimal protocol."""
        connection = await Connection.open(self.nats_url, self.home.credentials("keeper"))
        self._closing.append(connection.close)
        thin = Thin(connection, subject)
        await thin.open()
        return thin

    async def close(self) -> None:
        """End every client."""
        for close in (*self._closing, self.client.close):
            await close()

    async def until(self, holds: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
        """Wait until something holds, looking often. Raises TimeoutError."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await holds():  # noqa: ASYNC110  nobody would set an event
                    await asyncio.sleep(LOOK_AGAIN_S)
        except TimeoutError:
            raise TimeoutError(f"not so within {timeout_s:g} s: {await self._seen()}") from None

    async def _seen(self) -> str:
        """In words for whoever reads that something took too long: the hosts, and what each has of which workload."""
        hosts = [f"{host.name} {host.state}" for host in await self.client.hosts()]
        counts = Counter(f"{each.host} {each.workload} {each.state}" for each in await self.client.instances())
        return ", ".join((*hosts, *(f"{count} {what}" for what, count in counts.items())))

    async def instance_pids(self, workload: str = "") -> list[int]:
        """Of one workload, or of all."""
        found = [each for each in await self.client.instances() if workload in ("", each.workload)]
        return [each.pid for each in found if each.pid]


@contextlib.asynccontextmanager
async def private_cluster(
    hosts: Sequence[str] = ("local",), programs: dict[str, list[str]] | None = None
) -> AsyncIterator[Private]:
    """Start one with these hosts; `programs` replaces what the supervisor runs. Nothing of it is left at the end."""
    folder = Path(tempfile.mkdtemp(prefix="motes-bench-"))
    home = Home(folder / "home")
    supervisor: subprocess.Popen[bytes] | None = None
    try:
        home.create()
        home.write_json(home.hosts_file, {host: offer_of(host) for host in hosts})
        more: list[str] = []
        if programs is not None:
            (folder / "programs.json").write_text(json.dumps(programs))
            more = ["--programs", str(folder / "programs.json")]
        facts, supervisor = launch(home, "127.0.0.1:0", [*END_WITH_PARENT, *more])
        cluster = Private(home, facts, await Cluster.open(home))
        try:
            yield cluster
        finally:
            await cluster.close()
    finally:
        if supervisor is not None:
            _end(supervisor)
        shutil.rmtree(folder, ignore_errors=True)


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    supervisor.terminate()
    try:
        supervisor.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
