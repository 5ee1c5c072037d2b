"""The controller's core: hosts, apps, routes and time."""

from __future__ import annotations

import pytest

from controller.keeper_bench import Bench, function, new_core
from motes.controller.core.scheduler import FORGET_S, LOST_S, SETTLE_S
from motes.controller.core.summary import has_taken_over, statuses, summaries
from motes.errors import NotFound, Unavailable
from motes.model.host import SILENCE_S, Beat, Load
from motes.model.instance import Event
from motes.model.release import Daemon


def started(host: str, pid: int) -> Event:
    return Event(0.0, "instance.start", "load", host, "app", "f", "r1", pid)


# ---------------------------------------------------------------------- hosts


def test_a_host_that_joins_leaves_and_is_lost_is_told_with_the_reason() -> None:
    bench = Bench("a", "b", "c")
    assert [told.host for told in bench.told("host.up")] == ["a", "b", "c"]
    bench.do(bench.core.on_left("a", bench.now))
    bench.do(bench.core.on_gone("b", bench.now))
    bench.wait(SILENCE_S, "b", "c")
    reasons = {told.host: str(told.reason) for told in bench.told("host.end")}
    assert reasons == {"a": "host_stopped", "b": "host_lost", "c": "host_lost"}


def test_a_lost_hosts_instances_are_told_to_have_ended() -> None:
    bench = Bench("a")
    bench.core.on_event(started("a", 7))
    bench.core.on_event(started("a", 8))
    bench.core.on_event(Event(0.0, "instance.end", "idle", "a", pid=7))
    bench.wait(LOST_S + 1, "a")
    assert [(told.pid, str(told.reason)) for told in bench.told("instance.end")] == [(8, "host_lost")]


def test_a_host_that_is_lost_for_a_waiting_caller_also_has_its_instances_told() -> None:
    bench = Bench("a", "b")
    bench.deploy(function(most=1))
    (holder,) = bench.activate().workloads["f"].hosts
    bench.core.on_event(started(holder, 7))
    bench.do(bench.core.on_gone(holder, bench.now))
    (other,) = bench.activate().workloads["f"].hosts
    assert other != holder
    assert [told.pid for told in bench.told("instance.end")] == [7]


def test_a_new_boot_ends_what_the_last_one_ran() -> None:
    bench = Bench("a")
    bench.core.on_event(started("a", 7))
    bench.hosts["a"].boot = 2
    bench.report()
    assert [told.pid for told in bench.told("instance.end")] == [7]


def test_a_beat_of_an_earlier_boot_revives_nobody() -> None:
    bench = Bench("a")
    bench.do(bench.core.on_gone("a", bench.now))
    bench.do(bench.core.on_beat(Beat("a", "0", 99), bench.now))
    assert [status.state for status in statuses(bench.core.state)] == ["silent"]
    bench.beat("a")
    assert [status.state for status in statuses(bench.core.state)] == ["up"]


def test_a_host_that_is_lost_for_long_is_forgotten_altogether() -> None:
    bench = Bench("a", "b")
    bench.deploy(function(least=1))
    bench.wait(FORGET_S + 1, "a")
    assert list(bench.core.state.hosts) == ["b"]
    assert "a" not in bench.core.state.leases and "a" not in bench.core.state.unconfirmed


def test_nobody_is_lost_for_a_time_in_which_the_controller_itself_was_away() -> None:
    bench = Bench("a")
    bench.deploy(function(least=1))
    bench.wait(1.0)
    bench.now += 30.0
    bench.do(bench.core.tick(bench.now))
    assert not bench.told("host.end")


# ---------------------------------------------------------------------- apps and routes


def test_an_unknown_app_and_an_unknown_function_are_named() -> None:
    bench = Bench("a")
    bench.deploy(function("greet"))
    assert isinstance(bench.refusal("nothing"), NotFound)
    assert "it has: greet" in bench.refusal("app", "f").message
    with pytest.raises(NotFound):
        bench.core.routes("nothing")


def test_activation_leases_and_routes_and_tells_all_routers() -> None:
    bench = Bench("a")
    bench.deploy()
    bench.effects.clear()
    routes = bench.activate()
    assert routes.workloads["f"].hosts == ("a",)
    assert bench.published() == [routes]


