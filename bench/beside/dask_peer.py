"""Dask: a local cluster of four worker processes with one thread each; calls are tasks that are not cached."""

from __future__ import annotations

import time
from typing import Any

from distributed import Client, LocalCluster, as_completed  # type: ignore[import-not-found,unused-ignore]

from bench.beside.work import TEXT, echo, nap
from bench.programs.serving import serve

client: Any = None


def start() -> None:
    global client
    cluster = LocalCluster(n_workers=4, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50)
    client = Client(cluster)
    client.gather([client.submit(echo, TEXT, pure=False) for _ in range(100)])


def one_at_a_time(count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        client.submit(echo, TEXT, pure=False).result()
        taken.append(time.perf_counter() - began)
    return taken


def in_flight(count: int, flying: int) -> float:
    began = time.perf_counter()
    under_way = as_completed([client.submit(echo, TEXT, pure=False) for _ in range(flying)])
    sent = flying
    for _ in under_way:
        if sent < count:
            under_way.add(client.submit(echo, TEXT, pure=False))
            sent += 1
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


def pids() -> list[int]:
    import os

    return list(client.run(os.getpid).values())


if __name__ == "__main__":
    serve({each.__name__: each for each in (start, one_at_a_time, in_flight, new_worker, burst, map, pids)})
    if client is not None:
        client.cluster.close()
        client.close()
