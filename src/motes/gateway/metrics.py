"""`GET /metrics`: what every host says of itself, and what passed here to daemons, for Prometheus, whose library is
imported when it is first asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from motes.gateway.backend import Backend
from motes.gateway.daemon_counts import DaemonCounts
from motes.model.host import HostInstances
from motes.model.instance import InstanceState
from motes.model.names import is_workload
from motes.model.totals import LATENCY_BOUNDS_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
FRESH_S = 1.0
"""Asked more often, the hosts are not asked again."""
_LABELS = ("host", "app", "workload")


class Metrics:
    """The page, made anew when the last one is older than FRESH_S; many who ask at a time get one answer."""

    def __init__(self, backend: Backend, counts: DaemonCounts) -> None:
        self._backend = backend
        self._counts = counts
        self._page = b""
        self._made_at = float("-inf")
        self._gate = asyncio.Lock()

    async def page(self) -> bytes:
        """The page. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        async with self._gate:
            if loop.time() - self._made_at >= FRESH_S:
                self._page = _exposition(await self._backend.look(), self._counts)
                self._made_at = loop.time()
            return self._page


def _exposition(hosts: dict[str, HostInstances | None], counts: DaemonCounts) -> bytes:
    from prometheus_client import CollectorRegistry, generate_latest

    class Collector:
        def collect(self) -> Iterable[Any]:
            return (*_families(hosts), *_daemon_families(counts))

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return generate_latest(registry)


def _families(hosts: dict[str, HostInstances | None]) -> Iterable[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    up = GaugeMetricFamily("motes_host_up", "1 when the host answers.", labels=("host",))
    calls = CounterMetricFamily("motes_calls", "Calls answered, well or not.", labels=_LABELS)
    errors = CounterMetricFamily("motes_errors", "Calls answered with an error.", labels=_LABELS)
    starts = CounterMetricFamily("motes_starts", "Instances started.", labels=_LABELS)
    cpu = CounterMetricFamily("motes_cpu_seconds", "Processor time of instances.", labels=_LABELS)
    latency = HistogramMetricFamily(
        "motes_call_seconds",
        "From a call's arrival at the host to its instance's answer, or until its time was over.",
        labels=_LABELS,
    )
    queue = GaugeMetricFamily("motes_queue", "Calls that wait for an instance.", labels=_LABELS)
    memory = GaugeMetricFamily("motes_memory_bytes", "Private memory of instances.", labels=_LABELS)
    instances = GaugeMetricFamily("motes_instances", "Instances, by state.", labels=(*_LABELS, "state"))
    for host, told in sorted(hosts.items()):
        up.add_metric((host,), told is not None)
        if told is None:
            continue
        for address, totals in sorted(told.totals.items()):
            if not is_workload(address):
                continue
            labels = (host, *address.split("."))
            starts.add_metric(labels, totals.starts)
            cpu.add_metric(labels, totals.cpu_s)
            if address in told.daemons or (not totals.calls and address not in told.load):
                continue  # A daemon, or what may have been one.
            calls.add_metric(labels, totals.calls)
            errors.add_metric(labels, totals.errors)
            latency.add_metric(labels, _buckets(totals.buckets, totals.answers), totals.answered_s)
        for address, load in sorted(told.load.items()):
            if is_workload(address) and address not in told.daemons:
                queue.add_metric((host, *address.split(".")), load.queued)
        states: Counter[tuple[str, str, InstanceState]] = Counter()
        sizes: Counter[tuple[str, str]] = Counter()
        for each in told.instances:
            if not is_workload(f"{each.app}.{each.workload}"):
                continue
            states[each.app, each.workload, each.state] += 1
            sizes[each.app, each.workload] += each.memory_bytes
        for (app, workload, state), count in sorted(states.items()):
            instances.add_metric((host, app, workload, str(state)), count)
        for (app, workload), size in sorted(sizes.items()):
            memory.add_metric((host, app, workload), size)
    return up, calls, errors, starts, cpu, latency, queue, memory, instances


def _daemon_families(counts: DaemonCounts) -> Iterable[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    app = ("app",)
    connections = GaugeMetricFamily("motes_daemon_connections", "Clients' connections to daemons.", labels=app)
    requests = CounterMetricFamily("motes_daemon_requests", "HTTP requests that passed to daemons.", labels=app)
    failures = CounterMetricFamily(
        "motes_daemon_failures", "Connections that daemons did not take, or ended without an answer.", labels=app
    )
    begins = HistogramMetricFamily(
        "motes_daemon_seconds", "From a request to the first byte of its answer, or until it was given up.", labels=app
    )
    for name, count in sorted(counts.by_app.items()):
        connections.add_metric((name,), count.connections)
        requests.add_metric((name,), count.requests)
        failures.add_metric((name,), count.failures)
        begins.add_metric((name,), _buckets(count.buckets[:-1], count.answers), count.answered_s)
    return connections, requests, failures, begins


def _buckets(counts: Sequence[int], total: int) -> list[tuple[str, int]]:
    bounds = [str(bound) for bound in LATENCY_BOUNDS_S]
    return [*zip(bounds, accumulate(counts), strict=False), ("+Inf", total)]