def test_a_second_activation_changes_nothing() -> None:
    bench = Bench("a")
    bench.deploy()
    first = bench.activate()
    bench.effects.clear()
    assert bench.activate() == first and not bench.effects


def test_routes_name_only_hosts_that_live() -> None:
    bench = Bench("a", "b")
    bench.deploy()
    bench.activate()
    bench.do(bench.core.on_gone("a", bench.now))
    assert bench.routed() == ("b",)
    assert bench.published()[-1].workloads["f"].hosts == ("b",)


def test_a_removed_app_is_told_to_the_routers_and_leaves_nothing() -> None:
    bench = Bench("a")
    bench.deploy(function(least=1), Daemon("web", ("serve",)))
    bench.do(bench.core.on_removed("app", bench.now))
    assert bench.published()[-1].workloads == {}
    bench.beat("a", load={"app.f": Load(busy=1)})
    bench.rest(2)
    assert not bench.core.state.active and bench.core.state.leases["a"] == {}
    assert not summaries(bench.core.state)


def test_epochs_only_rise() -> None:
    bench = Bench("a", "b")
    bench.deploy(function(least=2))
    for number in range(5):
        bench.deploy(function(least=2), release=f"r{number + 2}")
    epochs = [lease.epoch for lease in bench.gives()]
    assert epochs == sorted(epochs)
    routes = [routes.epoch for routes in bench.published()]
    assert routes == sorted(routes)


def test_a_daemon_has_taken_over_when_an_instance_of_the_release_serves() -> None:
    bench = Bench("a")
    bench.deploy(Daemon("web", ("serve",)))
    assert not has_taken_over(bench.core.state, "app.web", "r1")
    bench.hosts["a"].instances["app.web"] = 1
    bench.report()
    assert has_taken_over(bench.core.state, "app.web", "r1")


def test_a_function_has_taken_over_when_no_older_instance_serves() -> None:
    bench = Bench("a")
    bench.deploy(function(least=1))
    bench.hosts["a"].instances["app.f"] = 1
    bench.report()
    assert has_taken_over(bench.core.state, "app.f", "r1")
    bench.deploy(function(least=1), release="r2")
    assert not has_taken_over(bench.core.state, "app.f", "r2")
    bench.report()
    assert has_taken_over(bench.core.state, "app.f", "r2")


def test_why_a_workload_fails_shows_with_its_app() -> None:
    bench = Bench("a")
    bench.deploy(Daemon("web", ("serve",)))
    bench.hosts["a"].failing["app.web"] = "not_listening: port 8080 stays closed"
    bench.report()
    (summary,) = summaries(bench.core.state)
    assert summary.failing == {"web": "a: not_listening: port 8080 stays closed"}


# ---------------------------------------------------------------------- a new controller


def after_a_restart(old: Bench) -> Bench:
    new = Bench(core=new_core(1 << 32, old.now + SETTLE_S))
    new.now, new.hosts, new.spaces = old.now, old.hosts, old.spaces
    return new


def test_a_new_controller_takes_nothing_away_before_it_has_heard_the_hosts() -> None:
    old = Bench("a", "b")
    old.deploy(function(most=4))
    old.activate()
    old.rest(2)
    new = after_a_restart(old)
    new.deploy(function(most=4))
    assert not new.published() and not new.gives()
    new.report()
    assert not new.published() and not new.gives()
    new.wait(SETTLE_S + 0.5)
    assert new.routed() == ("a", "b")
    assert new.ceilings() == {"a": 2, "b": 2}


def test_a_new_controller_answers_with_what_it_has_heard_so_far() -> None:
    old = Bench("a")
    old.deploy()
    old.activate()
    new = after_a_restart(old)
    new.deploy()
    assert isinstance(new.refusal(), Unavailable)
    new.report()
    assert new.activate().workloads["f"].hosts == ("a",)


def test_a_new_controllers_epochs_are_higher() -> None:
    old = Bench("a")
    old.deploy(function(least=1))
    new = after_a_restart(old)
    new.deploy(function(least=1), release="r2")
    new.report()
    new.wait(SETTLE_S + 0.5)
    assert old.hosts["a"].leases["app.f"].release == "r2"
