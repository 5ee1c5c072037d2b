"""Whole clusters in virtual time: the promises of the architecture page, one by one."""

from __future__ import annotations

import pytest

from motes.errors import HostLost, NotFound
from motes.router.core import HOST_LOST_S
from sim.callers import Entry
from sim.settled import check_that_it_settles
from sim.world import World


def a_world(*apps: str, hosts: int = 3, spaces: int = 50, seed: int = 1) -> World:
    world = World(seed, hosts=hosts, spaces=spaces)
    for app in apps or ("work",):
        world.deploy(app)
    world.run(1.0)
    return world


def load(world: World, name: str, count: int, every_s: float, timeout_s: float = 10.0, **work: object) -> list[Entry]:
    """Calls of `work.<name>` that will be made one after the other, by both callers in turn."""
    entries: list[Entry] = []
    callers = list(world.callers.values())

    def make(number: int) -> None:
        caller = callers[number % len(callers)]
        entries.append(caller.call("work", name, timeout_s, idempotent=name == "pure", **work))

    for number in range(count):
        world.clock.after(number * every_s, lambda number=number: make(number))
    return entries


def all_succeeded(entries: list[Entry], count: int) -> bool:
    """Whether so many calls were made, and none failed."""
    return len(entries) == count and all(entry.succeeded for entry in entries)


def live(world: World, address: str) -> int:
    return sum(1 for host in world.living() for guest in host.guests.all.values() if guest.address == address)


def latest_s(world: World, entries: list[Entry]) -> float:
    return max(entry.took_s for entry in entries)


def test_a_burst_brings_instances_at_once_and_they_go_when_it_is_over() -> None:
    world = a_world()
    entries = load(world, "once", 100, 0.0, seconds=0.5)
    world.run(0.3)
    assert live(world, "work.once") >= 90
    world.run(2.0)
    assert all_succeeded(entries, 100) and latest_s(world, entries) < 1.5
    world.run(5.0)
    assert live(world, "work.once") == 0


def test_quick_calls_need_few_instances() -> None:
    world = a_world()
    entries = load(world, "once", 2_000, 0.0005, seconds=0.00002)
    world.run(0.8)
    assert live(world, "work.once") <= 9
    world.run(2.0)
    assert all_succeeded(entries, 2_000)


def test_a_host_that_fails_every_start_and_boasts_does_not_attract_the_calls() -> None:
    world = a_world()
    world.hosts["h0"].temper = "fails starts"
    world.hosts["h1"].temper = "boasts"
    entries = load(world, "once", 300, 0.01, seconds=0.02)
    world.run(6.0)
    assert all_succeeded(entries, 300)
    assert sorted(entry.took_s for entry in entries)[-10] < 0.2


@pytest.mark.parametrize("name", ["pure", "once"])
def test_a_host_killed_under_load_loses_no_idempotent_call_and_says_so_of_the_others(name: str) -> None:
    world = a_world()
    entries = load(world, name, 400, 0.005, timeout_s=2 * HOST_LOST_S, seconds=0.05)
    world.clock.after(1.0, world.hosts["h1"].kill)
    world.run(HOST_LOST_S + 5.0)
    lost = [entry for entry in entries if not entry.succeeded]
    assert all(isinstance(entry.error, HostLost) for entry in lost)
    assert (len(lost) == 0) if name == "pure" else (0 < len(lost) < 20)
    # Of those that may not be sent again their callers are told when the host does not come back.
    assert latest_s(world, entries) < (0.5 if name == "pure" else HOST_LOST_S + 0.5)


def test_a_host_that_falls_silent_costs_idempotent_calls_a_second() -> None:
    world = a_world()
    entries = load(world, "pure", 400, 0.005, seconds=0.05)
    world.clock.after(1.0, lambda: world.hosts["h1"].freeze(10.0))
    world.run(6.0)
    assert all_succeeded(entries, 400)
    assert latest_s(world, entries) < 2.0


def test_warm_calls_do_not_notice_that_the_controller_is_away() -> None:
    world = a_world()
    load(world, "once", 10, 0.01, seconds=0.01)
    world.run(0.5)
    world.keeper.kill()
    entries = load(world, "once", 500, 0.01, seconds=0.01)
    world.run(6.0)
    assert all_succeeded(entries, 500) and latest_s(world, entries) < 0.1


