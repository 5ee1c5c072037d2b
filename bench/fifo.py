"""Jobs for a balancing test, and the best that any balancing could do with them: one queue before all servers."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from random import Random
from typing import NamedTuple


class Job(NamedTuple):
    """One job: when it arrives and how long it takes, in seconds."""

    arrival_s: float
    service_s: float


def poisson_jobs(
    seed: int, count: int, servers: int, load: float, short_s: float, long_s: float, long_share: float
) -> list[Job]:
    """Jobs with random arrivals that keep `servers` busy for the part `load` of their time."""
    random = Random(seed)
    mean_s = short_s * (1 - long_share) + long_s * long_share
    rate = servers * load / mean_s
    jobs, now_s = [], 0.0
    for _ in range(count):
        now_s += random.expovariate(rate)
        jobs.append(Job(now_s, long_s if random.random() < long_share else short_s))
    return jobs


def ideal_sojourns(jobs: Sequence[Job], servers: int) -> list[float]:
    """Seconds from arrival to end of each job, in order: first come first served, no cost of its own."""
    free_at = [0.0] * servers
    sojourns = []
    for job in jobs:
        begins_s = max(job.arrival_s, heapq.heappop(free_at))
        heapq.heappush(free_at, begins_s + job.service_s)
        sojourns.append(begins_s + job.service_s - job.arrival_s)
    return sojourns
