"""A daemon in a space, reached through the gateway, against the same daemon bare; and one on another machine."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

from bench.cluster import APPS, Private, private_cluster
from bench.processes import Clock, Program, mean_cpu_us
from bench.result import Limits, Result, Series
from bench.rows.machines import FAR, absent, pair
from bench.statistics import median
from lab import namespaces
from motes.client.cluster import Cluster
from motes.client.deploy import deploy
from motes.client.placing import Placing
from motes.space.measure import processes_below

CONNECTIONS = 16
PAGE, LEAN = "page", "lean"
COUNTS = {(PAGE, True): 4_000, (PAGE, False): 2_000, (LEAN, True): 20_000, (LEAN, False): 3_000}
FAR_COUNTS = {True: 4_000, False: 1_000}
WORDS = {PAGE: "a small app that makes a page", LEAN: "one that does nothing but answer"}
PORT = 8000
MS = 1000.0
LIMITS = {True: Limits(0.8, 1.0, better="more"), False: Limits(0.5, 0.7, better="more")}


class Place:
    """Where requests go, and the processes that serve them; `short` is its name where there is little room."""

    def __init__(self, name: str, short: str, port: int, host: str, groups: dict[str, list[int]]) -> None:
        self.name = name
        self.short = short
        self.port = port
        self.host = host
        self.groups = groups


async def http(rounds: int = 5) -> list[Result]:
    """Two kinds of daemon, each with keep-alive and with a new connection for each request."""
    async with private_cluster() as cluster, Program("http_load") as client:
        return [each for daemon in (PAGE, LEAN) for each in await _one_daemon(cluster, client, daemon, rounds)]


async def far(rounds: int = 5) -> list[Result]:
    """A daemon on a machine that joined, reached through that machine's one connection, against one on the keeper's."""
    what = "HTTP to a daemon on another machine (one that does nothing but answer)"
    if why := namespaces.why_not():
        return [absent("http-far", what, why)]
    async with pair() as both, Program("http_load") as client:
        places = []
        for app, name, host, home in (
            ("away", "Motes", FAR, both.machine),
            ("here", "on the keeper's", "local", both.home),
        ):
            await both.motes("host", "name", app, host)
            command = ("python", f"{LEAN}.py", str(PORT))
            placing = Placing(place=(f"named:{app}",))
            await deploy(both.client, APPS / f"{LEAN}.py", name=app, command=command, port=PORT, placing=placing)
            groups = {
                "gateway": [both.pid(both.home, "gateway")],
                "nats-server": [both.pid(both.home, "nats-server")],
                "agent": [both.pid(home, f"agent-{host}")],
                "daemon": await _processes(both.client, app),
                "client": [client.pid],
            }
            places.append(_behind(both.home.cluster()["http"], app, name, groups))
        return [
            await _compare(client, places, ("http-far", what), FAR_COUNTS[keep_alive], keep_alive, rounds)
            for keep_alive in (True, False)
        ]


async def _one_daemon(cluster: Private, client: Program, daemon: str, rounds: int) -> list[Result]:
    await cluster.deploy(daemon, command=("python", f"{daemon}.py", str(PORT)), port=PORT)
    what = f"HTTP to a daemon in a space ({WORDS[daemon]})"
    with _bare_daemon(daemon) as bare:
        processes = cluster.processes()
        groups = {
            "gateway": [processes["gateway"]],
            "agent": [processes["agent-local"]],
            "daemon": await _processes(cluster.client, daemon),
        }
        places = [_behind(cluster.http, daemon, "Motes", groups), bare]
        for place in places:
            place.groups["client"] = [client.pid]
        return [
            await _compare(client, places, ("http", what), COUNTS[daemon, keep_alive], keep_alive, rounds, limits)
            for keep_alive, limits in LIMITS.items()
        ]


async def _compare(
    client: Program,
    places: list[Place],
    row: tuple[str, str],
    count: int,
    keep_alive: bool,
    rounds: int,
    limits: Limits | None = None,
) -> Result:
    """The first place against the second; the row is given by its name and what it is about."""
    figures = [Series(place.name, []) for place in places]
    spent: list[list[dict[str, float]]] = [[] for _ in places]
    told: list[list[dict[str, float]]] = [[] for _ in places]
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
    ours, theirs = ({key: median([each[key] for each in all_]) * MS for key in ("p50_s", "p99_s")} for all_ in told)
    way = "keep-alive" if keep_alive else "new connection each"
    note = (
        f"{CONNECTIONS} at a time; p50/p99 {ours['p50_s']:.1f}/{ours['p99_s']:.1f} ms, "
        f"{places[1].short} {theirs['p50_s']:.1f}/{theirs['p99_s']:.1f} ms"
    )
    name, what = row
    return Result(name, f"{what}, {way}", "/s", figures[0], [figures[1]], limits, note)


def _behind(http: str, app: str, name: str, groups: dict[str, list[int]]) -> Place:
    """An app's daemon behind the gateway."""
    port = urlsplit(http).port
    assert port is not None
    return Place(name, name, port, f"{app}.localhost:{port}", groups)


async def _processes(client: Cluster, app: str) -> list[int]:
    """Of an app whose daemon serves, since its deploy has returned."""
    (daemon,) = [each.pid for each in await client.instances() if each.app == app]
    return processes_below(daemon)


@contextlib.contextmanager
def _bare_daemon(name: str) -> Iterator[Place]:
    command = [sys.executable, str(APPS / f"{name}.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            yield Place("the daemon bare", "bare", port, f"127.0.0.1:{port}", {"daemon": [process.pid]})
        finally:
            process.terminate()
