"""Leases become pools of instances or daemons, and end."""

from __future__ import annotations

import msgspec

from motes.agent.core.answers import no_lease, refuse_waiting
from motes.agent.core.daemons import DaemonUnit
from motes.agent.core.effects import Effect, Fetch, Report, Tell
from motes.agent.core.instances import let_go
from motes.agent.core.place import why_not_here
from motes.agent.core.pool import Pool
from motes.agent.core.releases import close_unused
from motes.agent.core.running_daemons import end_daemon, tick_daemon
from motes.agent.core.starting import approach, trim
from motes.agent.core.state import HostState, SpaceView
from motes.model.host import Lease
from motes.model.instance import EndReason
from motes.model.release import Daemon, Function

ENDED_LEASES = 100
"""Leases that have ended and are still remembered."""


def adopt(state: HostState, lease: Lease, now: float) -> list[Effect]:
    """Take a lease on; its release is fetched first when it is not here."""
    if why := why_not_here(state, lease.app):
        return _refuse(state, lease, why, now)
    state.misplaced.pop(lease.address, None)
    if lease.address in state.pools:
        state.pools[lease.address].lease = lease
    elif lease.address in state.daemons:
        state.daemons[lease.address].lease = lease
    space = state.spaces.get(lease.release)
    if space is not None and space.manifest is not None:
        return place(state, lease, now)
    if lease.address not in state.daemons:
        state.pools.setdefault(lease.address, Pool(lease, now, state.waiting))
    if space is not None and space.state == "fetching":
        return []
    state.spaces[lease.release] = SpaceView(last_used=now)
    return [Fetch(lease.release)]


def place(state: HostState, lease: Lease, now: float) -> list[Effect]:
    """The manifest is known: the lease becomes a pool of instances, or a daemon."""
    manifest = state.spaces[lease.release].manifest
    if manifest is not None and manifest.app != lease.app:
        # Else a keeper could run an app under the name of another, one that is served here.
        return _refuse(state, lease, f"release {lease.release} is of another app, {manifest.app!r}", now)
    workload = None if manifest is None else manifest.workload(lease.workload)
    if workload is not None and (why := why_not_here(state, lease.app, workload.place)):
        return _refuse(state, lease, why, now)
    if isinstance(workload, Function):
        effects = end_daemon(state, lease.address, EndReason.REPLACED)
        pool = state.pools.setdefault(lease.address, Pool(lease, now, state.waiting))
        if pool.serving != lease.release and not pool.instances:
            pool.serving = ""  # Nothing runs that would have to go on: the next call finds the new code.
        return [*effects, *approach(state, pool, now), *trim(state, pool, now)]
    if isinstance(workload, Daemon):
        effects = end_workload(state, lease.address, EndReason.REPLACED, now) if lease.address in state.pools else []
        unit = state.daemons.setdefault(lease.address, DaemonUnit(lease, workload))
        unit.lease, unit.daemon = lease, workload
        return [*effects, *tick_daemon(state, unit, now)]
    return end_workload(state, lease.address, EndReason.REMOVED, now)


def _refuse(state: HostState, lease: Lease, why: str, now: float) -> list[Effect]:
    """Nothing of it runs here, also not of an earlier release."""
    told = Tell("start.failed", EndReason.MISPLACED, lease.address, lease.release, 0, why)
    effects = end_workload(state, lease.address, EndReason.MISPLACED, now)
    state.misplaced[lease.address] = why
    return [*effects, told, Report()]


def end_workload(state: HostState, address: str, reason: EndReason, now: float) -> list[Effect]:
    """No lease any more: waiting calls go elsewhere, running ones finish."""
    state.misplaced.pop(address, None)
    effects = end_daemon(state, address, reason)
    pool = state.pools.get(address)
    if pool is None:
        return effects
    pool.lease = msgspec.structs.replace(state.leases.get(address, pool.lease), ceiling=0, floor=0)
    effects += refuse_waiting(state, pool, no_lease(state, address))
    for instance in pool.live():
        effects += let_go(state, instance, reason)
    if not pool.instances:
        del state.pools[address]
    return [*effects, *close_unused(state, now)]


def forget_ended_leases(state: HostState) -> None:
    """Of the leases that have ended the newest are remembered: they confirm to the controller that they have."""
    ended = sorted((lease.epoch, address) for address, lease in state.leases.items() if lease.ceiling == 0)
    for epoch, address in ended[:-ENDED_LEASES]:
        state.forgotten_epoch = max(state.forgotten_epoch, epoch)
        del state.leases[address]
