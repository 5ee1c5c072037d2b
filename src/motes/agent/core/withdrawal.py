"""The owner wants the machine back, lends less of it, serves other apps, or lends it again.

A host that withdraws lays its leases down, one that serves fewer apps those of the others: they have no ceiling from
then on, and their epochs stay used. The controller sees that in its report, and gives new ones when it may.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from motes.agent.core.effects import Close, Effect, Report
from motes.agent.core.instances import end, let_go
from motes.agent.core.leases import adopt, end_workload, forget_ended_leases
from motes.agent.core.pool import Instance
from motes.agent.core.releases import close_unused
from motes.agent.core.state import HostState
from motes.model.host import Lease
from motes.model.instance import EndReason

GRACE_S = 3.0
"""How long calls that run may go on when their host lends less than they use, or serves their app no more."""


def laid_down(lease: Lease) -> Lease:
    """The lease as a host holds it that does not use it any more."""
    return msgspec.structs.replace(lease, ceiling=0, floor=0)


def withdraw(state: HostState, why: str, now: float) -> list[Effect]:
    """Take no more calls; let those that run finish. Again with another reason, that is what it says from now on."""
    was_away, state.away = state.away, why
    return [Report()] if was_away else [Report(), *_lay_down(state, list(state.leases), now)]


def _lay_down(state: HostState, addresses: Iterable[str], now: float) -> list[Effect]:
    """Take no more calls by these leases, and give up what is being loaded for them alone."""
    effects: list[Effect] = []
    for address in addresses:
        state.leases[address] = laid_down(state.leases[address])
        effects += end_workload(state, address, EndReason.WITHDRAWN, now)
    forget_ended_leases(state)
    wanted = state.wanted_releases()
    for release, space in state.spaces.items():
        if space.state == "preparing" and release not in wanted:
            space.state = "absent"
            effects.append(Close(release))
    return effects


def free(state: HostState, now: float) -> list[Effect]:
    """End whatever still runs; the spaces end when their last instance has."""
    why = f"the owner of host {state.host!r} wants the machine"
    running = [each for each in state.instances.values() if not each.ending]
    return [*(end(state, each, EndReason.WITHDRAWN, why) for each in running), *close_unused(state, now)]


def come_back(state: HostState) -> list[Effect]:
    """Take work again; the controller gives new leases."""
    state.away = ""
    return [Report()]


def serve_others(state: HostState, now: float) -> list[Effect]:
    """The owner has said anew whom to serve: other apps have GRACE_S, and leases that were refused may be used."""
    for instance in state.instances.values():
        if not state.offer.serves(instance.app):
            instance.ends_by = min(instance.ends_by, now + GRACE_S)
    used = [lease for lease in state.leases.values() if lease.ceiling > 0 and lease.address not in state.misplaced]
    refused = [state.leases[address] for address in state.misplaced]
    effects = _lay_down(state, [lease.address for lease in used if not state.offer.serves(lease.app)], now)
    for lease in refused:
        effects += adopt(state, lease, now) if state.offer.serves(lease.app) else []
    return effects


def end_others(state: HostState, now: float) -> list[Effect]:
    """What is not done in time of apps that are served no more."""
    why = f"the owner of host {state.host!r} has it serve other apps"
    overdue = [each for each in state.instances.values() if each.ends_by <= now and not each.ending]
    return [end(state, each, EndReason.WITHDRAWN, why) for each in overdue if not state.offer.serves(each.app)]


def get_under(state: HostState, now: float) -> list[Effect]:
    """More spaces are in use than are lent: idle ones end at once, busy ones after their call or GRACE_S, the newest
    first; daemons last."""
    live = [each for each in state.instances.values() if not each.ending]
    over = len(live) - state.offer.spaces
    if over <= 0:
        state.over_since = None
        return []
    if state.over_since is None:
        state.over_since = now
    is_patient = now - state.over_since < GRACE_S
    why = f"host {state.host!r} lends less now"
    effects: list[Effect] = []
    for each in sorted(live, key=_is_missed)[:over]:
        if not is_patient:
            effects.append(end(state, each, EndReason.WITHDRAWN, why))
        elif each.leaving is None:
            effects += let_go(state, each, EndReason.WITHDRAWN)
    return effects


def _is_missed(instance: Instance) -> tuple[bool, bool, bool, float]:
    return instance.is_daemon, bool(instance.calls_now), instance.leaving is None, -instance.started
