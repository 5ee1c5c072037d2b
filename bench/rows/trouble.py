"""Hosts that are lost under load in three ways: killed, frozen, and cut off without a FIN."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

from bench.cluster import Private, offer_of, private_cluster
from bench.load import load
from bench.processes import Program
from bench.result import Limits, Result, Series
from motes.home import Home
from motes.supervisor import founding

BEFORE_S = 0.5
FAR = "far"
Harm = Callable[[], Awaitable[object]]


async def killed(rounds: int = 5) -> list[Result]:
    """SIGKILL to an agent that has calls in flight."""
    waits: list[float] = []
    failed: list[float] = []
    for _ in range(rounds):
        async with _two_hosts() as cluster:
            kill = functools.partial(_signal_far, cluster, signal.SIGKILL)
            await _measure(cluster, kill, 2.0, waits, failed)
    return _results(
        "host-killed", "host killed (SIGKILL) under load, idempotent", waits, failed, Limits(0.5, 0.1, of="value")
    )


async def frozen(rounds: int = 3) -> list[Result]:
    """SIGSTOP to an agent that has calls in flight."""
    waits: list[float] = []
    failed: list[float] = []
    for _ in range(rounds):
        async with _two_hosts() as cluster:
            freeze = functools.partial(_signal_far, cluster, signal.SIGSTOP)
            await _measure(cluster, freeze, 4.0, waits, failed)
            await _signal_far(cluster, signal.SIGCONT)  # Or it would not hear that all is over.
    return _results("host-frozen", "host frozen (SIGSTOP)", waits, failed, Limits(2, 1.5, of="value"))


async def cut_off(rounds: int = 3) -> list[Result]:
    """A proxy between an agent and NATS stops forwarding and closes nothing."""
    waits: list[float] = []
    failed: list[float] = []
    for _ in range(rounds):
        async with private_cluster() as cluster, Program("proxy") as proxy, _far_host(cluster, proxy):
            await _prepare(cluster)
            await _measure(cluster, functools.partial(proxy.ask, "cut"), 4.0, waits, failed)
    return _results("host-cut-off", "host cut off without a FIN", waits, failed, Limits(3, 1.5, of="value"))


# ------------------------------------------------------------------ how


@contextlib.asynccontextmanager
async def _two_hosts() -> AsyncIterator[Private]:
    """New ones each round: a host lost twice is given no work for a while (controller/core/steadiness.py)."""
    async with private_cluster(hosts=("local", FAR)) as cluster:
        await _prepare(cluster)
        yield cluster


async def _prepare(cluster: Private) -> None:
    """Deploy, and wait until both hosts have an instance."""
    await cluster.deploy("steady")
    await _both_serve(cluster)


async def _both_serve(cluster: Private) -> None:
    await cluster.until(lambda: _two_serve(cluster))


async def _two_serve(cluster: Private) -> bool:
    return len({each.host for each in await cluster.client.instances() if each.state in ("idle", "busy")}) == 2


async def _far_works(cluster: Private) -> bool:
    """Whether the host that is about to be lost has calls right now; else nothing would be lost."""
    return any(each.host == FAR and each.state == "busy" for each in await cluster.client.instances())


async def _measure(cluster: Private, harm: Harm, watch_s: float, waits: list[float], failed: list[float]) -> None:
    async with load(lambda: cluster.client.call("steady.work", 1)) as running:
        await asyncio.sleep(BEFORE_S)
        await cluster.until(lambda: _far_works(cluster))
        await harm()
        await asyncio.sleep(watch_s)
    if running.failed:
        print(*running.errors, sep="\n", file=sys.stderr)
    waits.append(running.longest_s)
    failed.append(running.failed)


async def _signal_far(cluster: Private, number: signal.Signals) -> None:
    os.kill(cluster.processes()[f"agent-{FAR}"], number)


@contextlib.asynccontextmanager
async def _far_host(cluster: Private, proxy: Program) -> AsyncIterator[None]:
    """An agent with a home of its own, whose NATS is the proxy."""
    port = await proxy.ask("open", port=urlsplit(cluster.nats_url).port)
    founding.admit_host(cluster.home, FAR)
    folder = Path(tempfile.mkdtemp(prefix="motes-bench-"))
    home = Home(folder / "home")
    home.create()
    for name in ("keys", "users"):
        shutil.copytree(cluster.home.path / name, home.path / name, dirs_exist_ok=True)
    home.write_json(home.hosts_file, {FAR: offer_of(FAR)})
    home.write_text(home.nats_port, f"{port}\n")
    agent = subprocess.Popen(  # noqa: ASYNC220  it starts at once, and is waited for at the end
        [sys.executable, "-P", "-m", "motes.agent", "--home", str(home.path), "--name", FAR],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await cluster.until(lambda: _has_joined(cluster))
        yield
    finally:
        agent.kill()
        agent.wait()
        shutil.rmtree(folder, ignore_errors=True)


async def _has_joined(cluster: Private) -> bool:
    return any(host.name == FAR for host in await cluster.client.hosts())


def _results(row: str, what: str, waits: list[float], failed: list[float], limits: Limits) -> list[Result]:
    none = Limits(0, 0, of="value")
    return [
        Result(row, f"{what}: longest wait", "s", Series("Motes", waits), [], limits),
        Result(row, f"{what}: failed calls", "calls", Series("Motes", failed), [], none),
    ]
