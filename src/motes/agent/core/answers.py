"""How calls end: the outcome in words, and that each goes out once."""

from __future__ import annotations

from motes.agent.core.effects import Answer, Effect, Report
from motes.agent.core.pool import Call, Pool
from motes.agent.core.state import HostState
from motes.errors import (
    Exited,
    HostLost,
    LimitExceeded,
    LoadFailed,
    MotesError,
    NotFound,
    Overloaded,
    SpaceFailed,
    TimedOut,
    TooLarge,
)
from motes.model.call import STATUS_OK, STATUS_TRY_ELSEWHERE, Outcome, failed
from motes.model.instance import EndReason
from motes.model.release import PAYLOAD_LIMIT_BYTES
from motes.model.units import format_bytes, format_seconds

LIMITS = {
    EndReason.MEMORY_LIMIT,
    EndReason.PROCESS_LIMIT,
    EndReason.FILE_LIMIT,
    EndReason.OUTPUT_LIMIT,
}
HOST_GONE = {
    EndReason.WITHDRAWN: "its host was withdrawn",
    EndReason.HOST_STOPPED: "its host was stopped or paused in the middle of it",
}
"""Ends that are the doing of the machine's owner, and not of the process."""


def refusal(state: HostState, pool: Pool | None, call: Call, now: float) -> Outcome | None:
    """Why a call is not accepted, or None."""
    if pool is None or pool.lease.ceiling == 0 or state.draining:
        return no_lease(state, call.address)
    if len(call.body) > PAYLOAD_LIMIT_BYTES:
        limit = format_bytes(PAYLOAD_LIMIT_BYTES)
        return failed(TooLarge(f"{call.address}: the input is over {limit}", limit_bytes=PAYLOAD_LIMIT_BYTES))
    if pool.is_full(len(call.body)):
        waiting = f"{pool.queued} calls, and {format_bytes(state.waiting.bytes)} of all functions,"
        message = f"{call.address}: {waiting} wait on host {state.host!r} already; try again in a second"
        return failed(Overloaded(message, retry_after_s=1), try_elsewhere=True)
    if far_bytes := state.far_bytes(pool):
        return still_fetching(state, call.address, far_bytes)
    space = state.spaces.get(pool.lease.release)
    if not pool.serving and space is not None and space.error is not None and now < space.retry_at:
        return space_refusal(state, space.error)
    why = pool.cannot_start(now)
    return None if why is None else space_refusal(state, SpaceFailed(why))


def no_lease(state: HostState, address: str) -> Outcome:
    return failed(NotFound(f"host {state.host!r} holds no lease for {address}"), try_elsewhere=True)


def space_refusal(state: HostState, error: MotesError) -> Outcome:
    if isinstance(error, LoadFailed):
        return failed(error)
    message = error.message if isinstance(error, SpaceFailed) else f"the release is not to be had here: {error}"
    return failed(SpaceFailed(f"host {state.host!r}: {message}", retry_after_s=1), try_elsewhere=True)


def still_fetching(state: HostState, address: str, far_bytes: int) -> Outcome:
    message = f"{address}: host {state.host!r} is still fetching what it needs ({format_bytes(far_bytes)} to come)"
    return failed(SpaceFailed(message, retry_after_s=1, fetching_bytes=far_bytes), try_elsewhere=True)


def answer(state: HostState, call: Call, outcome: Outcome) -> Answer:
    state.calls.pop(call.id, None)
    # An instance's own call is not asked after; and a refused one may come again.
    if outcome.status != STATUS_TRY_ELSEWHERE and call.replies and isinstance(call.replies[0], str):
        state.answered.note(call.id)
    tally = state.tally(call.address)
    tally.calls += 1
    tally.errors += outcome.status != STATUS_OK
    tally.in_bytes += len(call.body)
    tally.out_bytes += len(outcome.body)
    return Answer(tuple(call.replies), outcome)


def waited_too_long(state: HostState, call: Call) -> Outcome:
    budget_s = call.deadline - call.arrived
    waited = f"waited for {format_seconds(round(budget_s, 3))} on host {state.host!r}"
    message = f"{call.address}: the call {waited} and no instance was free"
    return failed(TimedOut(message, timeout_s=budget_s))


def refuse_waiting(state: HostState, pool: Pool, outcome: Outcome) -> list[Effect]:
    waiting = pool.waiting_calls()
    for call in waiting:
        pool.remove(call)
    return [answer(state, call, outcome) for call in waiting]


def refuse_where_starts_fail(state: HostState, pool: Pool, now: float) -> list[Effect]:
    """Calls that nothing here can serve soon are better off on another host."""
    if pool.cannot_start(now) is None:
        return []
    return [*refuse_waiting(state, pool, space_refusal(state, SpaceFailed(pool.failing))), Report()]


def why_lost(state: HostState, pool: Pool, call: Call, reason: EndReason, detail: str) -> MotesError:
    if reason == EndReason.TIME_LIMIT and pool.function is not None:
        limit = format_seconds(pool.function.timeout_s)
        message = f"{call.address} ran for over its timeout of {limit} (raise `timeout`, or do less in one call)"
        return TimedOut(message, timeout_s=pool.function.timeout_s, reason=reason.value)
    if reason in LIMITS:
        return LimitExceeded(f"{call.address} {detail or 'went over a limit'}", reason=reason.value)
    if reason in HOST_GONE:
        message = f"{call.address}: {detail or HOST_GONE[reason]}; whether the call has done its work is unknown"
        return HostLost(message, host=state.host, reason=reason.value)
    why = detail or reason.value.replace("_", " ")
    return Exited(f"{call.address}: the process ended in the middle of the call: {why}", reason=reason.value)
