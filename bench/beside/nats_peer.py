"""Plain nats-py: four processes in a queue group, each with an event loop, and a caller, on a server of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

import nats
import uvloop

from bench.beside.work import TEXT, echo, stamp
from bench.programs.serving import serve_async

BODY = json.dumps(TEXT).encode()
REQUEST_S = 2.0
"""How long `stamps` waits for one answer: more than three times what a full queue takes."""
client: Any = None
url = ""
processes: list[subprocess.Popen[bytes]] = []


async def work(server: str, subject: str) -> None:
    """One worker."""
    connected = await nats.connect(server)

    async def answer(message: Any) -> None:
        await message.respond(json.dumps(echo(json.loads(message.data))).encode())

    async def rest(message: Any) -> None:
        # A loop must not be held up, so what sleeps does so beside.
        asyncio.get_running_loop().create_task(_nap(message))

    async def work_alone(message: Any) -> None:
        await message.respond(json.dumps(stamp(json.loads(message.data))).encode())

    await connected.subscribe(subject, "workers", answer)
    await connected.subscribe(f"{subject}.stamp", "workers", work_alone)
    await connected.subscribe(f"{subject}.nap", "workers", rest)
    await connected.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def _nap(message: Any) -> None:
    await asyncio.sleep(json.loads(message.data))
    await message.respond(message.data)


def _run(command: list[str]) -> None:
    processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))


def _worker(subject: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench.beside.nats_peer", url, subject]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    processes.append(process)
    return process


async def start(server: str, hosts: int = 1) -> None:
    """`server` is the path of a nats-server. Nothing tells the workers of one host from those of another."""
    global client, url
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    _run([server, "-a", "127.0.0.1", "-p", str(port)])
    url = f"nats://127.0.0.1:{port}"
    client = await nats.connect(url, max_reconnect_attempts=100, reconnect_time_wait=0.05, error_cb=_ignore)
    for _ in range(4):
        _worker("bench.echo")
    await _answered("bench.echo")
    await asyncio.sleep(1.0)


async def _ignore(error: Exception) -> None:
    """The server is not up yet."""


async def _answered(subject: str) -> None:
    while True:
        try:
            await client.request(subject, BODY, timeout=20)
            return
        except nats.errors.NoRespondersError:
            await asyncio.sleep(0.002)


async def one_at_a_time(count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        await client.request("bench.echo", BODY, timeout=20)
        taken.append(time.perf_counter() - began)
    return taken


async def in_flight(count: int, flying: int) -> float:
    async def caller() -> None:
        for _ in range(count // flying):
            await client.request("bench.echo", BODY, timeout=20)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(flying)))
    return time.perf_counter() - began


async def new_worker() -> float:
    began = time.perf_counter()
    process = _worker("bench.new")
    await _answered("bench.new")
    taken = time.perf_counter() - began
    process.communicate()
    return taken


async def burst(count: int, seconds: float) -> float:
    began = time.perf_counter()
    body = json.dumps(seconds).encode()
    await asyncio.gather(*(client.request("bench.echo.nap", body, timeout=60) for _ in range(count)))
    return time.perf_counter() - began


async def map(count: int) -> float:
    return await in_flight(count, 64)


async def stamps(count: int, seconds: float, within_s: float) -> list[float | None]:
    """A request that is not answered in time is lost: there is nobody who would send it again."""
    found: list[float | None] = [None] * count
    left = iter(range(count))

    async def caller() -> None:
        for number in left:
            with contextlib.suppress(nats.errors.Error):
                answer = await client.request("bench.echo.stamp", json.dumps(seconds).encode(), timeout=REQUEST_S)
                found[number] = json.loads(answer.data)

    await asyncio.wait_for(asyncio.gather(*(caller() for _ in range(64))), within_s)
    return found


async def victims(what: str) -> list[int]:
    """Who was killed before is replaced here, for nobody else would."""
    for dead in [each for each in processes[1:] if each.poll() is not None]:
        processes.remove(dead)
        _worker("bench.echo")
    await asyncio.sleep(1.0)
    return (await pids())[: 1 if what == "worker" else 2]


async def pids() -> list[int]:
    return [each.pid for each in processes[1:5]]


async def main() -> None:
    try:
        commands = (start, one_at_a_time, in_flight, new_worker, burst, map, pids, stamps, victims)
        await serve_async({each.__name__: each for each in commands})
    finally:
        for each in reversed(processes):
            if each.stdin is None:
                each.terminate()
            if each.poll() is None:
                each.communicate()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        uvloop.run(work(*sys.argv[1:]))
    else:
        uvloop.run(main())
    os._exit(0)
