"""What `motes top` shows, from two looks at the hosts: rates, times, use. A core: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from motes.model.host import HostInstances, HostStatus
from motes.model.instance import InstanceReport, InstanceState
from motes.model.totals import LATENCY_BOUNDS_S, Totals


class Look(NamedTuple):
    """What the hosts said at a time, in seconds of any clock; None: no answer."""

    at: float
    hosts: Mapping[str, HostInstances | None]
    statuses: Mapping[str, HostStatus]


class WorkloadRow(NamedTuple):
    """One workload, on all hosts or on one: `name` is its address, or the host's name.

    Rates are of the time between the looks; times None: no call was answered in it.
    """

    name: str
    calls_per_s: float
    errors_per_s: float
    p50_s: float | None
    p99_s: float | None
    queue: int
    busy: int
    instances: int
    cpus: float
    """Processors in use: 1.0 is one whole."""
    memory_bytes: int


class HostRow(NamedTuple):
    name: str
    state: str
    spaces: int
    spaces_lent: int
    cpus: float
    cpus_lent: float
    memory_bytes: int
    memory_lent_bytes: int


def workload_rows(before: Look, now: Look) -> list[WorkloadRow]:
    """Every workload that has an instance, a waiting call or a past on some host; the busiest first."""
    told = [host for host in now.hosts.values() if host is not None]
    addresses = {address for host in told for address in (*host.totals, *host.load)}
    addresses |= {address_of(each) for host in told for each in host.instances}
    rows = [workload_row(address, before, now) for address in addresses]
    return sorted(rows, key=lambda row: (-row.calls_per_s, -row.cpus, row.name))


def workload_row(address: str, before: Look, now: Look) -> WorkloadRow:
    """One workload on all hosts together."""
    return _row(address, address, before, now, list(now.hosts))


def rows_by_host(address: str, before: Look, now: Look) -> list[WorkloadRow]:
    """One workload on each host that knows of it, by the host's name."""
    known = [
        name
        for name, host in sorted(now.hosts.items())
        if host is not None
        and (
            address in host.totals
            or address in host.load
            or any(address_of(each) == address for each in host.instances)
        )
    ]
    return [_row(name, address, before, now, [name]) for name in known]


def address_of(instance: InstanceReport) -> str:
    return f"{instance.app}.{instance.workload}"


def _row(name: str, address: str, before: Look, now: Look, hosts: Iterable[str]) -> WorkloadRow:
    seconds = max(now.at - before.at, 1e-3)
    told = {each: host for each in hosts if (host := now.hosts.get(each)) is not None}
    grown = [
        _growth(_totals(before.hosts.get(each), address), host.totals[address])
        for each, host in told.items()
        if address in host.totals
    ]
    buckets = [sum(column) for column in zip(*(each.buckets for each in grown), strict=False)]
    answers = sum(each.answers for each in grown)
    instances = [each for host in told.values() for each in host.instances if address_of(each) == address]
    return WorkloadRow(
        name,
        sum(each.calls for each in grown) / seconds,
        sum(each.errors for each in grown) / seconds,
        quantile(buckets, answers, 0.5),
        quantile(buckets, answers, 0.99),
        sum(host.load[address].queued for host in told.values() if address in host.load),
        sum(1 for each in instances if each.state == InstanceState.BUSY),
        len(instances),
        sum(each.cpu_s for each in grown) / seconds,
        sum(each.memory_bytes for each in instances),
    )


def _totals(host: HostInstances | None, address: str) -> Totals:
    return Totals() if host is None else host.totals.get(address, Totals())


def _growth(before: Totals, now: Totals) -> Totals:
    """What came to it; an agent that was started anew counts from nothing."""
    if now.calls < before.calls or now.answers < before.answers:
        before = Totals()
    empty = (0,) * len(now.buckets)
    return Totals(
        now.calls - before.calls,
        max(now.errors - before.errors, 0),
        max(now.starts - before.starts, 0),
        max(now.cpu_s - before.cpu_s, 0.0),
        now.answers - before.answers,
        0.0,
        tuple(max(new - old, 0) for new, old in zip(now.buckets, before.buckets or empty, strict=False)),
    )


def quantile(buckets: Iterable[int], answers: int, part: float) -> float | None:
    """The time within which this part of the answers came, as well as a histogram tells; None without answers."""
    if answers <= 0:
        return None
    below, lower_s = 0, 0.0
    for count, upper_s in zip(buckets, LATENCY_BOUNDS_S, strict=False):
        if count and below + count >= part * answers:
            return lower_s + (upper_s - lower_s) * (part * answers - below) / count
        below, lower_s = below + count, upper_s
    return LATENCY_BOUNDS_S[-1]


def host_rows(before: Look, now: Look) -> list[HostRow]:
    """Every host, by name."""
    seconds = max(now.at - before.at, 1e-3)
    rows = []
    for name, status in sorted(now.statuses.items()):
        memory_bytes = int(status.used.get("memory_bytes", 0))
        lends, cpus = status.lends, _cpu_s(name, before, now) / seconds
        spaces = status.spaces, lends.spaces
        rows.append(HostRow(name, status.state, *spaces, cpus, lends.cpus, memory_bytes, lends.memory_bytes))
    return rows


def _cpu_s(name: str, before: Look, now: Look) -> float:
    """What a host's instances used between the looks; its reports do not tell, for they come at times of their own."""
    told = now.hosts.get(name)
    totals = {} if told is None else told.totals
    earlier = before.hosts.get(name)
    return sum(_growth(_totals(earlier, address), each).cpu_s for address, each in totals.items())
