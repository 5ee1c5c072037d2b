"""The agent's core from outside: draining, what it tells of itself, and the host around it in these tests."""

from __future__ import annotations

from agent.lent_host import DONE, LentHost
from motes.agent.core.effects import Deliver, Spawn
from motes.errors import (
    NotFound,
)
from motes.model.host import Load


def test_a_draining_host_takes_no_calls_and_no_leases_and_finishes_what_runs() -> None:
    host = LentHost()
    host.lease(ceiling=1)
    running, waiting = host.call(), host.call()
    host.do(host.machine.on_drain(host.now))
    assert isinstance(host.error(waiting), NotFound)
    host.lease(ceiling=5)
    assert isinstance(host.error(host.call()), NotFound)
    assert not host.machine.is_empty()
    host.reply(host.busy()[0])
    assert host.answers(running) == [DONE] and host.ends() == ["host_stopped"]
    assert host.machine.is_empty()


def test_load_and_leases_are_told_as_they_are() -> None:
    host = LentHost()
    host.lease(ceiling=1, epoch=9)
    host.call(), host.call()
    assert host.machine.load() == {"app.f": Load(queued=1, busy=1, idle=0)}
    held = host.machine.held(host.now)["app.f"]
    assert (held.epoch, held.release, held.ceiling, held.instances) == (9, "r1", 1, 1)


def test_what_waits_beyond_the_ceiling_is_told_as_wanted() -> None:
    host = LentHost()
    host.lease(ceiling=1)
    for _ in range(20):
        host.call()
    host.wait(0.1)
    assert host.machine.held(host.now)["app.f"].wanted > 5


def test_the_host_in_these_tests_delivers_only_what_the_machine_asks() -> None:
    host = LentHost()
    host.lease()
    host.call()
    assert len(host.seen(Deliver)) == len(host.seen(Spawn)) == 1
