"""Calls that wait for one another in a ring, so that none can ever begin.

A host knows who waits for whom: an instance that waits for calls of its own, for the instances that work on those or,
while they are queued, for any instance of their pool. Whatever cannot move even if all others do their best is found
by taking away, again and again, what can.

Of a ring over several hosts, or by the way of the gateway, each sees its own part only. But a call says through which
functions it came; so where all instances of a function wait for calls elsewhere, and the calls that wait for one came
through this very function as often as it has instances, these are taken for a ring.
"""

from __future__ import annotations

from motes.agent.core.answers import answer
from motes.agent.core.effects import Asker, Effect
from motes.agent.core.pool import Call, Pool
from motes.agent.core.state import HostState
from motes.errors import Overloaded
from motes.model.call import failed

LOOK_AFTER_S = 0.5
"""A call that was made inside another is looked at when it has waited for so long."""
LOOK_FAR_AFTER_S = 1.5
"""The same for a ring over hosts, of which nobody is sure: what is elsewhere may only be slow."""


def break_one(state: HostState, pool: Pool, now: float) -> list[Effect]:
    """Refuse the newest call of this pool that can never begin, if there is one: whoever waits for it goes on."""
    waiting = [call for call in pool.waiting_calls() if now - call.arrived >= LOOK_AFTER_S] if pool.queued else []
    if not waiting or not all(each.waits_for_calls for each in pool.instances.values()):
        return []
    stuck = _stuck(state)
    waiting.sort(key=lambda call: call.arrived)
    for call in reversed(waiting) if pool.address in stuck.pools else ():
        if _is_waited_for(state, stuck, call):
            return [_refuse(state, pool, call)]
    return [_refuse(state, pool, call) for call in _of_a_far_ring(state, pool, waiting, now)]


def _of_a_far_ring(state: HostState, pool: Pool, waiting: list[Call], now: float) -> list[Call]:
    """The newest call of those that came through this function and can have no instance of it, or none."""
    inside = [call for call in waiting if pool.address in call.context.through]
    old_enough = bool(inside) and now - inside[0].arrived >= LOOK_FAR_AFTER_S
    came_through = sum(call.context.through.count(pool.address) for call in inside)
    if not old_enough or came_through < len(pool.instances) or _may_grow(state, pool):
        return []
    return inside[-1:]


def _refuse(state: HostState, pool: Pool, call: Call) -> Effect:
    pool.remove(call)
    message = (
        f"{call.address}: it is called by {call.context.caller}, and every instance that could take the call"
        " waits itself for calls like it (a cycle of calls, or too little room for all of them;"
        " raise `scale`, or lend more spaces)"
    )
    error = Overloaded(message, retry_after_s=1, reason="deadlock")
    return answer(state, call, failed(error, try_elsewhere=True))


class _Stuck:
    """Instances, by number, and pools, by address, that cannot move."""

    def __init__(self, instances: set[int], pools: set[str]) -> None:
        self.instances = instances
        self.pools = pools


def _stuck(state: HostState) -> _Stuck:
    instances = {number for number, each in state.instances.items() if not each.is_daemon and each.waits_for_calls}
    pools = {address for address, pool in state.pools.items() if pool.queued and not _may_grow(state, pool)}
    at_work = {id(call): each.number for each in state.instances.values() for call in each.calls_now.values()}
    stuck = _Stuck(instances, pools)
    while True:
        moving = {
            number
            for number in stuck.instances
            if any(_moves(state, stuck, at_work, ask.id, ask.address) for ask in state.instances[number].asks.values())
        }
        free = {
            address for address in stuck.pools if any(n not in stuck.instances for n in state.pools[address].instances)
        }
        if not moving and not free:
            return stuck
        stuck.instances -= moving
        stuck.pools -= free


def _may_grow(state: HostState, pool: Pool) -> bool:
    if len(pool.instances) >= pool.lease.ceiling:
        return False
    # Where every space is in use, one that only waits for calls in a ring will not become free.
    return not state.is_full() or any(not each.calls_now for each in state.instances.values() if not each.is_daemon)


def _moves(state: HostState, stuck: _Stuck, at_work: dict[int, int], call_id: bytes, address: str) -> bool:
    """Whether a call that an instance waits for may still end: of one that is not on this host nothing is known."""
    call = state.calls.get(call_id)
    if call is None:
        return True
    number = at_work.get(id(call))
    return number not in stuck.instances if number is not None else address not in stuck.pools


def _is_waited_for(state: HostState, stuck: _Stuck, call: Call) -> bool:
    """Whether an instance that is stuck waits for it: here, or by the way of the gateway."""
    askers = [reply for reply in call.replies if isinstance(reply, Asker)]
    if call.id in state.relayed:
        askers.append(state.relayed[call.id])
    return any(asker.instance in stuck.instances for asker in askers)
