"""Calls come in, are joined, asked after and given up."""

from __future__ import annotations

from motes.agent.core.answers import no_lease, refusal
from motes.agent.core.effects import Answer, Effect, More, Reply
from motes.agent.core.instances import deliver, may_run_twice, stop_call
from motes.agent.core.pool import Call
from motes.agent.core.starting import start_some
from motes.agent.core.state import HostState
from motes.errors import HostLost, Refused
from motes.model.call import NEVER_ARRIVED, WINDOW_ITEMS, Outcome, failed, lost

MOST_REPLIES = 8
"""Where one call's outcome goes: its sender names another inbox only after it was disconnected."""


def accept(state: HostState, call: Call, now: float) -> list[Effect]:
    """A call arrived. One whose id is known joins the one under way."""
    known = state.calls.get(call.id)
    if known is not None:
        return _join(known, call)
    pool = state.pools.get(call.address)
    if call.id in state.answered and not (pool is not None and may_run_twice(pool)):
        return [Answer(tuple(call.replies), _was_answered(state))]
    refused = refusal(state, pool, call, now)
    if pool is None or refused is not None:
        return [Answer(tuple(call.replies), refused or no_lease(state, call.address))]
    state.calls[call.id] = call
    pool.last_call_at = now
    lane = pool.lane_of(call) if pool.by_caller else pool.common
    if not lane.queue:
        instance = lane.free[-1] if lane.free else pool.adopt(lane)
        if instance is not None:
            return [deliver(pool, instance, call, now)]
    pool.push(call)
    return start_some(state, pool, now) if pool.is_time_to_look(lane, now) else []


def _join(known: Call, call: Call) -> list[Effect]:
    """The same call once more: it is answered with the one under way, wherever its sender wants it."""
    news: list[Reply] = [reply for reply in call.replies if reply not in known.replies]
    is_another = known.address != call.address or known.caller != call.caller
    if is_another or len(known.replies) + len(news) > MOST_REPLIES:
        return [Answer(tuple(news), failed(Refused("a call of this id is under way; give each call its own")))]
    known.replies += news
    return []


def asked_after(state: HostState, call_id: bytes, beat: int) -> Outcome | None:
    """What to say of a call that was sent by who had heard this heartbeat of the agent's; None: its answer is to come.

    An answer that was sent before is on its way before this one.
    """
    if call_id in state.calls:
        return None
    if call_id in state.answered:
        return _was_answered(state)
    if not state.answered.reaches_back_to(beat):
        why = "started after the call was sent, or remembers only later ones"
        return lost(f"host {state.host!r} {why}, so whether it ran is unknown")
    error = HostLost(f"the call did not reach host {state.host!r}", **{NEVER_ARRIVED: True})
    return failed(error, try_elsewhere=True)


def _was_answered(state: HostState) -> Outcome:
    return lost(f"host {state.host!r} has answered this call before, and its answer is gone")


def give_up(state: HostState, call_id: bytes, now: float) -> list[Effect]:
    """Nobody waits for the call any more: it leaves the queue, or its instance ends."""
    call = state.calls.pop(call_id, None)
    if call is None:
        return []
    state.answered.note(call_id)
    pool = state.pools[call.address]
    if pool.remove(call):
        return []
    for instance in pool.instances.values():
        for tag, each in instance.calls_now.items():
            if each is call:
                return stop_call(state, pool, instance, tag, now)
    return []


def take_more(state: HostState, call_id: bytes, count: int) -> list[Effect]:
    """The caller has taken items of a stream."""
    call = state.calls.get(call_id)
    if call is None:
        return []
    count = min(count, WINDOW_ITEMS - call.window)
    for instance in state.pools[call.address].instances.values() if count > 0 else ():
        for tag, each in instance.calls_now.items():
            if each is call:
                call.window += count
                return [More(instance.number, tag, count)]
    return []
