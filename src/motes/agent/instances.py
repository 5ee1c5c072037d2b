"""Instances and their calls: give them one, let them go, end them, and what becomes of a call then. Part of the
agent's core."""

from __future__ import annotations

from motes.agent.answers import answer, no_lease, waited_too_long, why_lost
from motes.agent.effects import Deliver, Effect, End, Tell
from motes.agent.pool import Call, Instance, Pool
from motes.agent.state import HostState
from motes.model.call import failed
from motes.model.instance import EndReason, StartReason


def deliver(state: HostState, instance: Instance, call: Call, now: float) -> Effect:
    instance.begin(call)
    instance.output_bytes = 0
    call.began = now
    return Deliver(instance.number, call.body)


def work_on(state: HostState, instance: Instance, pool: Pool, now: float) -> list[Effect]:
    """Give a free instance the next call that has not waited too long."""
    effects: list[Effect] = []
    while pool.queue:
        call = pool.pop()
        if now < call.deadline:
            return [*effects, deliver(state, instance, call, now)]
        effects.append(answer(state, call, waited_too_long(state, call)))
    instance.idle_since = now
    pool.idle.append(instance)
    return effects


def let_go(state: HostState, instance: Instance, reason: EndReason) -> list[Effect]:
    """End an instance now when it is free, else after its call."""
    if instance.call is not None:
        instance.leaving = reason
        return []
    return [end(state, instance, reason)]


def end(state: HostState, instance: Instance, reason: EndReason, detail: str = "") -> Effect:
    instance.ending = True
    pool = state.pools.get(instance.address)
    if pool is not None and instance in pool.idle:
        pool.idle.remove(instance)
    return End(instance.number, reason, detail)


def told_start(state: HostState, instance: Instance) -> Effect:
    reason = StartReason.FLOOR if instance.call is None else StartReason.LOAD
    failures = state.daemons[instance.address].failures if instance.is_daemon else state.pools[instance.address].crashes
    if failures:
        reason = StartReason.RESTART
    return Tell("instance.start", reason, instance.address, instance.release, instance.pid)


def lose_call(state: HostState, pool: Pool, instance: Instance, reason: EndReason, detail: str) -> list[Effect]:
    """The instance ended in the middle of its call."""
    call, instance.call = instance.call, None
    if call is None:
        return []
    if reason == EndReason.SPACE_FAILED and not instance.alive:
        if pool.lease.ceiling == 0:
            return [answer(state, call, no_lease(state, call.address))]
        pool.push(call, first=True)
        return []
    return [answer(state, call, failed(why_lost(state, pool, call, reason, detail)))]
