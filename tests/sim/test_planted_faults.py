"""The simulator is worth its time only when it sees what is broken: cores broken on purpose must turn runs red."""

from __future__ import annotations

import msgspec
import pytest

from motes.agent.core import effects as agent
from motes.agent.core import machine
from motes.agent.core.lanes import Lanes
from motes.agent.core.machine import Machine
from motes.controller.core import scaling, scheduler
from motes.controller.core.effects import Effect
from motes.controller.core.running import Running
from motes.controller.core.state import State
from motes.model.host import Lease
from motes.model.routes import Route
from motes.router.core import Router
from sim.invariants import BrokenInvariant
from sim.scenario import Scenario
from sim.world import Kinds

SEEDS = range(40)


def breach(kinds: Kinds, *faults: str) -> str:
    """What the first seed that sees the fault says."""
    for seed in SEEDS:
        try:
            Scenario(seed, frozenset(faults)).run(kinds)
        except BrokenInvariant as error:
            return str(error).splitlines()[0]
    return "nothing was seen"


class GullibleMachine(Machine):
    """Takes every lease, also one with an epoch that has passed."""

    def on_lease(self, lease: Lease, now: float) -> list[agent.Effect]:
        self.leases.pop(lease.address, None)
        return super().on_lease(lease, now)


class EagerRouter(Router):
    """Sends every call again, as if each function were idempotent."""

    def route(self, app: str, workload: str) -> Route | None:
        route = super().route(app, workload)
        return None if route is None else msgspec.structs.replace(route, idempotent=True)


class LoyalScheduler(scheduler.Scheduler):
    """Never gives up on a host."""

    def _lose(self, name: str, now: float) -> list[Effect]:
        return []


def test_a_machine_that_takes_stale_epochs_is_seen() -> None:
    assert " holds " in breach(Kinds(machine=GullibleMachine), "messages_twice", "messages_late", "redeployed")


def test_a_router_that_sends_any_call_again_is_seen() -> None:
    assert " ran on " in breach(Kinds(router=EagerRouter), "host_frozen", "host_cut_off")


def test_a_controller_that_never_moves_a_lost_hosts_work_is_seen() -> None:
    assert " at rest, not " in breach(Kinds(core=LoyalScheduler), "host_lost_for_good")


def test_a_controller_that_gives_a_ceiling_away_before_it_is_free_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_by_the_lease(state: State, host: str, address: str) -> int:
        lease = state.lease(host, address)
        return 0 if lease is None else lease.ceiling

    monkeypatch.setattr(scaling, "_may_use", only_by_the_lease)
    assert "the hosts may run" in breach(Kinds(), "messages_late", "messages_lost")


def test_a_host_that_gives_a_call_to_whatever_instance_is_free_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lanes, "adopt", lambda lanes, lane: next(reversed(lanes.free()), None))
    assert " meets " in breach(Kinds())


def test_a_host_that_goes_on_with_what_it_serves_no_more_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "serve_others", lambda state, now: [])
    assert "without a lease" in breach(Kinds(), "host_serves_others", "messages_late", "messages_lost")


def test_a_controller_that_follows_events_only_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Running, "compare", lambda running, report, now, is_first: [])
    assert "by what was told" in breach(Kinds(), "host_cut_off")
