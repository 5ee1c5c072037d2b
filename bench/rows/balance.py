"""Short jobs among long ones: how close four instances behind one queue come to the ideal."""

from __future__ import annotations

import asyncio

from bench.cluster import Private, private_cluster
from bench.fifo import Job, ideal_sojourns, poisson_jobs
from bench.result import Limits, Result, Series
from bench.statistics import percentile

SHORT_S, LONG_S, LONG_SHARE = 0.005, 0.1, 0.1
SERVERS, LOAD = 4, 0.7
MS = 1000.0


async def balance(rounds: int = 3, count: int = 1500) -> list[Result]:
    """p99 of the 5 ms jobs against one ideal FIFO with the same arrivals."""
    ours, ideal = Series("Motes", []), Series("ideal FIFO, simulated", [])
    async with private_cluster() as cluster:
        await cluster.deploy("jobs")
        await cluster.until(lambda: _all_there(cluster))
        for seed in range(rounds):
            jobs = poisson_jobs(seed, count, SERVERS, LOAD, SHORT_S, LONG_S, LONG_SHARE)
            ours.values.append(_p99_of_short(jobs, await _run(cluster, jobs)) * MS)
            ideal.values.append(_p99_of_short(jobs, ideal_sojourns(jobs, SERVERS)) * MS)
    what = "p99 of 5 ms jobs among 10 % of 100 ms, 70 % load, 4 instances"
    return [Result("balance", what, "ms", ours, [ideal], Limits(1.3, 1.1))]


async def _all_there(cluster: Private) -> bool:
    return len(await cluster.instance_pids("job")) == SERVERS


async def _run(cluster: Private, jobs: list[Job]) -> list[float]:
    """Send each job at its time, whatever became of the others; seconds from then to its reply."""
    loop = asyncio.get_running_loop()
    began = loop.time() + 0.05

    async def send(job: Job) -> float:
        await asyncio.sleep(max(began + job.arrival_s - loop.time(), 0))
        await cluster.client.call("jobs.job", job.service_s)
        return loop.time() - began - job.arrival_s

    return await asyncio.gather(*map(send, jobs))


def _p99_of_short(jobs: list[Job], sojourns: list[float]) -> float:
    return percentile([taken for job, taken in zip(jobs, sojourns, strict=True) if job.service_s == SHORT_S], 99)
