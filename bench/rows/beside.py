"""The same work done by others, in one run: Ray, Dask, Celery over Redis, plain nats-py. `make bench-peers`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from bench.cluster import Private, private_cluster
from bench.processes import Program, private_mib
from bench.result import Result, Series
from bench.statistics import percentile
from motes.bus.server import find_binary

PYTHON = Path(__file__).parents[2] / ".venv-peers" / "bin" / "python"
PEERS = {"Ray": "ray_peer", "Dask": "dask_peer", "Celery, Redis": "celery_peer", "nats-py": "nats_peer"}
TEXT = "x" * 98
NAP_S = 0.5
US, MS = 1e6, 1e3


class Contender(Protocol):
    """Who does the work."""

    async def ask(self, do: str, **arguments: Any) -> Any: ...


class Ours:
    """Motes, with the commands of the others."""

    def __init__(self, cluster: Private) -> None:
        self._cluster = cluster

    async def ask(self, do: str, **arguments: Any) -> Any:
        return await getattr(self, do)(**arguments)

    async def _echo(self) -> None:
        await self._cluster.client.call("work.echo", TEXT)

    async def one_at_a_time(self, count: int) -> list[float]:
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            await self._echo()
            taken.append(time.perf_counter() - began)
        return taken

    async def in_flight(self, count: int, flying: int) -> float:
        async def caller() -> None:
            for _ in range(count // flying):
                await self._echo()

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(flying)))
        return time.perf_counter() - began

    async def new_worker(self) -> float:
        """`reuse="call"`: each call is a fresh process."""
        began = time.perf_counter()
        await self._cluster.client.call("work.fresh", TEXT)
        return time.perf_counter() - began

    async def burst(self, count: int, seconds: float) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(self._cluster.client.call("work.nap", seconds) for _ in range(count)))
        return time.perf_counter() - began

    async def map(self, count: int) -> float:
        return await self.in_flight(count, 64)

    async def pids(self) -> list[int]:
        await self.in_flight(1024, 64)  # They may have ended meanwhile, unused.
        return await self._cluster.instance_pids("echo")


@asynccontextmanager
async def peer(name: str, **options: Any) -> AsyncIterator[Program]:
    """One of the others, started."""
    module = PEERS[name]
    async with Program(f"bench.beside.{module}", str(PYTHON)) as program:
        server = {"server": str(find_binary().path)} if module == "nats_peer" else {}
        await program.ask("start", **server, **options)
        yield program


@asynccontextmanager
async def _contenders() -> AsyncIterator[tuple[dict[str, Contender], dict[str, str]]]:
    """Everybody who could be started, and why the others could not."""
    failed: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(private_cluster())
        await cluster.deploy("work")
        ours = Ours(cluster)
        await ours.in_flight(2000, 64)
        await cluster.client.call("work.fresh", TEXT)
        found: dict[str, Contender] = {"Motes": ours}
        for name in PEERS:
            try:
                found[name] = await stack.enter_async_context(peer(name))
            except (RuntimeError, OSError, TimeoutError) as error:
                failed[name] = str(error)[:100]
        yield found, failed


async def beside(rounds: int = 3, long_rounds: int = 1) -> list[Result]:
    """Every kind of work, in turns."""
    kinds = {
        "call": ("call of 100 B, p50", "us"),
        "flying": ("calls/s, 64 in flight", "/s"),
        "worker": ("one more worker, to its first answer", "ms"),
        "burst": ("100 calls at once that sleep 0.5 s: the last answer after", "ms"),
        "map": ("10,000 small tasks", "ms"),
        "memory": ("private memory of a worker", "MiB"),
    }
    async with _contenders() as (contenders, failed):
        figures = {kind: {name: Series(name, []) for name in contenders} for kind in kinds}
        for _ in range(rounds):
            for name, who in contenders.items():
                taken = await who.ask("one_at_a_time", count=300)
                figures["call"][name].values.append(percentile(taken, 50) * US)
                figures["flying"][name].values.append(2048 / await who.ask("in_flight", count=2048, flying=64))
                figures["worker"][name].values.append(await who.ask("new_worker") * MS)
        for _ in range(long_rounds):
            for name, who in contenders.items():
                figures["burst"][name].values.append((await who.ask("burst", count=100, seconds=NAP_S) - NAP_S) * MS)
                figures["map"][name].values.append(await who.ask("map", count=10_000) * MS)
        for name, who in contenders.items():
            figures["memory"][name].values += [private_mib(pid) for pid in (await who.ask("pids"))[:4]]
    results = []
    for kind, (what, unit) in kinds.items():
        ours, *peers = figures[kind].values()
        missing = [Series(f"{name}: {why}", []) for name, why in failed.items()]
        results.append(Result(f"beside-{kind}", f"beside others: {what}", unit, ours, [*peers, *missing]))
    return results
