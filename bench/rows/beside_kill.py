"""A kill in the middle of a map, by Motes and by others: of a worker of four, and of a host of two."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.cluster import Private, private_cluster
from bench.result import Result, Series
from bench.rows.beside import MS, PEERS, Contender, peer
from motes.errors import MotesError

TASKS, TASK_S, FLYING, WITHIN_S = 500, 0.02, 64, 40.0
FAR = "far"


class Ours:
    """Motes on two hosts, with the commands of the others."""

    def __init__(self, cluster: Private) -> None:
        self._cluster = cluster

    async def ask(self, do: str, **arguments: Any) -> Any:
        return await getattr(self, do)(**arguments)

    async def stamps(self, count: int, seconds: float, within_s: float) -> list[float | None]:
        found: list[float | None] = [None] * count
        left = iter(range(count))

        async def caller() -> None:
            for number in left:
                try:
                    found[number] = await self._cluster.client.call("stamps.stamp", seconds, timeout_s=within_s)
                except MotesError as error:
                    print(f"{type(error).__name__}: {error}", file=sys.stderr)

        await asyncio.gather(*(caller() for _ in range(FLYING)))
        return found

    async def victims(self, what: str) -> list[int]:
        """An instance, or an agent: its instances end with it."""
        await self._cluster.until(self._are_ready)
        if what == "host":
            return [self._cluster.processes()[f"agent-{FAR}"]]
        return [each.pid for each in await self._cluster.client.instances() if each.host == FAR][:1]

    async def _are_ready(self) -> bool:
        """Whether each host has its two workers."""
        found = [each.host for each in await self._cluster.client.instances() if each.state in ("idle", "busy")]
        return len(found) == 4 and found.count(FAR) == 2


@asynccontextmanager
async def _contender(name: str) -> AsyncIterator[Contender]:
    """A fresh one on two hosts."""
    if name in PEERS:
        async with peer(name, hosts=2) as other:
            yield other
        return
    async with private_cluster(hosts=("local", FAR)) as cluster:
        await cluster.deploy("stamps")
        yield Ours(cluster)


async def _disturbed(who: Contender, what: str) -> dict[str, float]:
    """One map left alone, and one with a kill at the half of the time that the first one took."""
    work = {"count": TASKS, "seconds": TASK_S, "within_s": WITHIN_S}
    await who.ask("victims", what=what)  # Waits until there are four workers.
    began = time.monotonic()
    await who.ask("stamps", **work)
    alone_s = time.monotonic() - began
    pids = await who.ask("victims", what=what)
    began = time.monotonic()
    asked = asyncio.create_task(who.ask("stamps", **work))
    await asyncio.sleep(alone_s / 2)
    killed_at = time.monotonic()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # A child may have ended, or ends with its parent.
            os.kill(pid, signal.SIGKILL)
    stamps: list[float | None] = await asked
    taken_s = time.monotonic() - began
    after = sorted(stamp for stamp in stamps if stamp is not None and stamp > killed_at)
    pauses = [later - earlier for earlier, later in itertools.pairwise([killed_at, *after])]
    return {"lost": stamps.count(None), "pause": max(pauses, default=taken_s) * MS, "longer": taken_s / alone_s}


async def killed(rounds: int = 3) -> list[Result]:
    """Both kills by everybody, in turns."""
    kinds = {
        "lost": (f"of {TASKS} tasks, those without a result within {WITHIN_S:.0f} s", ""),
        "pause": ("longest time in which no task ended", "ms"),
        "longer": ("time of the map, undisturbed = 1", "times"),
    }
    victims = {"worker": "one of four workers", "host": "one of two hosts"}
    names = ("Motes", *PEERS)
    figures = {(what, kind): {name: Series(name, []) for name in names} for what in victims for kind in kinds}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for name in names:
            try:
                async with _contender(name) as who:
                    await who.ask("stamps", count=TASKS // 4, seconds=TASK_S, within_s=WITHIN_S)
                    for what in victims:
                        for kind, value in (await _disturbed(who, what)).items():
                            figures[what, kind][name].values.append(value)
            except (RuntimeError, OSError, TimeoutError) as error:
                failed[name] = f"{name}: {error}"[:100]
    results = []
    for (what, kind), found in figures.items():
        text, unit = kinds[kind]
        ours, *peers = (Series(failed.get(name, name), each.values) for name, each in found.items())
        title = f"beside others: {victims[what]} killed amid a map: {text}"
        results.append(Result(f"beside-kill-{what}", title, unit, ours, peers))
    return results
