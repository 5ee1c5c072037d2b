"""A warm call of 100 bytes: alone, and 64 in flight, against bare and thin NATS in alternating rounds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from bench.cluster import Private, private_cluster
from bench.processes import Clock, Program, mean_cpu_us
from bench.result import Limits, Result, Series
from bench.statistics import percentile

BODY = b'"' + b"x" * 98 + b'"'
US = 1e6

Call = Callable[[], Awaitable[object]]


class Contender:
    """One way to make a call, with the processes that take part in it."""

    def __init__(self, name: str, call: Call, groups: dict[str, list[int]]) -> None:
        self.series = Series(name, [])
        self.call = call
        self.groups = {"caller": [os.getpid()], **groups}
        self.pooled: list[float] = []
        self.spent: list[dict[str, float]] = []


@contextlib.asynccontextmanager
async def _contenders(flying: int, count: int) -> AsyncIterator[list[Contender]]:
    """Ours, bare NATS and thin NATS, all on one nats-server, warmed up."""
    async with private_cluster() as cluster, Program("nats_echo") as bare_echo, Program("nats_echo") as thin_echo:
        await cluster.deploy("work")
        bare, thin = await _peers(cluster, bare_echo, thin_echo)
        # Instances for calls that overlap are there before the clock runs, which reads only those.
        await _in_flight(lambda: cluster.client.call_bytes("work", "echo", BODY), flying, count)
        processes = cluster.processes()
        ours = {"nats-server": [processes["nats-server"]], "agent": [processes["agent-local"]]}
        ours["instances"] = await cluster.instance_pids("echo")
        servers = {"nats-server": [processes["nats-server"]]}
        yield [
            Contender("Motes", lambda: cluster.client.call_bytes("work", "echo", BODY), ours),
            Contender("bare NATS", lambda: bare(BODY), servers | {"echo": [bare_echo.pid]}),
            Contender("thin NATS", lambda: thin(BODY), servers | {"echo": [thin_echo.pid]}),
        ]


async def _peers(
    cluster: Private, bare_echo: Program, thin_echo: Program
) -> tuple[Callable[[bytes], Awaitable[None]], ...]:
    keeper = list(cluster.home.credentials("keeper"))
    await bare_echo.ask("bare", url=cluster.nats_url, credentials=keeper, subject="bench.bare")
    await thin_echo.ask("thin", url=cluster.nats_url, credentials=keeper, subject="bench.thin")
    bare, thin = await cluster.bare("bench.bare"), await cluster.thin("bench.thin")
    return bare.call, thin.call


async def alone(rounds: int = 12, count: int = 600) -> list[Result]:
    """One call at a time."""
    async with _contenders(1, count) as contenders:
        for number in range(rounds + 1):
            for contender in contenders:
                taken = await _one_at_a_time(contender, count)
                if number:
                    contender.pooled += taken
                    contender.series.values.append(percentile(taken, 50) * US)
    for contender in contenders:
        _conclude(contender)
        contender.series.p50 = percentile(contender.pooled, 50) * US
        contender.series.p99 = percentile(contender.pooled, 99) * US
    ours, *peers = (contender.series for contender in contenders)
    return [Result("call", "call p50, 100 B, through the cluster", "us", ours, peers, Limits(1.5, 1.0))]


async def _one_at_a_time(contender: Contender, count: int) -> list[float]:
    clock, taken = Clock(contender.groups), []
    for _ in range(count):
        began = time.perf_counter()
        await contender.call()
        taken.append(time.perf_counter() - began)
    contender.spent.append(clock.spent_us(count))
    return taken


async def in_flight(rounds: int = 9, count: int = 12000, flying: int = 64) -> list[Result]:
    """Calls a second with 64 under way."""
    async with _contenders(flying, count) as contenders:
        for number in range(rounds + 1):
            for contender in contenders:
                clock = Clock(contender.groups)
                seconds = await _in_flight(contender.call, flying, count)
                if number:
                    contender.spent.append(clock.spent_us(count))
                    contender.series.values.append(count / seconds)
    for contender in contenders:
        _conclude(contender)
    ours, *peers = (contender.series for contender in contenders)
    what = f"calls/s, {flying} in flight"
    limits = Limits(0.5, 1.0, better="more")
    note = f"{len(contenders[0].groups['instances'])} instances"
    return [Result("calls-per-second", what, "/s", ours, peers, limits, note)]


async def _in_flight(call: Call, flying: int, count: int) -> float:
    async def worker() -> None:
        for _ in range(count // flying):
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(flying)))
    return time.perf_counter() - began


async def between_functions(rounds: int = 12, count: int = 1000) -> list[Result]:
    """A function calls another on its host, one at a time, against an echo over a unix socket."""
    ours, peer = Series("Motes", []), Series("unix socket echo", [])
    text = BODY.decode().strip('"')
    async with private_cluster() as cluster, Program("forks") as forks:
        await cluster.deploy("work")
        # The host holds a lease for it from now on: its calls from functions here stay here.
        await cluster.client.call("work.echo", text)
        pooled: list[list[float]] = [[], []]
        for number in range(rounds + 1):
            for each, series, taken in (
                (0, ours, await cluster.client.call("work.caller", text, count)),
                (1, peer, await forks.ask("round_trips", count=count)),
            ):
                if number:
                    pooled[each] += taken
                    series.values.append(percentile(taken, 50) * US)
    for series, taken in zip((ours, peer), pooled, strict=True):
        series.p50, series.p99 = percentile(taken, 50) * US, percentile(taken, 99) * US
    what = "function to function on one host, p50, 100 B"
    return [Result("between-functions", what, "us", ours, [peer], Limits(2.0, 1.3))]


def _conclude(contender: Contender) -> None:
    contender.series.cpu_us = mean_cpu_us(contender.spent)
