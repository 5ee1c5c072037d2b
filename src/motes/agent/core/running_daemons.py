"""Daemons' instances: started, switched over, ended."""

from __future__ import annotations

import msgspec

from motes.agent.core.daemons import DaemonUnit
from motes.agent.core.effects import Effect, Report, StartDaemon
from motes.agent.core.instances import end
from motes.agent.core.pool import Instance
from motes.agent.core.releases import refetch
from motes.agent.core.room import make_room, room_is_coming
from motes.agent.core.state import HostState
from motes.model.instance import EndReason


def tick_daemon(state: HostState, unit: DaemonUnit, now: float) -> list[Effect]:
    """Start the daemon when it should run and does not, or a new release of it beside the old one."""
    if not unit.is_due(now) or state.draining:
        return []
    if state.is_full():
        return _make_room(state, unit, now)
    space = state.spaces[unit.lease.release]
    if space.manifest is None:
        return refetch(state, unit.lease.release, space, now)
    instance = state.new_instance(unit.address, unit.lease.release, now, is_daemon=True)
    unit.starting(instance.number, unit.lease.release)
    return [StartDaemon(unit.lease.release, instance.number, unit.daemon)]


def _make_room(state: HostState, unit: DaemonUnit, now: float) -> list[Effect]:
    """The host is full: others give up a space, or in the end the daemon's own old release does."""
    effects = make_room(state, None, now)
    if room_is_coming(state):
        return effects
    if unit.number is not None:
        return [end(state, state.instances[unit.number], EndReason.PRESSURE, "its new release needs its process space")]
    unit.failing = "every process space of the host is in use by what must always run"
    return []


def switch_daemon(state: HostState, unit: DaemonUnit, now: float) -> list[Effect]:
    """The newer one is up: connections go to it, the one before ends."""
    old = unit.up(now)
    if old is None or old not in state.instances:
        return [Report()]
    return [end(state, state.instances[old], EndReason.REPLACED), Report()]


def daemon_ended(
    state: HostState, unit: DaemonUnit, instance: Instance, reason: EndReason, detail: str, now: float
) -> list[Effect]:
    unit.ended(instance.number, reason, detail, now)
    if unit.lease.ceiling == 0 and not _daemon_instances(state, unit.address):
        del state.daemons[unit.address]
    return [Report()]


def end_daemon(state: HostState, address: str, reason: EndReason) -> list[Effect]:
    unit = state.daemons.get(address)
    if unit is None:
        return []
    unit.lease = msgspec.structs.replace(unit.lease, ceiling=0, floor=0)
    mine = _daemon_instances(state, address)
    if not mine:
        del state.daemons[address]
    return [end(state, each, reason) for each in mine if not each.ending]


def _daemon_instances(state: HostState, address: str) -> list[Instance]:
    return [each for each in state.instances.values() if each.is_daemon and each.address == address]
