"""A daemon in a space, reached through the gateway, against the same daemon bare."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

from bench.cluster import APPS, Private, private_cluster
from bench.processes import Clock, Program, mean_cpu_us
from bench.result import Limits, Result, Series
from bench.statistics import median
from motes.space.measure import processes_below

CONNECTIONS = 16
PAGE, LEAN = "page", "lean"
COUNTS = {(PAGE, True): 4_000, (PAGE, False): 2_000, (LEAN, True): 20_000, (LEAN, False): 3_000}
WORDS = {PAGE: "a small app that makes a page", LEAN: "one that does nothing but answer"}
PORT = 8000
MS = 1000.0


class Place:
    """Where requests go, and the processes that serve them."""

    def __init__(self, name: str, port: int, host: str, groups: dict[str, list[int]]) -> None:
        self.name = name
        self.port = port
        self.host = host
        self.groups = groups


async def http(rounds: int = 5) -> list[Result]:
    """Two kinds of daemon, each with keep-alive and with a new connection for each request."""
    async with private_cluster() as cluster, Program("http_load") as client:
        return [each for daemon in (PAGE, LEAN) for each in await _one_daemon(cluster, client, daemon, rounds)]


async def _one_daemon(cluster: Private, client: Program, daemon: str, rounds: int) -> list[Result]:
    await cluster.deploy(daemon, command=("python", f"{daemon}.py", str(PORT)), port=PORT)
    with _bare_daemon(daemon) as bare:
        places = [await _through_the_gateway(cluster, daemon), bare]
        for place in places:
            place.groups["client"] = [client.pid]
        return [
            await _compare(client, places, daemon, True, rounds, Limits(0.8, 1.0, better="more")),
            await _compare(client, places, daemon, False, rounds, Limits(0.5, 0.7, better="more")),
        ]


async def _compare(
    client: Program, places: list[Place], daemon: str, keep_alive: bool, rounds: int, limits: Limits
) -> Result:
    figures = [Series(place.name, []) for place in places]
    spent: list[list[dict[str, float]]] = [[] for _ in places]
    told: list[list[dict[str, float]]] = [[] for _ in places]
    count = COUNTS[daemon, keep_alive]
    for number in range(rounds + 1):
        for index, place in enumerate(places):
            clock = Clock(place.groups)
            answer = await client.ask(
                "run", port=place.port, host=place.host, connections=CONNECTIONS, count=count, keep_alive=keep_alive
            )
            if number:
                spent[index].append(clock.spent_us(count))
                told[index].append(answer)
                figures[index].values.append(answer["per_s"])
    for index, series in enumerate(figures):
        series.cpu_us = mean_cpu_us(spent[index])
    ours, bare = ({key: median([each[key] for each in all_]) * MS for key in ("p50_s", "p99_s")} for all_ in told)
    way = "keep-alive" if keep_alive else "new connection each"
    note = (
        f"{CONNECTIONS} at a time; p50/p99 {ours['p50_s']:.1f}/{ours['p99_s']:.1f} ms, "
        f"bare {bare['p50_s']:.1f}/{bare['p99_s']:.1f} ms"
    )
    return Result(
        "http", f"HTTP to a daemon in a space ({WORDS[daemon]}), {way}", "/s", figures[0], [figures[1]], limits, note
    )


async def _through_the_gateway(cluster: Private, name: str) -> Place:
    processes = cluster.processes()
    await cluster.until(lambda: _is_up(cluster, name))
    (daemon,) = [each.pid for each in await cluster.client.instances() if each.app == name]
    port = urlsplit(cluster.http).port
    assert port is not None
    groups = {
        "gateway": [processes["gateway"]],
        "agent": [processes["agent-local"]],
        "daemon": processes_below(daemon),
    }
    return Place("Motes", port, f"{name}.localhost:{port}", groups)


async def _is_up(cluster: Private, name: str) -> bool:
    return any(each.app == name and each.pid for each in await cluster.client.instances())


@contextlib.contextmanager
def _bare_daemon(name: str) -> Iterator[Place]:
    command = [sys.executable, str(APPS / f"{name}.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            yield Place("the daemon bare", port, f"127.0.0.1:{port}", {"daemon": [process.pid]})
        finally:
            process.terminate()
