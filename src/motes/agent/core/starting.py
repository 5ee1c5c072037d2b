"""When functions' instances start, and in which release's space."""

from __future__ import annotations

from motes.agent.core.answers import refuse_waiting
from motes.agent.core.effects import Effect, Prepare, Report, Spawn
from motes.agent.core.instances import end, let_go, work_on
from motes.agent.core.pool import Instance, Pool
from motes.agent.core.releases import close_unused, refetch
from motes.agent.core.room import make_room, neediest_first, room_may_come, took_space
from motes.agent.core.state import HostState, SpaceView
from motes.errors import Overloaded
from motes.model.call import failed
from motes.model.instance import EndReason
from motes.model.release import Function


def start_some(state: HostState, pool: Pool, now: float) -> list[Effect]:
    """Start what the load or the floor asks for, as far as lease, offer and backoff allow."""
    if pool.lease.ceiling == 0 or state.draining:
        return []
    if pool.serving != pool.lease.release:
        towards = approach(state, pool, now)
        if towards or not pool.serving:
            return towards
    space = state.spaces.get(pool.serving)
    if space is None or space.state != "ready" or pool.function is None:
        return _reopen(state, pool, space, now)
    if now < pool.not_before:
        return []
    if pool.queued or pool.instances:
        space.last_used = now
    wanted, useful = min(pool.wanted(now, state.offer.cpus), pool.lease.ceiling), pool.useful()
    room = pool.lease.ceiling - len(pool.instances)
    started = _spawn_some(state, pool, pool.function, min(max(wanted, pool.lease.floor) - useful, room), now)
    return [*started, *_make_place(state, pool, wanted - useful - room)] if pool.by_caller else started


def after_call(state: HostState, pool: Pool, instance: Instance, now: float) -> list[Effect]:
    """A caller's instance has answered: it goes on with that caller's next call, unless it is another's turn."""
    if (instance.lane.queue or instance.calls_now) and pool.is_turn_over(now):
        pool.put_last(instance.lane)
        return let_go(state, instance, EndReason.OTHER_CALLER)
    effects = work_on(state, instance, pool, now)
    return effects if instance.calls_now or not pool.queued else [*effects, *start_some(state, pool, now)]


def _make_place(state: HostState, pool: Pool, count: int) -> list[Effect]:
    """The ceiling is reached: what other callers have left idle the longest ends, for those who wait."""
    coming = sum(1 for each in pool.instances.values() if each.ending)
    if not pool.queued or count <= coming:
        return []
    left = sorted((each for each in pool.idle if each.lane.key is not None), key=lambda each: each.idle_since)
    return [end(state, each, EndReason.OTHER_CALLER) for each in left[: count - coming]]


def start_in_freed_space(state: HostState, pool: Pool, now: float) -> list[Effect]:
    """An instance of the pool has ended; where the host was full, others may need its space more."""
    if state.spaces_used() + 1 < state.offer.spaces:
        return start_some(state, pool, now)
    return [effect for each in neediest_first(state) for effect in start_some(state, each, now)]


def approach(state: HostState, pool: Pool, now: float) -> list[Effect]:
    """Bring the pool to its lease's release: serve it when it is ready, else prepare it when there is need."""
    release = pool.lease.release
    space = state.spaces[release]
    if pool.serving == release:
        return start_some(state, pool, now)
    if space.manifest is None:
        return refetch(state, release, space, now)
    if space.state == "ready":
        return serve(state, pool, release, now)
    if space.state in ("absent", "failed") and now >= space.retry_at and _is_needed(state, pool):
        space.state, space.last_used = "preparing", now
        return [Prepare(release)]
    return []


def _is_needed(state: HostState, pool: Pool) -> bool:
    """A space is made for calls that wait, for a floor, and to take over from an older release."""
    return bool(pool.queued or pool.lease.floor or pool.instances)


def serve(state: HostState, pool: Pool, release: str, now: float) -> list[Effect]:
    """Calls go to this release from now on; the instances of the one before end when they are done."""
    manifest = state.spaces[release].manifest
    workload = None if manifest is None else manifest.workload(pool.lease.workload)
    if not isinstance(workload, Function):
        return []
    # A deploy waits to hear that the newer release has taken over.
    effects: list[Effect] = [Report()] if pool.serving not in ("", release) else []
    pool.serving, pool.function, pool.failing = release, workload, ""
    pool.separate(by_caller=workload.reuse == "caller")
    for instance in pool.live():
        if instance.release != release:
            effects += let_go(state, instance, EndReason.REPLACED)
    return [*effects, *start_some(state, pool, now), *close_unused(state, now)]


def _spawn_some(state: HostState, pool: Pool, function: Function, missing: int, now: float) -> list[Effect]:
    effects: list[Effect] = []
    for _ in range(missing):
        if state.is_full():
            return [*effects, *make_room(state, pool, now), *_refuse_for_ever_full(state, pool)]
        instance = state.new_instance(pool.address, pool.serving, now)
        instance.concurrency = function.concurrency
        took_space(state, instance, now)
        instance.may_call = function.may_call(pool.address.partition(".")[0])
        pool.add(instance, pool.next_to_grow(now))
        effects.append(Spawn(pool.serving, instance.number, function))
        effects += work_on(state, instance, pool, now)
    return effects


def _refuse_for_ever_full(state: HostState, pool: Pool) -> list[Effect]:
    """Where only floors and daemons hold the spaces, no wait would help."""
    if pool.instances or room_may_come(state, pool):
        return []
    message = f"{pool.address}: every process space of host {state.host!r} is in use by what must always run"
    return refuse_waiting(state, pool, failed(Overloaded(message, retry_after_s=1), try_elsewhere=True))


def _reopen(state: HostState, pool: Pool, space: SpaceView | None, now: float) -> list[Effect]:
    """The space of the release that serves has ended: make it again."""
    if space is None or space.state not in ("absent", "failed") or now < space.retry_at:
        return []
    if not (pool.queued or pool.lease.floor):
        return []
    space.state = "preparing"
    return [Prepare(pool.serving)]


def trim(state: HostState, pool: Pool, now: float) -> list[Effect]:
    """A lower ceiling: the surplus ends, idle ones first, the others when they are done."""
    surplus = len(pool.live()) - pool.lease.ceiling
    order = [*pool.idle, *(each for each in reversed(pool.live()) if each not in pool.idle)]
    return [effect for each in order[: max(surplus, 0)] for effect in let_go(state, each, EndReason.REMOVED)]