def test_warm_calls_do_not_notice_that_the_controller_starts_again() -> None:
    world = a_world()
    load(world, "once", 10, 0.01, seconds=0.01)
    world.run(0.5)
    entries = load(world, "once", 600, 0.01, seconds=0.01)
    world.clock.after(1.0, world.keeper.kill)
    world.clock.after(2.0, world.keeper.start)
    world.run(7.0)
    assert all_succeeded(entries, 600) and latest_s(world, entries) < 0.1


def test_a_call_that_finds_the_controller_away_is_served_when_it_is_back() -> None:
    world = a_world()
    world.keeper.kill()
    entries = load(world, "once", 5, 0.1, seconds=0.01)
    world.clock.after(3.0, world.keeper.start)
    world.run(8.0)
    assert all_succeeded(entries, 5)


def test_when_nats_is_down_for_a_moment_idempotent_calls_wait_and_nobody_is_lost() -> None:
    world = a_world("work", "base")
    entries = load(world, "pure", 300, 0.01, seconds=0.01)
    world.clock.after(1.0, world.server_down)
    world.clock.after(3.5, world.server_up)
    world.run(8.0)
    assert all_succeeded(entries, 300)
    assert not any("host_lost" in line for line in world.clock.trace)
    check_that_it_settles(world)


def test_a_new_release_takes_over_under_load_without_a_failed_call() -> None:
    world = a_world()
    entries = load(world, "once", 400, 0.005, seconds=0.03)
    world.clock.after(1.0, lambda: world.deploy("work"))
    world.run(6.0)
    assert all_succeeded(entries, 400)
    assert latest_s(world, entries) < 0.5


def test_a_lost_hosts_floor_and_daemon_move_within_seconds() -> None:
    world = a_world("base")
    (home,) = [host for host in world.living() for guest in host.guests.all.values() if guest.address == "base.web"]
    world.bury(home.name)
    world.run(4.0)
    assert live(world, "base.web") == 1 and live(world, "base.steady") == 2


def test_a_call_that_may_run_only_once_outlives_a_cut_of_ten_seconds_that_the_server_has_noticed() -> None:
    world = a_world(hosts=1)
    made = load(world, "once", 1, 0.0, seconds=2.0, timeout_s=30.0)
    world.run(0.5)
    (entry,) = made
    world.host_cut("h0", noticed=False)
    world.run(10.0)
    assert entry.outcome is None
    world.network.up("h0")
    world.run(1.0)
    assert entry.succeeded


def test_a_call_that_was_lost_on_its_way_to_a_host_that_was_cut_off_is_sent_again_when_it_is_back() -> None:
    world = a_world(hosts=1)
    load(world, "once", 1, 0.0, seconds=0.01)
    world.run(0.5)
    world.host_cut("h0", noticed=False)
    made = load(world, "once", 3, 0.1, seconds=0.01, timeout_s=30.0)
    world.run(1.5)
    world.network.up("h0")
    world.run(1.0)
    assert all_succeeded(made, 3)


def test_a_host_that_was_cut_off_for_ten_minutes_comes_back_to_what_has_moved_and_nothing_runs_twice() -> None:
    world = a_world("work", "base")
    (home,) = [host for host in world.living() for guest in host.guests.all.values() if guest.address == "base.web"]
    world.host_cut(home.name, noticed=False)
    entries = load(world, "pure", 600, 1.0, seconds=0.01)
    world.run(600.0)
    others = [host for host in world.living() if host is not home]
    assert sum(guest.address == "base.web" for host in others for guest in host.guests.all.values()) == 1
    assert sum(each.succeeded for each in entries) >= len(entries) - 1
    world.network.up(home.name)
    world.run(5.0)
    assert live(world, "base.web") == 1 and live(world, "base.steady") == 2
    check_that_it_settles(world)


def test_a_removed_app_is_not_found_by_those_who_knew_it() -> None:
    world = a_world()
    load(world, "once", 10, 0.01, seconds=0.01)
    world.run(1.0)
    world.remove("work")
    world.run(0.5)
    entries = load(world, "once", 3, 0.01, seconds=0.01)
    world.run(1.0)
    assert [type(entry.error) for entry in entries] == [NotFound] * 3


def test_a_cancelled_call_frees_its_instance() -> None:
    world = a_world()
    caller = world.callers["anna"]
    entry = caller.call("work", "once", 60.0, idempotent=False, do="hang")
    world.run(1.0)
    assert live(world, "work.once") == 1
    caller.cancel(entry)
    world.run(0.5)
    assert live(world, "work.once") == 0 and entry.outcome is None
