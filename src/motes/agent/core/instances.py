"""Instances and their calls: give them one, let them go, end them, and what becomes of a call then."""

from __future__ import annotations

from motes.agent.core.answers import HOST_GONE, answer, no_lease, waited_too_long, why_lost
from motes.agent.core.effects import Deliver, Effect, End, Stop, Tell
from motes.agent.core.pool import Call, Instance, Pool
from motes.agent.core.state import HostState
from motes.model.call import Outcome, failed
from motes.model.instance import EndReason, StartReason


def deliver(pool: Pool, instance: Instance, call: Call, now: float) -> Effect:
    tag = instance.begin(call)
    instance.output_bytes = 0
    call.began = now
    pool.note_room(instance)
    return Deliver(instance.number, tag, call.body)


def work_on(state: HostState, instance: Instance, pool: Pool, now: float) -> list[Effect]:
    """Give an instance as many calls as it has room for, of those that have not waited too long."""
    effects: list[Effect] = []
    lane = instance.lane
    while lane.queue and instance.has_room:
        call = pool.pop(lane)
        if now < call.deadline:
            effects.append(deliver(pool, instance, call, now))
        else:
            effects.append(time_out(state, call, waited_too_long(state, call), now))
    if not instance.calls_now:
        instance.idle_since = now
    pool.note_room(instance)
    return effects


def time_out(state: HostState, call: Call, outcome: Outcome, now: float) -> Effect:
    """Answer a call whose time is over: it took all of that, and is counted among the slow ones."""
    state.tally(call.address).note_took(now - call.arrived)
    return answer(state, call, outcome)


def stop_call(state: HostState, pool: Pool, instance: Instance, tag: int, now: float) -> list[Effect]:
    """Nobody waits for the call any more. One that shares its instance with others is told; else the instance ends."""
    if instance.concurrency == 1:
        del instance.calls_now[tag]
        return [end(state, instance, EndReason.CANCELLED)]
    instance.calls_now[tag].gone_at = now
    return [Stop(instance.number, tag)]


def let_go(state: HostState, instance: Instance, reason: EndReason) -> list[Effect]:
    """End an instance now when it is idle, else after its calls."""
    if instance.calls_now:
        instance.leaving = reason
        pool = state.pools.get(instance.address)
        if pool is not None:
            pool.note_room(instance)
        return []
    return [end(state, instance, reason)]


def end(state: HostState, instance: Instance, reason: EndReason, detail: str = "") -> Effect:
    instance.ending = True
    pool = state.pools.get(instance.address)
    if pool is not None:
        pool.note_room(instance)
    return End(instance.number, reason, detail)


def told_start(state: HostState, instance: Instance) -> Effect:
    state.tally(instance.address).starts += 1
    reason = StartReason.LOAD if instance.calls_now else StartReason.FLOOR
    failures = state.daemons[instance.address].failures if instance.is_daemon else state.pools[instance.address].crashes
    if failures:
        reason = StartReason.RESTART
    return Tell("instance.start", reason, instance.address, instance.release, instance.pid)


def lose_calls(
    state: HostState, pool: Pool, instance: Instance, reason: EndReason, detail: str, now: float
) -> list[Effect]:
    """The instance ended in the middle of its calls."""
    lost, instance.calls_now = list(instance.calls_now.values()), {}
    return [
        effect
        # The last first: what goes back to the head of the queue keeps its order.
        for call in reversed(lost)
        if call.gone_at is None
        for effect in _lose_call(state, pool, instance, call, reason, detail, now)
    ]


def use_free(state: HostState, pool: Pool, now: float) -> list[Effect]:
    """What went back to the queue goes to those that are free: nothing else would, for they end no call just now.

    A moment later, with the tick that comes soon where calls wait: with its space all instances end, one after the
    other, and a call that may run once more must not do so in the next of them.
    """
    effects: list[Effect] = []
    for lane in list(pool.waiting.values()):
        while lane.queue and (free := lane.free[-1] if lane.free else pool.adopt(lane)) is not None:
            effects += work_on(state, free, pool, now)
    return effects


def _lose_call(
    state: HostState, pool: Pool, instance: Instance, call: Call, reason: EndReason, detail: str, now: float
) -> list[Effect]:
    if reason == EndReason.TIME_LIMIT:
        return [time_out(state, call, failed(why_lost(state, pool, call, reason, detail)), now)]
    if (reason == EndReason.SPACE_FAILED and not instance.alive) or _may_run_again(pool, call, reason):
        if pool.lease.ceiling == 0:
            return [answer(state, call, no_lease(state, call.address))]
        pool.push(call, first=True)
        return []
    # Whoever stops a host, or wants it back, does not stop what may run twice: another host does it.
    elsewhere = reason in HOST_GONE and may_run_twice(pool)
    return [answer(state, call, failed(why_lost(state, pool, call, reason, detail), try_elsewhere=elsewhere))]


def _may_run_again(pool: Pool, call: Call, reason: EndReason) -> bool:
    """A signal may come from anywhere, and an end of the space is none of the call's doing: where twice is harmless
    the call gets one more process, and only one, for it may be what ends them."""
    if reason not in (EndReason.CRASHED, EndReason.SPACE_FAILED) or call.ran_before:
        return False
    call.ran_before = may_run_twice(pool)
    return call.ran_before


def may_run_twice(pool: Pool) -> bool:
    """Half a stream cannot be begun in the middle."""
    return pool.function is not None and pool.function.idempotent and not pool.function.streams
