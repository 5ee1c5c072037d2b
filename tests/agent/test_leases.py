"""What a lease allows, and what a stale one does not."""

from __future__ import annotations

from agent.lent_host import DONE, LentHost, function
from motes.agent.core.effects import Prepare, Spawn, StartDaemon
from motes.errors import (
    Exited,
    NotFound,
)
from motes.model.call import STATUS_TRY_ELSEWHERE
from motes.model.instance import EndReason
from motes.model.release import Daemon, Manifest


def test_a_call_without_a_lease_is_refused_and_may_go_elsewhere() -> None:
    host = LentHost()
    call = host.call()
    assert isinstance(host.error(call), NotFound)
    assert host.answers(call)[0].status == STATUS_TRY_ELSEWHERE
    assert not host.seen(Spawn)


def test_a_lease_for_another_host_is_powerless() -> None:
    host = LentHost()
    host.machine.host = "another"
    host.lease()
    assert host.effects == []


def test_an_epoch_that_is_not_higher_than_the_last_is_powerless() -> None:
    host = LentHost()
    host.lease(ceiling=0, epoch=7)
    host.lease(ceiling=5, epoch=6)
    host.lease(ceiling=5, epoch=7)
    assert isinstance(host.error(host.call()), NotFound)
    host.lease(ceiling=5, epoch=8)
    assert not host.answers(host.call())


def test_a_lease_alone_starts_nothing_but_its_floor() -> None:
    host = LentHost()
    host.lease(floor=0)
    assert host.live() == [] and not host.seen(Prepare)
    host.lease(floor=3)
    assert len(host.live()) == 3
    assert host.starts() == ["floor"] * 3


def test_instances_never_outnumber_the_ceiling() -> None:
    host = LentHost()
    host.lease(ceiling=2)
    for _ in range(50):
        host.call()
    host.wait(1.0)
    assert len(host.live()) == 2


def test_a_lower_ceiling_ends_the_surplus_idle_ones_first_and_busy_ones_after_their_call() -> None:
    host = LentHost()
    host.lease(floor=3)
    call = host.call()
    host.lease(ceiling=1, floor=1)
    assert len(host.live()) == 1 and host.busy() == host.live()
    assert not host.answers(call)


def test_the_end_of_a_lease_sends_waiting_calls_elsewhere_and_lets_running_ones_finish() -> None:
    host = LentHost()
    host.lease(ceiling=1)
    running, waiting = host.call(), host.call()
    host.lease(ceiling=0)
    assert isinstance(host.error(waiting), NotFound)
    assert not host.answers(running)
    host.reply(host.busy()[0])
    assert host.answers(running) == [DONE]
    assert host.ends() == ["removed"]
    assert not host.machine.pools and not host.machine.instances
    assert host.machine.held(host.now)["app.f"].ceiling == 0


def test_a_lease_that_comes_back_while_the_last_call_runs_is_served_on() -> None:
    host = LentHost()
    host.lease(ceiling=1)
    running = host.call()
    host.lease(ceiling=0)
    host.lease(ceiling=1)
    host.reply(host.busy()[0])
    assert host.answers(running) == [DONE]
    assert not host.answers(host.call()) and len(host.busy()) == 1


def test_only_so_many_ended_leases_are_remembered_and_none_can_come_back() -> None:
    host = LentHost()
    for number in range(1, 301):
        host.manifests[f"r{number}"] = Manifest("app", (function(f"f{number}"),))
        host.lease(f"f{number}", release=f"r{number}")
        host.lease(f"f{number}", ceiling=0)
    assert len(host.machine.leases) <= 100
    host.lease("f1", release="r1", epoch=1)
    assert not host.machine.pools


def test_a_function_that_becomes_a_daemon_finishes_its_calls() -> None:
    host = LentHost()
    host.manifests["r2"] = Manifest("app", (Daemon("f", ("serve",)),))
    host.lease(ceiling=1)
    call = host.call()
    host.lease(ceiling=1, release="r2")
    assert len(host.seen(StartDaemon)) == 1
    (running,) = host.busy()
    host.end(running, EndReason.CRASHED)
    assert isinstance(host.error(call), Exited)
    assert not host.machine.pools and host.machine.daemons["app.f"].is_up


def test_a_daemon_that_becomes_a_function_ends() -> None:
    host = LentHost(Daemon("f", ("serve",)))
    host.manifests["r2"] = Manifest("app", (function(),))
    host.lease(ceiling=1)
    assert host.machine.daemons["app.f"].is_up
    host.lease(ceiling=5, release="r2")
    assert not host.machine.daemons and host.ends() == ["replaced"]
    host.call()
    assert len(host.busy()) == 1
