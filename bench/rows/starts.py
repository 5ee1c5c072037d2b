"""How fast an instance is there: forked in a warm space, through the cluster, out of sleep, and a hundred at once."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from bench.cluster import Private, private_cluster
from bench.processes import Program
from bench.result import Limits, Result, Series
from bench.statistics import median, percentile
from motes.space.measure import processes_below

BODY = b'"' + b"x" * 98 + b'"'
MS = 1000.0
SETTLE_S = 0.005
SPARE_S = 0.004
"""After this pause the zygote has forked its spare."""
SLEEPY = {
    "controller": [sys.executable, "-P", "-m", "motes.controller"],
    "gateway": [sys.executable, "-P", "-m", "motes.gateway"],
    "agent": [sys.executable, "-P", str(Path(__file__).parent.parent / "programs" / "sleepy_agent.py")],
}


async def spawn(rounds: int = 9, count: int = 40) -> list[Result]:
    """A new instance in a warm space, with the zygote's spare and without, against os.fork from a warm parent."""
    ours, without, forks = Series("Motes", []), Series("Motes", []), Series("os.fork", [])
    pooled: dict[str, list[float]] = {"ours": [], "without": []}
    async with Program("spaces") as space, Program("forks") as peer:
        await space.ask("open")
        for _ in range(rounds):
            for series, taken, between_s in ((ours, pooled["ours"], SPARE_S), (without, pooled["without"], 0.0)):
                one = await space.ask("first_replies", count=count, between_s=between_s)
                # The first one after a pause always finds the spare.
                taken += one[1:]
                series.values.append(median(one[1:]) * MS)
            forks.values.append(median(await peer.ask("first_replies", count=count)) * MS)
    for series, taken in ((ours, pooled["ours"]), (without, pooled["without"])):
        series.p50, series.p99 = percentile(taken, 50) * MS, percentile(taken, 99) * MS
    what = "new instance, release warm on the host: start to first reply"
    limits = Limits(2.5, 1.5)
    return [
        Result("spawn", what, "ms", ours, [forks], limits),
        Result("spawn", f"{what}, right after another, so without a spare", "ms", without, [forks], limits),
    ]


async def first_call(rounds: int = 9, count: int = 20) -> list[Result]:
    """The first call of a function that has no instance, through the cluster, against NATS and a fork."""
    ours, peer = Series("Motes", []), Series("bare NATS + fork", [])
    pooled: list[float] = []
    async with private_cluster() as cluster, Program("nats_echo") as echo:
        await cluster.deploy("work")
        keeper = cluster.home.credentials("keeper")
        await echo.ask("forking", url=cluster.nats_url, credentials=list(keeper), subject="bench.forking")
        bare = await cluster.bare("bench.forking")
        await cluster.client.call_bytes("work", "fresh", BODY)
        for _ in range(rounds):
            taken = [await timed_call(cluster, "work", "fresh") for _ in range(count)]
            pooled += taken
            ours.values.append(median(taken) * MS)
            peer.values.append(median([await _timed(bare.call(BODY)) for _ in range(count)]) * MS)
    ours.p50, ours.p99 = percentile(pooled, 50) * MS, percentile(pooled, 99) * MS
    what = "first call to a function with no instance, zygote warm, through the cluster"
    return [Result("first-call", what, "ms", ours, [peer], Limits(2, 1, of="value"))]


async def _timed(work: object) -> float:
    began = time.perf_counter()
    await work  # type: ignore[misc]
    taken = time.perf_counter() - began
    # What the call left behind (an instance that ends) shall not be paid by the next one.
    await asyncio.sleep(SETTLE_S)
    return taken


async def timed_call(cluster: Private, app: str, function: str, body: bytes = BODY) -> float:
    """Seconds of one call."""
    return await _timed(cluster.client.call_bytes(app, function, body))


async def wake(rounds: int = 12) -> list[Result]:
    """The first call of an app that sleeps: its bundle is on disk, its space closed."""
    ours, peer = Series("Motes", []), Series("`python -I -S`", [])
    async with private_cluster(programs=SLEEPY) as cluster, Program("forks") as starts:
        await cluster.deploy("work")
        agent = cluster.processes()["agent-local"]
        # A host keeps a blank space from its first use on.
        await cluster.client.call_bytes("work", "fresh", BODY)
        for number in range(rounds + 1):
            await cluster.until(lambda: is_asleep(agent))
            taken = await timed_call(cluster, "work", "fresh")
            started = median(await starts.ask("python_starts", count=5))
            if number:
                ours.values.append(taken * MS)
                peer.values.append(started * MS)
    what = "wake a sleeping app (bundle on disk, small imports): call to first reply"
    return [Result("wake", what, "ms", ours, [peer], Limits(5, 3))]


_WITH_A_BLANK = 4
"""The agent, and the processes of its blank space."""


async def is_asleep(agent: int) -> bool:
    """Whether no app is loaded and the blank space is ready: two of bubblewrap and Python, for a while."""
    for _ in range(8):
        if len(processes_below(agent)) != _WITH_A_BLANK:
            return False
        await asyncio.sleep(SETTLE_S)
    return True


async def _none_left(cluster: Private) -> bool:
    return not await cluster.instance_pids("nap")


async def burst(rounds: int = 7, count: int = 100, hold_s: float = 0.5) -> list[Result]:
    """So many calls at once that block, with no instance before: when the last one has replied, less its own time."""
    ours, forks = Series("Motes", []), Series("100 os.fork", [])
    async with private_cluster() as cluster, Program("forks") as peer:
        await cluster.deploy("work")
        for _ in range(rounds):
            began = time.perf_counter()
            await asyncio.gather(*(cluster.client.call("work.nap", hold_s) for _ in range(count)))
            ours.values.append(time.perf_counter() - began - hold_s)
            forks.values.append(await peer.ask("burst", count=count))
            await cluster.until(lambda: _none_left(cluster))
    what = "0 to 100 instances under 100 blocking calls at once: last first-reply"
    return [Result("burst", what, "s", ours, [forks], Limits(0.3, 0.1, of="value"))]
