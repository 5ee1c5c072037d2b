"""Failover across network namespaces: another machine lost under load, as in `trouble`, and the keeper's programs.

The keeper and its caller are in one namespace, the machine in another, with a cable between that can be cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.cluster import LOOK_AGAIN_S, OFFER
from bench.load import load
from bench.result import Limits, Result, Series
from lab import namespaces
from lab.lan import Lan
from motes.client.cluster import Cluster
from motes.client.deploy import deploy
from motes.home import Home
from motes.supervisor import control

APPS = Path(__file__).parent.parent / "apps"
MOTES = str(Path(sys.executable).with_name("motes"))
FAR = "far"
BEFORE_S = 0.5
COMMAND_TIMEOUT_S = 90.0
PROGRAMS = ("controller", "gateway", "nats-server")
NONE = Limits(0, 0, of="value")


async def lost(rounds: int = 3) -> list[Result]:
    """The machine killed, frozen, and cut off without a FIN, each under load of idempotent calls."""
    ways: list[tuple[str, Callable[[Pair], Awaitable[Callable[[], Awaitable[None]]]], Limits]] = [
        ("machine killed (SIGKILL)", Pair.kill, Limits(0.5, 0.1, of="value")),
        ("machine frozen (SIGSTOP)", Pair.freeze, Limits(2, 1.5, of="value")),
        ("machine cut off without a FIN", Pair.cut, Limits(3, 1.5, of="value")),
    ]
    if why := namespaces.why_not():
        return [absent("machines-lost", f"across namespaces: {what}", why) for what, _, _ in ways]
    results: list[Result] = []
    async with pair() as both:
        for what, harm, limits in ways:
            waits, failed = Series("Motes", []), Series("Motes", [])
            for _ in range(rounds):
                await both.until(both.far_is_up)
                async with load(lambda: both.client.call("steady.work", 1)) as running:
                    await asyncio.sleep(BEFORE_S)
                    await both.until(both.far_works)
                    mend = await harm(both)
                    await asyncio.sleep(4.0)
                if running.failed:
                    print(*running.errors, sep="\n", file=sys.stderr)
                waits.values.append(running.longest_s)
                failed.values.append(float(running.failed))
                await mend()
            words = f"across namespaces: {what} under load, idempotent"
            results.append(Result("machines-lost", f"{words}: longest wait", "s", waits, [], limits))
            results.append(Result("machines-lost", f"{words}: failed calls", "calls", failed, [], NONE))
    return results


async def keeper(rounds: int = 3) -> list[Result]:
    """SIGKILL to the keeper's programs in turn, while warm calls that may not run twice go to the machine."""
    if why := namespaces.why_not():
        return [absent("machines-keeper", f"across namespaces: {name} killed", why) for name in PROGRAMS]
    results: list[Result] = []
    async with pair() as both:
        await both.only_far()
        for name in PROGRAMS:
            gaps, failed = Series("Motes", []), Series("Motes", [])
            for _ in range(rounds):
                function = "steady.work" if name == "nats-server" else "steady.once"
                async with load(lambda function=function: both.client.call(function, 1)) as running:  # type: ignore[misc]
                    await asyncio.sleep(BEFORE_S)
                    began = time.perf_counter()
                    os.kill(both.pid(both.home, name), signal.SIGKILL)
                    await asyncio.sleep(4.0)
                if running.failed:
                    print(*running.errors, sep="\n", file=sys.stderr)
                gaps.values.append(running.longest_gap_s(began))
                failed.values.append(float(running.failed))
                await both.until(both.far_is_up)
            kind = "idempotent" if name == "nats-server" else "warm"
            words = f"across namespaces: {name} killed, {kind} calls on another machine"
            limits = Limits(2, 1, of="value")
            results.append(Result("machines-keeper", f"{words}: longest time without one", "s", gaps, [], limits))
            results.append(Result("machines-keeper", f"{words}: failed calls", "calls", failed, [], NONE))
    return results


