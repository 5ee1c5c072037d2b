"""Apps that sleep: one that imports much wakes, and a thousand small ones take what they take."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from bench.cluster import private_cluster
from bench.processes import Program
from bench.result import Limits, Result, Series
from bench.rows.memory import private_or_resident
from bench.rows.starts import SLEEPY, is_asleep, timed_call
from motes.client.deploy import deploy

MS = 1000
SMALL = """
from motes import function


@function(idle="0.05 s")
def f(x: int) -> int:
    return x + {number}
"""
IMPORT_AND_ECHO = """
import sys
sys.path.append(sys.argv[1])
import fastapi, httpx, pydantic
sys.stdout.write(sys.stdin.readline())
"""


async def wake_heavy(rounds: int = 6) -> list[Result]:
    """The first call of a sleeping app that imports fastapi, httpx and pydantic, against Python importing the same."""
    ours, bare = Series("Motes", []), Series("bare Python importing the same", [])
    async with private_cluster(programs=SLEEPY) as cluster:
        await cluster.deploy("heavy")
        agent = cluster.processes()["agent-local"]
        (layer,) = [each for each in (cluster.home.host("local") / "layers").iterdir() if len(each.name) == 64]
        await cluster.client.call_bytes("heavy", "heavy", b'"x"')
        for number in range(rounds + 1):
            await cluster.until(lambda: is_asleep(agent))
            taken = await timed_call(cluster, "heavy", "heavy")
            imported = await asyncio.to_thread(_import_bare, layer)
            if number:
                ours.values.append(taken * MS)
                bare.values.append(imported * MS)
    what = "wake a sleeping app that imports fastapi, httpx, pydantic: call to first reply"
    return [Result("wake-heavy", what, "ms", ours, [bare], Limits(1.3, 1.1))]


def _import_bare(layer: Path) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-I", "-S", "-c", IMPORT_AND_ECHO, str(layer)]
    done = subprocess.run(command, input=b"x\n", capture_output=True, check=True)
    assert done.stdout == b"x\n"
    return time.perf_counter() - began


async def thousand(count: int = 1000) -> list[Result]:
    """Private memory of the whole cluster with so many apps asleep, `motes apps` then, and a wake among them."""
    memory, listed, woken = Series("Motes", []), Series("`motes apps --json`", []), Series("Motes", [])
    async with private_cluster(programs=SLEEPY) as cluster, Program("forks") as starts:
        gate = asyncio.Semaphore(2)

        async def add(number: int) -> None:
            file = cluster.home.path / f"app{number}.py"
            file.write_text(SMALL.format(number=number))
            async with gate:
                await deploy(cluster.client, file)

        await asyncio.gather(*map(add, range(count)))
        agent = cluster.processes()["agent-local"]
        # A host keeps a blank space from its first use on.
        await cluster.client.call_bytes("app0", "f", b"1")
        await cluster.until(lambda: is_asleep(agent))
        memory.values.append(sum(map(private_or_resident, cluster.processes().values())))
        for number in range(5):
            listed.values.append(await asyncio.to_thread(_list_apps, str(cluster.home.path)) * MS)
            await cluster.until(lambda: is_asleep(agent))
            woken.values.append(await timed_call(cluster, f"app{number * (count // 8)}", "f", b"1") * MS)
        python = Series("`python -I -S`", [each * MS for each in await starts.ask("python_starts", count=5)])
    asleep = f"{count:,} apps deployed and asleep on one host, private memory of the whole cluster"
    wakes = f"wake one of {count:,} sleeping apps: call to first reply"
    return [
        Result("asleep", asleep, "MiB", memory, [], Limits(300, 150, of="value")),
        Result("asleep", wakes, "ms", woken, [python], Limits(5, 3)),
        Result("asleep", f"`motes apps` with {count:,} apps", "ms", listed, []),
    ]


def _list_apps(home: str) -> float:
    began = time.perf_counter()
    command = [str(Path(sys.executable).with_name("motes")), "apps", "--json"]
    subprocess.run(command, env={"MOTES_HOME": home, "PATH": "/usr/bin:/bin"}, capture_output=True, check=True)
    return time.perf_counter() - began
