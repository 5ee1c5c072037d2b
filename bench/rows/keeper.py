"""The keeper's programs killed one at a time under load, and a new release under load."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

from bench.cluster import APPS, Private, private_cluster
from bench.load import Load, load
from bench.result import Limits, Result, Series
from motes.client.deploy import deploy
from motes.errors import MotesError

BEFORE_S = 0.4
WATCH_S = 2.0
TRY_AGAIN_S = 0.02
GIVE_UP_S = 20.0
TASKS = 8
NONE_FAILS = Limits(0, 0, of="value")
BACK = Limits(2, 1, of="value")


async def killed(rounds: int = 3) -> list[Result]:
    """Failed warm calls over NATS, and how long until the one that was killed does its work again."""
    results: list[Result] = []
    async with private_cluster() as cluster:
        await cluster.deploy("steady")
        await cluster.client.call("steady.once", 1)
        checks: dict[str, Callable[[], Awaitable[object]]] = {
            "controller": cluster.client.hosts,
            "gateway": lambda: _call_by_http(cluster),
            "nats-server": lambda: cluster.client.call("steady.once", 1, timeout_s=5),
        }
        for name, check in checks.items():
            runs = [await _kill(cluster, name, check) for _ in range(rounds)]
            back = Series("Motes", [seconds for seconds, _ in runs])
            failed = Series("Motes", [float(running.failed) for _, running in runs])
            results.append(Result("keeper-killed", f"{name} killed: serves again after", "s", back, [], BACK))
            # Calls go through nats-server: those under way when it ends are lost, and that is no failure of ours.
            limits, note = (None, "through the one killed") if name == "nats-server" else (NONE_FAILS, "")
            what = f"{name} killed: failed warm calls"
            results.append(Result("keeper-killed", what, "calls", failed, [], limits, note))
    return results


async def _kill(cluster: Private, name: str, check: Callable[[], Awaitable[object]]) -> tuple[float, Load]:
    async with load(lambda: cluster.client.call("steady.once", 1), TASKS) as running:
        await asyncio.sleep(BEFORE_S)
        os.kill(cluster.processes()[name], signal.SIGKILL)
        began = time.perf_counter()
        await asyncio.sleep(0)
        back_s = await _until_it_works(check, began)
        await asyncio.sleep(max(0.0, WATCH_S - back_s))
    return back_s, running


async def _until_it_works(check: Callable[[], Awaitable[object]], began: float) -> float:
    """Try anew every few milliseconds, whatever became of the tries before: one that was lost must not hide the end."""
    tries: set[asyncio.Task[bool]] = set()
    try:
        while time.perf_counter() - began < GIVE_UP_S:
            tries.add(asyncio.create_task(_works(check)))
            done, _ = await asyncio.wait(tries, timeout=TRY_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
            tries -= done
            if any(task.result() for task in done):
                return time.perf_counter() - began
            if done:
                await asyncio.sleep(TRY_AGAIN_S)
    finally:
        for task in tries:
            task.cancel()
    raise TimeoutError("it does not come back")


async def _works(check: Callable[[], Awaitable[object]]) -> bool:
    try:
        await check()
    except (MotesError, OSError, EOFError):
        return False
    return True


async def _call_by_http(cluster: Private) -> None:
    """One call through the gateway on a connection of its own. Raises OSError and EOFError."""
    port = urlsplit(cluster.http).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /steady/once HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
    try:
        writer.write(f"{head}Content-Length: 1\r\nConnection: close\r\n\r\n1".encode())
        answer = await reader.read()
    finally:
        writer.close()
    if not answer.startswith(b"HTTP/1.1 200"):
        raise OSError(answer[:200].decode() or "no answer")


async def release(rounds: int = 3) -> list[Result]:
    """A changed source deployed again while calls run that may not be repeated."""
    failed, waits = Series("Motes", []), Series("Motes", [])
    async with private_cluster() as cluster:
        await cluster.deploy("steady")
        with tempfile.TemporaryDirectory() as folder:
            for number in range(rounds):
                path = Path(folder) / "steady.py"
                path.write_text(f"{(APPS / 'steady.py').read_text()}\nNUMBER = {number}\n")
                async with load(lambda: cluster.client.call("steady.once", 1), 16) as running:
                    await asyncio.sleep(BEFORE_S)
                    await deploy(cluster.client, path)
                    await asyncio.sleep(1.0)
                if running.failed:
                    print(*running.errors, sep="\n", file=sys.stderr)
                failed.values.append(float(running.failed))
                waits.values.append(running.longest_s)
    return [
        Result("release", "new release under load: failed calls", "calls", failed, [], NONE_FAILS),
        Result("release", "new release under load: longest wait", "s", waits),
    ]
