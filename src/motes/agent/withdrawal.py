"""The owner wants the machine back, lends less of it, or lends it again. Part of the agent's core.

A host that withdraws lays its leases down: they have no ceiling from then on, and their epochs stay used. The
controller sees that in its report, and gives new ones when it is back.
"""

from __future__ import annotations

import msgspec

from motes.agent.effects import Close, Effect, Report
from motes.agent.instances import end, let_go
from motes.agent.leases import end_workload, forget_ended_leases
from motes.agent.pool import Instance
from motes.agent.releases import close_unused
from motes.agent.state import HostState
from motes.model.host import Lease
from motes.model.instance import EndReason

GRACE_S = 3.0
"""How long calls that run may go on when their host lends less than they use."""


def laid_down(lease: Lease) -> Lease:
    """The lease as a host holds it that does not use it any more."""
    return msgspec.structs.replace(lease, ceiling=0, floor=0)


def withdraw(state: HostState, why: str, now: float) -> list[Effect]:
    """Take no more calls; let those that run finish. Again with another reason, that is what it says from now on."""
    was_away, state.away = state.away, why
    effects: list[Effect] = [Report()]
    if was_away:
        return effects
    for address, lease in list(state.leases.items()):
        state.leases[address] = laid_down(lease)
        effects += end_workload(state, address, EndReason.WITHDRAWN, now)
    forget_ended_leases(state)
    for release, space in state.spaces.items():
        if space.state == "preparing":
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
