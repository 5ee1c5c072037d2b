"""Each start that was told gets its end, also when the host could not tell it; reports that come late say nothing."""

from __future__ import annotations

import itertools

from controller.keeper_bench import Bench, new_core
from motes.controller.core.running import MOST_RUNNING, TOLD_BURST, TOLD_PER_S
from motes.controller.core.scheduler import LOST_S
from motes.model.host import Lease
from motes.model.instance import Event


def started(host: str, pid: int) -> Event:
    return Event(0.0, "instance.start", "load", host, "app", "f", "r1", pid)


def ended(host: str, pid: int) -> Event:
    return Event(0.0, "instance.end", "idle", host, "app", "f", "r1", pid)


def ends(bench: Bench) -> list[tuple[int, str]]:
    return [(told.pid, str(told.reason)) for told in bench.told("instance.end")]


def test_what_ended_while_its_host_was_not_heard_is_told() -> None:
    bench = Bench("a")
    for pid in (7, 8, 9):
        bench.core.on_event(started("a", pid))
    bench.hosts["a"].running = {"app.f": [8]}
    bench.report()
    assert ends(bench) == [(7, "unheard"), (9, "unheard")]
    assert {(told.app, told.workload, told.release) for told in bench.told("instance.end")} == {("app", "f", "r1")}
    bench.report()
    assert len(ends(bench)) == 2


def test_what_started_while_its_host_was_not_heard_is_told_and_so_is_its_end() -> None:
    bench = Bench("a")
    bench.hosts["a"].running = {"app.f": [7]}
    bench.report()
    assert [(told.pid, told.app, told.workload) for told in bench.told("instance.start")] == [(7, "app", "f")]
    bench.hosts["a"].running = {}
    bench.report()
    assert ends(bench) == [(7, "unheard")]


def test_a_lost_host_that_returns_has_its_instances_told_again() -> None:
    bench = Bench("a")
    bench.core.on_event(started("a", 7))
    bench.hosts["a"].running = {"app.f": [7]}
    bench.wait(LOST_S + 1, "a")
    assert ends(bench) == [(7, "host_lost")]
    bench.report()
    assert [(told.pid, str(told.reason)) for told in bench.told("instance.start")] == [(7, "back")]


def test_a_new_controller_tells_no_starts_of_before_it_and_every_end() -> None:
    bench = Bench(core=new_core(10))
    told = [started("a", 7), started("a", 8), ended("a", 8), started("gone", 9)]
    bench.core.remember(told)
    bench.join("a", running={"app.f": [5]})
    assert ends(bench) == [(7, "unheard")] and not bench.told("instance.start")
    bench.wait(LOST_S + 1)
    assert ends(bench) == [(7, "unheard"), (9, "host_lost")]
    bench.hosts["a"].running = {}
    bench.report()
    assert ends(bench)[-1] == (5, "unheard")


def test_what_happens_while_a_new_controller_reads_what_was_told_is_told_once() -> None:
    bench = Bench("a", "b", core=new_core(10))
    bench.hosts["a"].running = {"app.f": [5, 6]}
    bench.report("a")
    for event in (ended("a", 4), ended("a", 5), started("b", 8)):
        bench.core.on_event(event)
    bench.hosts["a"].running = {}
    bench.report("a")
    bench.do(bench.core.on_left("b", bench.now))
    assert ends(bench) == [(6, "unheard"), (8, "host_lost")]
    bench.core.remember([started("a", pid) for pid in (3, 4, 5, 6)] + [started("b", 8), started("b", 9)])
    bench.report("a")
    bench.wait(LOST_S + 1, "b")
    assert ends(bench) == [(6, "unheard"), (8, "host_lost"), (3, "unheard"), (9, "host_lost")]


def test_a_host_that_names_more_processes_than_it_can_have_is_remembered_in_part() -> None:
    bench = Bench("a")
    bench.hosts["a"].running = {"app.f": list(range(1, MOST_RUNNING + 500))}
    bench.report()
    assert len(bench.told("instance.start")) == MOST_RUNNING


def test_a_host_that_makes_up_starts_and_ends_without_end_has_only_so_many_told() -> None:
    bench = Bench("a")
    pids = iter(range(1, 10**9))
    for _ in range(10):
        bench.hosts["a"].running = {"app.f": list(itertools.islice(pids, MOST_RUNNING))}
        bench.report()
    told = len(bench.told("instance.start")) + len(bench.told("instance.end"))
    assert told <= TOLD_BURST + 1 and bench.core.running.pids("a") == set(bench.hosts["a"].running["app.f"])
    bench.wait(1.0, "a")
    bench.hosts["a"].running = {}
    bench.report()
    assert 0 < len(bench.told("instance.start")) + len(bench.told("instance.end")) - told <= TOLD_PER_S + 2


# ---------------------------------------------------------------------- late reports


def test_a_report_that_comes_late_is_ignored() -> None:
    bench = Bench("a")
    bench.deploy()
    early = bench.hosts["a"].report()
    bench.activate()
    bench.report()
    count = len(bench.effects)
    bench.do(bench.core.on_report(early, bench.now))
    assert len(bench.effects) == count and bench.core.state.held("a", "app.f") is not None


def test_a_report_that_comes_after_its_hosts_end_does_not_bring_it_back() -> None:
    bench = Bench("a")
    late, last = bench.hosts["a"].report(), bench.hosts["a"].report()
    bench.do(bench.core.on_report(last, bench.now))
    bench.do(bench.core.on_gone("a", bench.now))
    for report in (late, last):
        bench.do(bench.core.on_report(report, bench.now))
        assert not bench.core.state.hosts["a"].lives


def test_a_report_of_an_earlier_boot_is_ignored_while_the_later_one_is_heard() -> None:
    bench = Bench("a")
    bench.report()
    late = bench.hosts["a"].report()
    bench.hosts["a"].boot = 2
    bench.report()
    bench.do(bench.core.on_report(late, bench.now))
    assert bench.core.state.hosts["a"].report.boot == "2"


def test_a_host_whose_clock_went_back_between_two_boots_is_heard_once_the_first_has_ended() -> None:
    bench = Bench("a")
    bench.hosts["a"].boot = 2
    bench.report()
    bench.do(bench.core.on_gone("a", bench.now))
    bench.hosts["a"].boot = 1
    bench.report()
    assert bench.core.state.hosts["a"].report.boot == "1"


def test_also_a_new_controller_ignores_the_earlier_of_two_reports() -> None:
    old = Bench("a")
    held = Lease("a", "app", "f", "r1", 100, 0, 7)
    early = old.hosts["a"].report()
    old.hosts["a"].leases["app.f"] = held
    new = Bench(core=new_core(10))
    new.hosts = old.hosts
    new.deploy()
    new.report()
    new.do(new.core.on_report(early, new.now))
    assert new.ceilings() == {"a": 100} and new.core.state.held("a", "app.f") is not None
