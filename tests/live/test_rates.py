"""Rates, times and use from two looks."""

from __future__ import annotations

import pytest

from motes.agent.core.tally import Tally
from motes.live.rates import Look, host_rows, quantile, rows_by_host, workload_row, workload_rows
from motes.model.host import HostInstances, HostStatus, Load, Offer
from motes.model.instance import InstanceReport, InstanceState
from motes.model.totals import LATENCY_BOUNDS_S, Totals


def instance(state: InstanceState, memory: int = 10) -> InstanceReport:
    return InstanceReport("app", "f", "r", "h", 1, state, 0.0, 1, 0.5, memory)


def host(totals: Totals, queued: int = 0, *instances: InstanceReport) -> HostInstances:
    return HostInstances("h", list(instances), {"app.f": Load(queued)}, {"app.f": totals})


def after(tally: Tally, calls: int, seconds: float, errors: int = 0, cpu_s: float = 0.0) -> Totals:
    tally.calls, tally.errors, tally.ended_cpu_s = tally.calls + calls, tally.errors + errors, tally.ended_cpu_s + cpu_s
    for _ in range(calls):
        tally.note_took(seconds)
    return tally.totals(0.0)


def test_rates_are_of_the_time_between_the_looks_on_all_hosts_together() -> None:
    one, two = Tally(), Tally()
    before = Look(10.0, {"a": host(after(one, 1000, 5.0)), "b": host(after(two, 10, 5.0))}, {})
    busy = instance(InstanceState.BUSY)
    now = Look(
        12.0,
        {
            "a": host(after(one, 99, 0.002, errors=4, cpu_s=1.0), 3, busy, instance(InstanceState.IDLE)),
            "b": host(after(two, 1, 3.0, cpu_s=2.0), 4, busy),
            "silent": None,
        },
        {},
    )
    (row,) = workload_rows(before, now)
    assert (row.name, row.calls_per_s, row.errors_per_s, row.cpus) == ("app.f", 50.0, 2.0, 1.5)
    assert (row.queue, row.busy, row.instances, row.memory_bytes) == (7, 2, 3, 30)
    assert row.p50_s is not None and 0.001 < row.p50_s < 0.0025
    assert row.p99_s is not None and row.p99_s < 0.01


def test_a_workload_is_told_apart_by_host_with_times_of_each() -> None:
    fast, slow, other = Tally(), Tally(), Tally()
    idle = instance(InstanceState.IDLE)
    before = Look(0.0, {"fast": host(after(fast, 5, 9.0)), "slow": host(after(slow, 5, 0.0001))}, {})
    elsewhere = HostInstances("c", [], {"b.g": Load(5)}, {"b.g": after(other, 1, 0.1)})
    now = Look(
        2.0,
        {
            "slow": host(after(slow, 20, 2.0, cpu_s=1.0), 3),
            "fast": host(after(fast, 80, 0.002), 0, idle),
            "elsewhere": elsewhere,
            "silent": None,
        },
        {},
    )
    quick, tardy = rows_by_host("app.f", before, now)
    assert (quick.name, quick.calls_per_s, quick.instances, quick.queue) == ("fast", 40.0, 1, 0)
    assert (tardy.name, tardy.calls_per_s, tardy.cpus, tardy.queue) == ("slow", 10.0, 0.5, 3)
    assert quick.p99_s is not None and quick.p99_s <= 0.0025
    assert tardy.p50_s is not None and tardy.p50_s > 1.0
    whole = workload_row("app.f", before, now)
    assert (whole.calls_per_s, whole.queue) == (50.0, 3)
    assert whole.p50_s is not None and whole.p99_s is not None and whole.p50_s < 0.01 < 1.0 < whole.p99_s
    (one,) = rows_by_host("b.g", before, now)
    assert (one.name, one.queue) == ("elsewhere", 5)


def test_an_agent_that_was_started_anew_counts_from_nothing() -> None:
    before = Look(0.0, {"a": host(after(Tally(), 1000, 0.1))}, {})
    now = Look(1.0, {"a": host(after(Tally(), 7, 0.1))}, {})
    (row,) = workload_rows(before, now)
    assert row.calls_per_s == 7.0


def test_one_that_only_waits_or_only_lives_is_shown_too() -> None:
    now = Look(1.0, {"a": HostInstances("a", [instance(InstanceState.STARTING)], {"b.g": Load(5)}, {})}, {})
    assert {(row.name, row.queue, row.instances, row.p50_s) for row in workload_rows(now, now)} == {
        ("app.f", 0, 1, None),
        ("b.g", 5, 0, None),
    }


@pytest.mark.parametrize(
    ("buckets", "answers", "part", "least", "most"),
    [
        ((), 0, 0.5, None, None),
        ((100,), 100, 0.5, 0.0, 0.001),
        ((50, 50), 100, 0.99, 0.001, 0.0025),
        ((), 5, 0.5, LATENCY_BOUNDS_S[-1], LATENCY_BOUNDS_S[-1]),
    ],
)
def test_a_quantile_lies_in_its_bucket(
    buckets: tuple[int, ...], answers: int, part: float, least: float | None, most: float | None
) -> None:
    found = quantile(buckets, answers, part)
    assert found is None if least is None or most is None else found is not None and least <= found <= most


def test_hosts_show_what_they_lend_and_what_of_it_is_used() -> None:
    status = HostStatus("a", 1, "up", Offer(2.0, 100, 10), {"cpu_s": 99.0, "memory_bytes": 5.0, "spaces": 2.0}, 2)
    tally = Tally()
    before = Look(0.0, {"a": host(after(tally, 1, 0.1, cpu_s=1.0))}, {"a": status})
    now = Look(2.0, {"a": host(after(tally, 1, 0.1, cpu_s=3.0))}, {"a": status})
    (row,) = host_rows(before, now)
    assert row == ("a", "up", 2, 10, 1.5, 2.0, 5, 100)
    (silent,) = host_rows(before, Look(2.0, {"a": None}, {"a": status}))
    assert silent.cpus == 0.0
