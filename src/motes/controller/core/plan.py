"""What must change: the leases that shall be, against those that are. Desired and observed in, leases out."""

from __future__ import annotations

import msgspec

from motes.controller.core.draining import kept_shares
from motes.controller.core.ground import Ground
from motes.controller.core.placement import ranked_hosts
from motes.controller.core.scaling import Share, shares
from motes.controller.core.state import App, State
from motes.model.host import DISMISSED, Held, Lease
from motes.model.release import Workload

ASLEEP_S = 600.0
"""A function without a minimum that nobody called for this long gives up its leases; the next call activates it."""
MOST_ENDING = 100
"""Leases of one host at a time that are ended and not confirmed; the others' turn comes after them."""


def plan_workload(
    state: State, address: str, app: App, workload: Workload, now: float, ground: Ground | None = None
) -> list[Lease]:
    """The leases to give for one workload; they are entered in the state, and in `ground`."""
    ground = ground or Ground(state)
    active = now - state.active.get(address, float("-inf")) < ASLEEP_S
    hosts = ranked_hosts(state, address, workload, app.release.packages, now, ground)
    wanted = shares(state, address, workload, hosts, active, now)
    wanted |= kept_shares(state, address, app, workload, hosts, wanted)
    before = {host: state.lease(host, address) for host in [*wanted, *state.holders(address)]}
    leases = [
        _give(state, host, address, app.release_id, share)
        for host, share in wanted.items()
        if _differs(before[host], app.release_id, share)
    ]
    leases += [end_lease(state, host, address) for host in before if host not in wanted]
    for lease in leases:
        ground.gave(lease, before[lease.host])
    state.lapsed -= {(host, address) for host in before}
    return leases


def plan_removed(state: State) -> list[Lease]:
    """The ends of leases whose workload is no longer deployed."""
    deployed = {address for address, _, _ in state.workloads()}
    return [
        end_lease(state, host, address)
        for host, leases in state.leases.items()
        for address, lease in list(leases.items())
        if lease.ceiling > 0 and address not in deployed
    ]


def plan(state: State, now: float) -> list[Lease]:
    """Everything that must change now."""
    leases = plan_removed(state)
    ground = Ground(state)
    for address, app, workload in state.workloads():
        leases += plan_workload(state, address, app, workload, now, ground)
    return leases


def confirm(state: State, host: str, now: float) -> list[Lease]:
    """Compare a host's own report with its leases: what it has not got is to be sent again, what it holds without one
    is taken over when an earlier controller may have given it and it is deployed, and ends otherwise."""
    report = state.hosts[host].report
    given = state.leases.setdefault(host, {})
    state.inherit(report)
    for address, held in report.held.items():
        is_news = address not in given or given[address].epoch < held.epoch <= state.first_epoch
        if held.ceiling > 0 and is_news:
            _take_over_or_end(state, host, address, held, now)
    again: list[Lease] = []
    for address, lease in list(given.items()):
        held_now = report.held.get(address)
        if held_now is not None and held_now.epoch >= lease.epoch:
            state.unconfirmed.get(host, {}).pop(address, None)
            if lease.ceiling == 0 or held_now.ceiling == 0:
                # Ended; or the host has laid it down, as one does that withdraws, or was told to by an earlier
                # controller just before this one took it over: it can get another.
                del given[address]
        elif lease.ceiling > 0 and not lease.release:
            del given[address]  # Taken over before its release was there, and now the host has lost it.
        elif lease.boot != report.boot:
            # It was an earlier start's, or that of another agent in this host's name, who shall know that it is not.
            given[address] = msgspec.structs.replace(lease, epoch=state.next_epoch(), boot=report.boot)
            again.append(given[address])
        else:
            again.append(lease)
    return [] if report.draining else again


def _take_over_or_end(state: State, host: str, address: str, held: Held, now: float) -> None:
    if state.is_deployed(address) and state.is_heir(host, address, held):
        app, _, workload = address.partition(".")
        floor = min(held.floor, held.ceiling)
        state.leases[host][address] = Lease(
            host, app, workload, held.release, held.ceiling, floor, held.epoch, boot=state.boot(host)
        )
        state.active.setdefault(address, now - held.idle_s)
    elif sum(lease.ceiling == 0 for lease in state.leases[host].values()) < MOST_ENDING:
        # It may say anything: it is told to end what it was not given, and gets no calls for it.
        end_lease(state, host, address)


def choose(state: State, host: str) -> Lease:
    """What says to every agent in the host's name which of them is the host, and nothing else."""
    return Lease(host, "", "", "", 0, 0, state.next_epoch(), boot=state.boot(host))


def dismiss(state: State, host: str) -> Lease:
    """What says to every agent in the host's name that none of them is the host any more."""
    return Lease(host, "", "", "", 0, 0, state.next_epoch(), boot=DISMISSED)


def end_lease(state: State, host: str, address: str) -> Lease:
    """The lease that ends the one in force: ceiling 0 and a higher epoch."""
    return _give(state, host, address, "", Share(0, 0))


def _differs(lease: Lease | None, release: str, share: Share) -> bool:
    return lease is None or (lease.release, lease.ceiling, lease.floor) != (release, share.ceiling, share.floor)


def _give(state: State, host: str, address: str, release: str, share: Share) -> Lease:
    app, _, workload = address.partition(".")
    lease = Lease(host, app, workload, release, share.ceiling, share.floor, state.next_epoch(), boot=state.boot(host))
    state.leases.setdefault(host, {})[address] = lease
    unconfirmed = state.unconfirmed.setdefault(host, {})
    unconfirmed[address] = max(unconfirmed.get(address, 0), share.ceiling)
    if share.ceiling:
        state.most_given[host, address] = max(state.most_given.get((host, address), 0), share.ceiling)
    return lease
