"""`/metrics`: a page that Prometheus reads, whatever hosts say."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from motes.agent.core.tally import Tally
from motes.gateway.backend import Backend
from motes.gateway.daemon_counts import DaemonCounts
from motes.gateway.metrics import FRESH_S, Metrics
from motes.model.host import HostInstances, Load
from motes.model.instance import InstanceReport, InstanceState
from motes.model.totals import LATENCY_BOUNDS_S, Totals


class Hosts:
    """What the hosts answer, and how often they were asked."""

    def __init__(self, **hosts: HostInstances | None) -> None:
        self.hosts = hosts
        self.asked = 0

    async def look(self) -> dict[str, HostInstances | None]:
        self.asked += 1
        await asyncio.sleep(0)
        return self.hosts


def samples(hosts: Hosts) -> dict[tuple[str, ...], float]:
    page = asyncio.run(_page(hosts))
    found = [sample for family in text_string_to_metric_families(page.decode()) for sample in family.samples]
    order = ("host", "app", "workload", "state", "le")
    return {
        (sample.name, *(sample.labels[label] for label in order if label in sample.labels)): sample.value
        for sample in found
    }


async def _page(hosts: Hosts) -> bytes:
    return await Metrics(cast(Backend, hosts), DaemonCounts()).page()


def instance(app: str, state: InstanceState, memory: int = 10) -> InstanceReport:
    return InstanceReport(app, "f", "r", "h", 1, state, 0.0, 1, 0.5, memory)


def test_every_count_of_a_host_is_there() -> None:
    tally = Tally()
    tally.calls, tally.errors, tally.starts, tally.ended_cpu_s = 5, 1, 2, 1.5
    for seconds in (0.0005, 0.001, 0.3, 100.0):
        tally.note_took(seconds)
    instances = [
        instance("app", InstanceState.BUSY),
        instance("app", InstanceState.BUSY),
        instance("app", InstanceState.IDLE),
    ]
    told = HostInstances("h", instances, {"app.f": Load(7, 2, 1)}, {"app.f": tally.totals(0.5)})
    found = samples(Hosts(h=told, silent=None))
    expected = {
        ("motes_host_up", "h"): 1.0,
        ("motes_host_up", "silent"): 0.0,
        ("motes_calls_total", "h", "app", "f"): 5.0,
        ("motes_errors_total", "h", "app", "f"): 1.0,
        ("motes_starts_total", "h", "app", "f"): 2.0,
        ("motes_cpu_seconds_total", "h", "app", "f"): 2.0,
        ("motes_queue", "h", "app", "f"): 7.0,
        ("motes_memory_bytes", "h", "app", "f"): 30.0,
        ("motes_instances", "h", "app", "f", "busy"): 2.0,
        ("motes_instances", "h", "app", "f", "idle"): 1.0,
        ("motes_call_seconds_count", "h", "app", "f"): 4.0,
        ("motes_call_seconds_bucket", "h", "app", "f", "0.001"): 2.0,
        ("motes_call_seconds_bucket", "h", "app", "f", "0.5"): 3.0,
        ("motes_call_seconds_bucket", "h", "app", "f", "+Inf"): 4.0,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert sum(1 for key in found if key[0] == "motes_call_seconds_bucket") == len(LATENCY_BOUNDS_S) + 1


def test_of_a_daemon_no_calls_are_told_for_no_host_sees_them() -> None:
    lives = HostInstances("h", [], {"web.main": Load(idle=1)}, {"web.main": Totals(starts=2)}, ("web.main",))
    has_ended = HostInstances("h", [], {}, {"web.main": Totals(starts=2)})
    for daemon in (lives, has_ended):
        found = samples(Hosts(h=daemon))
        assert found["motes_starts_total", "h", "web", "main"] == 2.0
        of_calls = ("motes_calls", "motes_errors", "motes_call_seconds", "motes_queue")
        assert not [key for key in found if key[0].startswith(of_calls)]
    idle = HostInstances("h", [], {"app.f": Load()}, {"app.f": Totals(starts=1)})
    assert samples(Hosts(h=idle))["motes_calls_total", "h", "app", "f"] == 0.0


@pytest.mark.parametrize("address", ["", "app", "app.f.g", 'a"}\nmotes_calls_total 1', "x" * 100 + ".f", "."])
def test_a_host_that_lies_about_names_is_left_out_and_the_page_stays_whole(address: str) -> None:
    lies = HostInstances(
        "h", [instance(f"{address[:50]}!", InstanceState.IDLE)], {address: Load()}, {address: Totals(calls=9)}
    )
    fine = HostInstances("g", [], {}, {"app.f": Totals(calls=1)})
    found = samples(Hosts(h=lies, g=fine))
    assert found["motes_calls_total", "g", "app", "f"] == 1.0
    assert [key for key in found if key[1:2] == ("h",)] == [("motes_host_up", "h")]


@pytest.mark.parametrize(
    "lie", [{"memory_bytes": 10**400}, {"memory_bytes": -1}, {"cpu_s": float("nan")}, {"app": "x" * 200}]
)
def test_an_instance_with_absurd_numbers_is_no_answer(lie: dict[str, Any]) -> None:
    report = msgspec.to_builtins(instance("app", InstanceState.IDLE)) | lie
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"host": "h", "instances": [report]}, HostInstances)


def test_the_hosts_are_asked_once_however_many_look() -> None:
    hosts = Hosts(h=HostInstances("h", []))

    async def look() -> None:
        metrics = Metrics(cast(Backend, hosts), DaemonCounts())
        await asyncio.gather(*(metrics.page() for _ in range(20)))
        assert hosts.asked == 1
        await asyncio.sleep(FRESH_S)
        await metrics.page()
        assert hosts.asked == 2

    asyncio.run(look())
