"""What an idle instance and an idle cluster take, as memory that nobody shares."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time

from bench.cluster import private_cluster
from bench.processes import Program, private_mib
from bench.result import Limits, Result, Series
from motes.bus import server
from motes.home import Home

SETTLE_S = 1.5
CALL_S = 4.0
"""So long that on a busy machine too the first call has not ended when the last instance starts."""


async def instances(count: int = 200) -> list[Result]:
    """Private memory of each of 200 idle instances that have answered a call, against plain forks."""
    ours, forks = Series("Motes", []), Series("os.fork of the same Python", [])
    note = ""
    async with private_cluster() as cluster, Program("forks") as peer:
        await cluster.deploy("work")
        await asyncio.gather(*(cluster.client.call("work.stay", CALL_S) for _ in range(count)))
        await asyncio.sleep(SETTLE_S)
        pids = await cluster.instance_pids("stay")
        if len(pids) != count:
            raise RuntimeError(f"{len(pids)} instances instead of {count}")
        try:
            ours.values.append(sum(map(private_mib, pids)) / count)
        except PermissionError:
            reported = [each.memory_bytes for each in await cluster.client.instances() if each.workload == "stay"]
            ours.values.append(sum(reported) / count / 2**20)
            note = "as the agent measures it; only root may read smaps_rollup of an instance"
        forks.values.append(await peer.ask("memory", count=count))
    what = f"private memory per idle instance, at {count}"
    return [Result("memory-instance", what, "MiB", ours, [forks], Limits(0.6, 0.35, of="value"), note)]


async def idle_cluster(rounds: int = 3) -> list[Result]:
    """Private memory of every process of a one-machine cluster with nothing deployed."""
    ours, alone = Series("Motes", []), Series("nats-server alone", [])
    parts: dict[str, list[float]] = {}
    for _ in range(rounds):
        async with private_cluster() as cluster:
            await asyncio.sleep(SETTLE_S)
            sizes = {name: private_or_resident(pid) for name, pid in cluster.processes().items()}
            ours.values.append(sum(sizes.values()))
            for name, size in sizes.items():
                parts.setdefault(name, []).append(size)
            alone.values.append(_server_alone(cluster.home))
    note = ", ".join(f"{name} {sum(sizes) / len(sizes):.1f}" for name, sizes in parts.items())
    what = "whole one-machine cluster idle, private memory"
    return [Result("memory-cluster", what, "MiB", ours, [alone], Limits(120, 70, of="value"), note)]


def private_or_resident(pid: int) -> float:
    """An agent that was root's is not readable for its user; then what is resident and not of a file."""
    try:
        return private_mib(pid)
    except PermissionError:
        with open(f"/proc/{pid}/statm") as file:
            words = file.read().split()
        return (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _server_alone(home: Home) -> float:
    """A nats-server with the same configuration and settings, but an empty store and no client."""
    config = home.path / "alone.conf"
    config.write_text(home.nats_config.read_text().replace(str(home.jetstream), str(home.path / "alone")))
    binary = server.find_binary().path
    command = [str(binary), "--config", str(config), "--port", "-1", "--addr", "127.0.0.1"]
    with subprocess.Popen(
        command, env={**os.environ, **server.ENVIRONMENT}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as alone:
        time.sleep(SETTLE_S)
        size = private_mib(alone.pid)
        alone.terminate()
    return size
