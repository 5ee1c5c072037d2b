"""What instances and calls may use: memory, threads, time, and how long they may be idle."""

from __future__ import annotations

import msgspec

from motes.agent.core.answers import waited_too_long, why_lost
from motes.agent.core.effects import Effect
from motes.agent.core.instances import end, stop_call, time_out
from motes.agent.core.pool import Call, Instance, Pool
from motes.agent.core.releases import close_unused
from motes.agent.core.state import HostState
from motes.errors import MotesError, TimedOut
from motes.model.call import failed
from motes.model.instance import EndReason
from motes.model.units import format_bytes, format_seconds

THREAD_LIMIT = 64
STOP_GRACE_S = 2.0
"""How long a call that was told to stop may take to do so; then its instance ends, and with it its other calls."""

PRESSURE_S = 1.0
"""How long all that runs may together be over what is lent, when nothing is idle: calls that end soon give it back."""
FAR_OVER = 1.1
"""So many times what is lent are never waited for."""


class Usage(msgspec.Struct, frozen=True):
    """What one instance has used: CPU seconds since its start, private memory, threads."""

    cpu_s: float
    memory_bytes: int
    threads: int = 1


def check_usage(state: HostState, instance: Instance, usage: Usage) -> list[Effect]:
    if not instance.is_daemon and usage.threads > THREAD_LIMIT:
        return [end(state, instance, EndReason.PROCESS_LIMIT, f"has over {THREAD_LIMIT} threads")]
    limit = _memory_limit(state, instance)
    if limit is None or usage.memory_bytes <= limit:
        return []
    detail = f"uses more than its memory limit of {format_bytes(limit)}"
    return [end(state, instance, EndReason.MEMORY_LIMIT, detail)]


def _memory_limit(state: HostState, instance: Instance) -> int | None:
    space = state.spaces.get(instance.release)
    name = instance.address.partition(".")[2]
    workload = None if space is None or space.manifest is None else space.manifest.workload(name)
    return None if workload is None else workload.memory_bytes


def relieve(state: HostState, now: float) -> list[Effect]:
    """Over what the owner lends: the newest idle instance ends, then the space longest unused, then one that works."""
    if state.memory_bytes <= state.memory_limit_bytes:
        state.pressed_since = None
        return []
    idle = [each for pool in state.pools.values() for each in pool.spare()]
    effects = (
        [end(state, max(idle, key=lambda each: each.started), EndReason.PRESSURE)]
        if idle
        else close_unused(state, now, pressure=True)
    )
    if effects or any(each.ending for each in state.instances.values()):
        # What ends gives back its memory only when it has ended.
        state.pressed_since = None
        return effects
    if state.pressed_since is None:
        state.pressed_since = now
    has_waited = now - state.pressed_since >= PRESSURE_S
    if not has_waited and state.memory_bytes <= state.memory_limit_bytes * FAR_OVER:
        return []
    effects = _end_largest(state, also_ready=has_waited)
    if effects:
        state.pressed_since = None
    return effects


def _end_largest(state: HostState, also_ready: bool) -> list[Effect]:
    """The newest working instance of the app that uses the most memory; with `also_ready` else one that stands ready,
    of the least of `scale`, which comes again with less."""
    used: dict[str, int] = {}
    for each in state.instances.values():
        used[each.app] = used.get(each.app, 0) + each.memory_bytes
    largest = max(used, key=used.__getitem__, default="")
    theirs = [each for each in state.instances.values() if each.app == largest and each.alive]
    ending = [each for each in theirs if each.calls_now or each.is_daemon] or (theirs if also_ready else [])
    if not ending:
        return []
    lent, has = format_bytes(state.offer.memory_bytes), format_bytes(used[largest])
    detail = (
        f"host {state.host!r} lends {lent} of memory, all of it is in use, and app {largest!r} has the most ({has})"
    )
    return [end(state, max(ending, key=lambda each: each.started), EndReason.PRESSURE, detail)]


def expire(state: HostState, pool: Pool, now: float) -> list[Effect]:
    """Calls whose time is over, waiting or running."""
    effects: list[Effect] = []
    overdue = [call for call in pool.waiting_calls() if now >= call.deadline]
    for call in overdue:
        pool.remove(call)
        effects.append(time_out(state, call, waited_too_long(state, call), now))
    for instance in pool.instances.values():
        for tag, call in list(instance.calls_now.items()):
            if not instance.ending:
                effects += _expire_running(state, pool, instance, tag, call, now)
    return effects


def _expire_running(state: HostState, pool: Pool, instance: Instance, tag: int, call: Call, now: float) -> list[Effect]:
    if call.gone_at is not None:
        if now - call.gone_at < STOP_GRACE_S:
            return []
        return [end(state, instance, EndReason.CANCELLED, f"a call did not stop within {format_seconds(STOP_GRACE_S)}")]
    if pool.function is not None and now - call.began >= pool.function.timeout_s:
        if instance.concurrency == 1:
            return [end(state, instance, EndReason.TIME_LIMIT)]
        error: MotesError = why_lost(state, pool, call, EndReason.TIME_LIMIT, "")
    elif now >= call.deadline:
        budget_s = round(call.deadline - call.arrived, 3)
        message = f"{call.address}: host {state.host!r} was not done within the caller's {format_seconds(budget_s)}"
        error = TimedOut(message, timeout_s=budget_s)
    else:
        return []
    return [time_out(state, call, failed(error), now), *stop_call(state, pool, instance, tag, now)]


def end_idle(state: HostState, pool: Pool, now: float) -> list[Effect]:
    if pool.function is None:
        return []
    idle_s = pool.function.idle_s
    old = [each for each in pool.idle if now - each.idle_since >= idle_s]
    beyond = max(pool.useful() - pool.lease.floor, 0)
    # What a caller has left goes in any case; the floor is of instances that are nobody's.
    callers = [each for each in old if each.lane.key is not None]
    others = [each for each in old if each.lane.key is None][:beyond]
    return [end(state, each, EndReason.IDLE) for each in (*callers, *others)]