def absent(row: str, what: str, why: str) -> Result:
    """A row that cannot be measured here."""
    return Result(row, what, "s", Series("Motes", []), note=why)


# ------------------------------------------------------------------ how


class Pair:
    """A keeper with a host of its own, and the machine FAR."""

    def __init__(self, lan: Lan, keeper: Home, machine: Home, client: Cluster) -> None:
        self.home, self.machine, self.client = keeper, machine, client
        (far,) = lan.machines
        self.cable = lan.cables[far]
        self._keepers = lan.keeper

    # What is done to the machine; each returns what mends it.

    async def kill(self) -> Callable[[], Awaitable[None]]:
        os.kill(self.pid(self.machine, f"agent-{FAR}"), signal.SIGKILL)

        async def mend() -> None:
            await asyncio.sleep(1.0)

        return mend

    async def freeze(self) -> Callable[[], Awaitable[None]]:
        pid = self.pid(self.machine, f"agent-{FAR}")
        os.kill(pid, signal.SIGSTOP)

        async def mend() -> None:
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(1.0)

        return mend

    async def cut(self) -> Callable[[], Awaitable[None]]:
        self.cable.cut()

        async def mend() -> None:
            self.cable.mend()
            await self.until(self.far_is_up)

        return mend

    async def only_far(self) -> None:
        """Every call goes to the machine."""
        await self.motes("host", "stop", "--name", "local")
        await self.client.call("steady.once", 1)

    async def motes(self, *words: str) -> str:
        """What a command prints where the keeper is."""
        return await _motes(self.home, self._keepers, *words)

    # What is waited for.

    async def until(self, holds: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not await holds():  # noqa: ASYNC110  nobody would set an event
                await asyncio.sleep(LOOK_AGAIN_S)

    async def far_works(self) -> bool:
        return any(each.host == FAR and each.state == "busy" for each in await self.client.instances())

    async def far_is_up(self) -> bool:
        return any(host.name == FAR and host.state == "up" for host in await self.client.hosts())

    @staticmethod
    def pid(home: Home, name: str) -> int:
        processes: list[dict[str, Any]] = control.ask(home, "status", 5.0)["processes"]
        return next(int(each["pid"]) for each in processes if each["name"] == name)


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    """This thread is in the keeper's namespace meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="motes-bench-"))
    homes = [Home(folder / "keeper"), Home(folder / "machine")]
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        lan = Lan()
        stack.callback(lan.close)
        machine = lan.machine()
        stack.enter_context(namespaces.entered(lan.keeper))
        for home, namespace in zip(homes, (lan.keeper, machine), strict=True):
            stack.push_async_callback(_motes, home, namespace, "down")
        homes[0].create()
        homes[0].write_json(homes[0].hosts_file, {"local": OFFER})
        await _motes(homes[0], lan.keeper, "up", "--http", "127.0.0.1:0", "--listen", "0.0.0.0")
        invite = await _motes(homes[0], lan.keeper, "invite")
        line = next(word for word in invite.split() if word.startswith("motes1-"))
        await _motes(homes[1], machine, "join", line, "--name", FAR, "--lend", "cpus=2,memory=4GiB,spaces=400")
        client = await Cluster.open(homes[0])
        stack.push_async_callback(client.close)
        made = Pair(lan, homes[0], homes[1], client)
        await made.until(made.far_is_up)
        await deploy(client, APPS / "steady.py")
        yield made


async def _motes(home: Home, namespace: str, *words: str) -> str:
    """What a command prints; it must succeed, but for `down`."""
    done = await asyncio.to_thread(
        subprocess.run,
        ["ip", "netns", "exec", namespace, MOTES, *words],
        env={**os.environ, "MOTES_HOME": str(home.path)},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    if done.returncode != 0 and words != ("down",):
        raise RuntimeError(f"motes {' '.join(words)}: {done.stdout}{done.stderr}")
    return str(done.stdout)
