"""Hosts that the keeper's owner drains: they take no new work, and what must always run moves first.

A function without a minimum leaves at once: its running calls finish there, and new ones go elsewhere. A daemon, or the
least of a function's `scale`, stays until as much of it serves on other hosts, and where there is no other host, stays.
Only where a maximum leaves no room for both does the old one end first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from motes.controller.core.feasible import could_run
from motes.controller.core.scaling import Share
from motes.controller.core.state import App, Host, State
from motes.model.release import Daemon, Workload
from motes.model.wire import misfit


def kept_shares(
    state: State, address: str, app: App, workload: Workload, hosts: Collection[str], wanted: Mapping[str, Share]
) -> dict[str, Share]:
    """What is kept for now of a workload that leaves, by host: of the `hosts` that it may run on, `wanted` shall."""
    floors = {
        host: lease.floor
        for host in state.holders(address)
        if host in state.drained
        and state.hosts[host].lives
        and could_run(state, host, app.release.app, workload, app.release.packages)
        and (lease := state.lease(host, address))
        and lease.floor
    }
    if hosts and (_has_moved(state, address, app, workload, wanted) or not _has_room_for_both(workload, floors)):
        return {}
    return {host: Share(floor, floor) for host, floor in floors.items()}


def state_of(state: State, name: str, host: Host) -> str:
    """As HostStatus says it."""
    if host.report.draining:
        return "away" if host.report.away and host.lives else "draining"
    if not host.lives:
        return "silent"
    if name not in state.drained:
        return misfit(host.report.wire) or "up"
    return "draining" if has_work(state, name, host) else "drained"


def has_work(state: State, name: str, host: Host) -> bool:
    """Whether anything runs there, or should."""
    should = any(lease.ceiling for lease in state.leases.get(name, {}).values())
    return should or any(held.instances or held.ceiling for held in host.report.held.values())


def _has_moved(state: State, address: str, app: App, workload: Workload, wanted: Mapping[str, Share]) -> bool:
    """Whether the other hosts say that as much of this release as must always run is there."""
    least = 1 if isinstance(workload, Daemon) else workload.scale.min
    helds = [held for host in wanted if (held := state.held(host, address)) is not None]
    return sum(held.instances for held in helds if held.release == app.release_id) >= least


def _has_room_for_both(workload: Workload, floors: Mapping[str, int]) -> bool:
    if isinstance(workload, Daemon) or workload.scale.max is None:
        return True
    return sum(floors.values()) + workload.scale.min <= workload.scale.max
