"""Ray: actors for calls, tasks for bursts and maps. On loopback only, without a dashboard."""

from __future__ import annotations

import os
import time
from typing import Any

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
import psutil  # type: ignore[import-untyped,import-not-found,unused-ignore]
import ray  # type: ignore[import-not-found,unused-ignore]
from ray._private import services  # type: ignore[import-not-found,unused-ignore]
from ray.cluster_utils import Cluster  # type: ignore[import-not-found,unused-ignore]

from bench.beside.work import TEXT, echo, nap, stamp
from bench.programs.serving import serve

# Told 127.0.0.1, Ray looks for an address that others can reach, and listens there.
services.resolve_ip_for_localhost = services.get_node_ip_address = lambda *_, **__: "127.0.0.1"


class Echo:
    def echo(self, text: str) -> str:
        return echo(text)

    def pid(self) -> int:
        return os.getpid()


actors: list[Any] = []
Actor: Any = ray.remote(num_cpus=0)(Echo)
remote_echo = ray.remote(num_cpus=0.5)(echo)
remote_nap = ray.remote(num_cpus=0)(nap)
remote_stamp = ray.remote(num_cpus=1)(stamp)
cluster: Any = None


def start(hosts: int = 1) -> None:
    """Several hosts are so many raylets with room for two tasks each, and one without for the head and the driver."""
    global cluster
    if hosts > 1:
        node = {"node_ip_address": "127.0.0.1", "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **node})
        for _ in range(hosts):
            cluster.add_node(num_cpus=2, **node)
        ray.init(cluster.address, _node_ip_address="127.0.0.1", log_to_driver=False)
        ray.get([remote_stamp.remote(0.1) for _ in range(40)])
        return
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    actors.extend(Actor.remote() for _ in range(4))
    ray.get([actor.echo.remote(TEXT) for actor in actors])


def one_at_a_time(count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        ray.get(actors[0].echo.remote(TEXT))
        taken.append(time.perf_counter() - began)
    return taken


def in_flight(count: int, flying: int) -> float:
    began = time.perf_counter()
    under_way = [actors[number % 4].echo.remote(TEXT) for number in range(flying)]
    for number in range(count - flying):
        _, under_way = ray.wait(under_way)
        under_way.append(actors[number % 4].echo.remote(TEXT))
    ray.get(under_way)
    return time.perf_counter() - began


def new_worker() -> float:
    began = time.perf_counter()
    actor = Actor.remote()
    ray.get(actor.echo.remote(TEXT))
    taken = time.perf_counter() - began
    ray.kill(actor)
    return taken


def burst(count: int, seconds: float) -> float:
    began = time.perf_counter()
    ray.get([remote_nap.remote(seconds) for _ in range(count)])
    return time.perf_counter() - began


def map(count: int) -> float:
    began = time.perf_counter()
    ray.get([remote_echo.remote(TEXT) for _ in range(count)])
    return time.perf_counter() - began


def stamps(count: int, seconds: float, within_s: float) -> list[float | None]:
    """Tasks are tried again three times unless told otherwise."""
    tasks = [remote_stamp.remote(seconds) for _ in range(count)]
    ready, _ = ray.wait(tasks, num_returns=count, timeout=within_s)
    answered = set(ready)
    return [_result(task) if task in answered else None for task in tasks]


def _result(task: Any) -> float | None:
    try:
        return float(ray.get(task))
    except ray.exceptions.RayError:
        return None


def victims(what: str) -> list[int]:
    """Of one host: its raylet with all that it started, or a worker (idle is its name now)."""
    host = next(iter(cluster.worker_nodes))
    raylet = psutil.Process(host.all_processes["raylet"][0].process.pid)
    started = raylet.children(recursive=True)
    if what == "host":
        return [raylet.pid, *(each.pid for each in started)]
    return [each.pid for each in started if each.name() == "ray::IDLE"][:1]


def pids() -> list[int]:
    return list(ray.get([actor.pid.remote() for actor in actors]))


COMMANDS = (start, one_at_a_time, in_flight, new_worker, burst, map, pids, stamps, victims)

if __name__ == "__main__":
    serve({each.__name__: each for each in COMMANDS})
    ray.shutdown()
    if cluster is not None:
        cluster.shutdown()
