"""The demo's first part: index a few hundred files, one call each, and kill an agent in the middle of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from motes.bus.connection import Message
from motes.bus.subjects import event
from motes.client.cluster import Cluster
from motes.client.deploy import deploy
from motes.demo.display import Display, HostShown
from motes.errors import MotesError
from motes.model.instance import Event, InstanceReport, InstanceState
from motes.supervisor.launch import tail

APP = "index"
FUNCTION = "parse"
SOURCE = Path(__file__).with_name("index.py")
IN_FLIGHT = 64
KILL_AFTER = 0.3
"""The part of the files after which an agent is killed."""
LOOK_S = 0.1
EMPTY_TIMEOUT_S = 30.0
BACK_TIMEOUT_S = 30.0


class Kill(NamedTuple):
    """An agent's end, with what it was working on."""

    host: str
    at: float
    busy: int
    """Its instances that worked on a call when they were asked, right before the kill."""


class Figures(NamedTuple):
    """What the table says of this part."""

    files: int
    seconds: float
    starts: int
    peak_instances: int
    cpu_s: float
    memory_bytes: int
    kill: Kill
    longest_wait_s: float
    """Of a call that was under way at the kill."""
    empty_after_s: float
    """From the last result to the end of the last instance."""


class Burst:
    """One run over `sources` (text by name)."""

    def __init__(self, cluster: Cluster, sources: dict[str, str], display: Display) -> None:
        self._cluster = cluster
        self._sources = sources
        self._display = display
        self._done = 0
        self._spans: list[tuple[float, float]] = []
        self._kill: Kill | None = None
        self._started: set[tuple[str, int]] = set()
        """Host and process, as told or as seen: an agent that is killed tells of its last ones no more."""
        self._peak = 0
        self._memory_bytes = 0
        self._cpu_s: dict[tuple[str, int, float], float] = {}
        self._hosts: dict[str, HostShown] = {}
        self._enough_done = asyncio.Event()

    async def run(self) -> tuple[dict[str, Any], Figures]:
        """The index by file name, as plain data, and the figures. Raises MotesError when something is not as it should.

        A call that fails fails the run: nothing is tried again here.
        """
        await deploy(self._cluster, SOURCE, name=APP)
        if await self._look():
            raise MotesError("there are instances before the first call; the burst is to start from zero")
        subscription = await self._cluster.connection.subscribe(event("*"), self._hear)
        async with _Beside(self._watch(), self._kill_one()) as beside:
            began = self._now()
            found = await self._call_all()
            seconds = self._now() - began
            await beside.last()
            empty_after_s = await self._wait_until_empty()
        subscription.unsubscribe()
        return found, self._figures(seconds, empty_after_s)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # ------------------------------------------------------------------ calling

    async def _call_all(self) -> dict[str, Any]:
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def call(text: str) -> Any:
            async with gate:
                began = self._now()
                result = await self._cluster.call_bytes(APP, FUNCTION, msgspec.json.encode(text))
            self._spans.append((began, self._now()))
            self._done += 1
            if self._done >= KILL_AFTER * len(self._sources):
                self._enough_done.set()
            return msgspec.json.decode(result)

        results = await asyncio.gather(*(call(text) for text in self._sources.values()))
        return dict(zip(self._sources, results, strict=True))

    async def _kill_one(self) -> None:
        """SIGKILL to the agent with the most calls at work, when KILL_AFTER of the files are done."""
        pids = {host.name: host.pid for host in await self._cluster.hosts()}
        await self._enough_done.wait()
        while self._done < len(self._sources):
            instances = await self._cluster.instances()
            busy = Counter(each.host for each in instances if each.state == InstanceState.BUSY)
            if busy:
                ((host, count),) = busy.most_common(1)
                os.kill(pids[host], signal.SIGKILL)
                self._kill = Kill(host, self._now(), count)
                self._display.say(f"killed the agent of host {host} with {count} calls at work in it")
                return
        raise MotesError("no agent had a call at work when one was to be killed; the machine is too fast for this demo")

    # ------------------------------------------------------------------ looking

    def _hear(self, message: Message) -> None:
        found = msgspec.json.decode(message.data, type=Event)
        if found.what == "instance.start" and found.app == APP:
            self._started.add((found.host, found.pid))

    async def _watch(self) -> None:
        while True:
            await self._look()
            self._display.show(f"{self._done} of {len(self._sources)} files", self._hosts)
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> list[InstanceReport]:
        """The app's instances now; what they use is remembered."""
        found = [each for each in await self._cluster.instances() if each.app == APP]
        run = {(each.host, each.pid) for each in found if each.pid}
        self._started |= run
        for each in found:
            self._cpu_s[each.host, each.pid, each.started_at] = each.cpu_s
        self._peak = max(self._peak, len(run))
        self._memory_bytes = max(self._memory_bytes, sum(each.memory_bytes for each in found))
        counts = Counter(each.host for each in found)
        busy = Counter(each.host for each in found if each.state == InstanceState.BUSY)
        self._hosts = {name: HostShown(counts[name], busy[name]) for name in {*self._hosts, *counts}}
        return found

    async def _wait_until_empty(self) -> float:
        """How long that took. Raises MotesError when it takes too long, or the killed host does not come back."""
        began = self._now()
        if not await _within(EMPTY_TIMEOUT_S, self._is_empty):
            left = ", ".join(f"{each.pid} at {each.host} ({each.state})" for each in await self._look())
            raise MotesError(f"{EMPTY_TIMEOUT_S:g} s after the last call there are instances: {left}")
        empty_after_s = self._now() - began
        if not await _within(BACK_TIMEOUT_S, self._all_up):
            host = self._kill.host if self._kill else ""
            log = tail(self._cluster.home.log(f"agent-{host}"))
            raise MotesError(f"host {host} is not back {BACK_TIMEOUT_S:g} s after its agent was killed", log=log)
        return empty_after_s

    async def _is_empty(self) -> bool:
        return not await self._look()

    async def _all_up(self) -> bool:
        return all(host.state == "up" for host in await self._cluster.hosts())

    def _figures(self, seconds: float, empty_after_s: float) -> Figures:
        kill = self._kill
        assert kill is not None, "_kill_one has ended without an error"
        waits = [ended - began for began, ended in self._spans if began <= kill.at <= ended]
        return Figures(
            files=len(self._sources),
            seconds=seconds,
            starts=len(self._started),
            peak_instances=self._peak,
            cpu_s=sum(self._cpu_s.values()),
            memory_bytes=self._memory_bytes,
            kill=kill,
            longest_wait_s=max(waits, default=0.0),
            empty_after_s=empty_after_s,
        )


async def _within(timeout_s: float, check: Callable[[], Awaitable[bool]]) -> bool:
    """Whether `check` came true in time."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while asyncio.get_running_loop().time() < deadline:
        if await check():
            return True
        await asyncio.sleep(LOOK_S)
    return False


class _Beside:
    """Tasks that run beside the work; the last one must end well, the others are ended with the block."""

    def __init__(self, *works: Any) -> None:
        self._tasks = [asyncio.ensure_future(work) for work in works]

    async def __aenter__(self) -> _Beside:
        return self

    async def last(self) -> None:
        """Wait for the last one. Raises its error."""
        await self._tasks[-1]

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
