"""Dask: four worker processes with one thread each; actors for calls, tasks that are not cached for bursts and maps."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster, wait  # type: ignore[import-not-found,unused-ignore]

from bench.beside.work import TEXT, echo, nap, stamp
from bench.programs.serving import serve


class Echo:
    def echo(self, text: str) -> str:
        return echo(text)


client: Any = None
actors: list[Any] = []
processes: list[subprocess.Popen[bytes]] = []


def start(hosts: int = 1) -> None:
    """Several hosts are commands `dask worker` with two nannies each, at the scheduler of a cluster without workers."""
    global client
    workers = 4 if hosts == 1 else 0
    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50
    )
    client = Client(cluster)
    for _ in range(hosts if hosts > 1 else 0):
        command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--no-dashboard"]
        command += ["--nworkers", "2", "--nthreads", "1", "--host", "127.0.0.1"]
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    client.wait_for_workers(4)
    client.gather([client.submit(echo, TEXT, pure=False) for _ in range(100)])
    if hosts == 1:
        actors.extend(client.submit(Echo, actor=True, pure=False).result() for _ in range(4))


def one_at_a_time(count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        actors[0].echo(TEXT).result()
        taken.append(time.perf_counter() - began)
    return taken


def in_flight(count: int, flying: int) -> float:
    began = time.perf_counter()
    under_way = [actors[number % 4].echo(TEXT) for number in range(flying)]
    for number in range(count - flying):
        under_way.pop(0).result()
        under_way.append(actors[number % 4].echo(TEXT))
    for each in under_way:
        each.result()
    return time.perf_counter() - began


def new_worker() -> float:
    before = set(client.scheduler_info(n_workers=-1)["workers"])
    began = time.perf_counter()
    client.cluster.scale(len(before) + 1)
    client.wait_for_workers(len(before) + 1)
    (new,) = set(client.scheduler_info(n_workers=-1)["workers"]) - before
    client.submit(echo, TEXT, pure=False, workers=[new]).result()
    taken = time.perf_counter() - began
    client.cluster.scale(len(before))
    while len(client.scheduler_info(n_workers=-1)["workers"]) > len(before):
        time.sleep(0.1)
    return taken


def burst(count: int, seconds: float) -> float:
    began = time.perf_counter()
    client.gather([client.submit(nap, seconds, pure=False) for _ in range(count)])
    return time.perf_counter() - began


def map(count: int) -> float:
    began = time.perf_counter()
    client.gather(client.map(echo, [TEXT] * count, pure=False))
    return time.perf_counter() - began


def stamps(count: int, seconds: float, within_s: float) -> list[float | None]:
    """A task is given up when three workers have died of it."""
    tasks = client.map(stamp, [seconds] * count, pure=False)
    with contextlib.suppress(TimeoutError):
        wait(tasks, timeout=within_s)
    finished = [task for task in tasks if task.status == "finished"]
    found: list[float | None] = list(client.gather(finished, errors="skip"))
    return found + [None] * (count - len(found))


def victims(what: str) -> list[int]:
    """A host is a command with its two workers; a worker alone is started again by its nanny."""
    parent = processes[0].pid
    workers = [pid for pid in pids() if f"\nPPid:\t{parent}\n" in Path(f"/proc/{pid}/status").read_text()]
    return [parent, *workers] if what == "host" else workers[:1]


def pids() -> list[int]:
    import os

    return list(client.run(os.getpid).values())


COMMANDS = (start, one_at_a_time, in_flight, new_worker, burst, map, pids, stamps, victims)

if __name__ == "__main__":
    serve({each.__name__: each for each in COMMANDS})
    for each in processes:
        each.terminate()
    if client is not None:
        client.cluster.close()
        client.close()
