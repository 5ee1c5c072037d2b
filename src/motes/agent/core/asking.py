"""Calls that instances make of other functions: here when this host may run them, else through the gateway.

What always holds: an instance calls only what its function declares, only while it works on a call, and no longer than
that call may last; and each of its calls is answered exactly once, or given up by it.
"""

from __future__ import annotations

import itertools

import msgspec

from motes.agent.core.calls import accept, give_up, take_more
from motes.agent.core.effects import Asker, Effect, Inform, Relay, RelayAwait, RelayCancel, RelayMore, Reply
from motes.agent.core.pool import Ask, Call, Instance
from motes.agent.core.state import HostState
from motes.errors import Cancelled, LimitExceeded, MotesError, Overloaded, Refused, TimedOut, TooLarge, Unavailable
from motes.model.allowance import Allowance
from motes.model.bounds import MOST_LISTED
from motes.model.call import MOST_AWAITED, MOST_DEEP, STATUS_ITEM, STATUS_TRY_ELSEWHERE, Context, Outcome, failed
from motes.model.caller import digest, through
from motes.model.release import PAYLOAD_LIMIT_BYTES, address_of
from motes.model.units import format_bytes, format_seconds

MOST_ASKS = 256
"""Calls that one instance may wait for at a time."""
MOST_ASKED_BYTES = 64 * 2**20
"""What their bodies may hold together."""
MOST_ASKED_ON_HOST_BYTES = 256 * 2**20
"""The same for all instances of a host."""
SHARE_BYTES = 2**20
"""So much each instance may ask all the same, whatever others do."""
LEAVING_BYTES_PER_S, LEAVING_BURST_BYTES = 32.0 * 2**20, 16.0 * 2**20
"""What one app's calls may carry to other hosts. The gateway reads only so fast: NATS takes who is behind for dead."""
AGAIN_S = 0.1
"""When nobody took a call that was to leave this host, it is sent again."""
AWAIT_EVERY_S = 1.0
"""So often the gateway is told what is waited for: one that was started anew has nothing of it."""
GRACE_S = 1.0
"""The gateway answers at the end of a call's time; only when that answer stays out for so long this host does."""


def ask(state: HostState, instance: Instance, wanted: Ask, now: float) -> list[Effect]:
    """An instance calls `wanted.name`. Its `number` is the instance's own."""
    call = instance.calls_now.get(wanted.tag)
    app = instance.app
    wanted.address = address_of(wanted.name, app)
    refused = _why_not(state, instance, call, wanted)
    if call is None or refused is not None:
        return [_inform(instance, wanted.number, failed(refused or _call_is_over(instance)))]
    pool = state.pools[instance.address]
    timeout_s = pool.function.timeout_s if pool.function is not None else 0.0
    wanted.deadline = min(call.deadline, call.began + timeout_s)
    wanted.context = Context((*call.context.through, instance.address), call.context.trace)
    wanted.caller = through(call.caller, instance.address)
    instance.asks[wanted.number] = wanted
    instance.asked_bytes += len(wanted.body)
    state.asked_bytes += len(wanted.body)
    replies: list[Reply] = [Asker(instance.number, wanted.number)]
    here = Call(wanted.id, wanted.address, wanted.body, now, wanted.deadline, replies)
    here.context, here.caller = wanted.context, wanted.caller
    return accept(state, here, now)


def _why_not(state: HostState, instance: Instance, call: Call | None, wanted: Ask) -> MotesError | None:
    what = f"{instance.address}: its call of {wanted.address}"
    if call is None or call.gone_at is not None:
        return _call_is_over(instance)
    if wanted.number in instance.asks:
        return Refused(f"{what} has the number of another that is under way")
    if wanted.address not in instance.may_call:
        name = f'"{wanted.name}"' if "." in wanted.name else wanted.name
        return Refused(f"{what} is not declared: name it in the decorator, as in @function(calls=[{name}])")
    if call.context.depth >= MOST_DEEP:
        message = f"{what} would be made inside of {MOST_DEEP} others, which is the limit; is there a cycle?"
        return LimitExceeded(message, reason="call_depth")
    if len(wanted.body) > PAYLOAD_LIMIT_BYTES:
        limit = format_bytes(PAYLOAD_LIMIT_BYTES)
        return TooLarge(f"{what}: the input is over {limit}", limit_bytes=PAYLOAD_LIMIT_BYTES)
    asked_bytes = instance.asked_bytes + len(wanted.body)
    if len(instance.asks) >= MOST_ASKS or asked_bytes > MOST_ASKED_BYTES:
        most = f"{MOST_ASKS} calls and {format_bytes(MOST_ASKED_BYTES)} at a time"
        return Overloaded(f"{what}: an instance may wait for {most}; wait for some first", retry_after_s=1)
    if asked_bytes > SHARE_BYTES and state.asked_bytes + len(wanted.body) > MOST_ASKED_ON_HOST_BYTES:
        most = f"{format_bytes(MOST_ASKED_ON_HOST_BYTES)} at a time"
        message = f"{what}: the functions of host {state.host!r} may send one another {most}; try again in a second"
        return Overloaded(message, retry_after_s=1)
    return None


def _call_is_over(instance: Instance) -> Refused:
    return Refused(f"{instance.address}: other functions can be called only while a call is worked on")


def told(state: HostState, asker: Asker, outcome: Outcome, now: float) -> list[Effect]:
    """What became of an instance's call on this host; one that was refused here goes to another."""
    instance = state.instances.get(asker.instance)
    found = None if instance is None else instance.asks.get(asker.number)
    if instance is None or found is None:
        return []
    if outcome.status == STATUS_TRY_ELSEWHERE and found.relayed_at is None:
        return _relay(state, instance, found, now)
    if outcome.status != STATUS_ITEM:
        _forget(state, instance, found)
    return [_inform(instance, asker.number, outcome)]


def relayed(state: HostState, call_id: bytes, outcome: Outcome, now: float) -> list[Effect]:
    """The gateway's answer to a call that left this host."""
    asker = state.relayed.get(call_id)
    return [] if asker is None else told(state, asker, outcome, now)


def not_relayed(state: HostState, call_id: bytes, now: float) -> list[Effect]:
    """There was no gateway, or no connection: the call has not left, and is sent again soon."""
    found = _ask_of(state, state.relayed.get(call_id))
    if found is not None:
        found.again_at = now + AGAIN_S
    return []


def cancel(state: HostState, instance: Instance, number: int, now: float) -> list[Effect]:
    """The instance gives up one of its calls; a thread of it that waits for an answer all the same gets one."""
    if number not in instance.asks:
        return []
    error = Cancelled(f"{instance.asks[number].address}: the call was given up")
    return [*leave(state, instance, number, now), _inform(instance, number, failed(error))]


def unread(state: HostState, instance: Instance, number: int, now: float) -> list[Effect]:
    """What the call came to could not be handed over: too many large answers wait to be read."""
    message = (
        f"{instance.address}: the answers to its calls that wait to be read are more than its memory;"
        " take them sooner, have fewer calls under way (`map` has `in_flight`), or raise `memory`"
    )
    error = Overloaded(message, retry_after_s=1)
    return [*leave(state, instance, number, now), _inform(instance, number, failed(error))]


def leave(state: HostState, instance: Instance, number: int, now: float) -> list[Effect]:
    """Nobody waits for one of the instance's calls any more."""
    found = instance.asks.get(number)
    if found is None:
        return []
    is_relayed = found.relayed_at is not None
    _forget(state, instance, found)
    return [RelayCancel(found.id)] if is_relayed else give_up(state, found.id, now)


def leave_all(state: HostState, instance: Instance, now: float, tag: int | None = None) -> list[Effect]:
    """The call with this tag is over, or with None all of the instance's: what was asked for them is given up."""
    numbers = [each.number for each in instance.asks.values() if tag is None or each.tag == tag]
    return [effect for number in numbers for effect in leave(state, instance, number, now)]


def take_items(state: HostState, instance: Instance, number: int, count: int) -> list[Effect]:
    """The instance has taken items of a stream."""
    found = instance.asks.get(number)
    if found is None:
        return []
    return take_more(state, found.id, count) if found.relayed_at is None else [RelayMore(found.id, count)]


def tick(state: HostState, now: float) -> list[Effect]:
    """Calls that left this host, or could not: sent again, or over."""
    effects: list[Effect] = []
    for asker in list(state.relayed.values()):
        instance = state.instances.get(asker.instance)
        found = None if instance is None else instance.asks.get(asker.number)
        if instance is None or found is None:
            continue
        if found.again_at is not None and now >= found.deadline:
            message = (
                f"{found.address}: the call could not leave host {state.host!r} in time (no gateway is there, or the"
                f" app's calls carry over {format_bytes(int(LEAVING_BYTES_PER_S))} a second to other hosts)"
            )
            effects += told(state, asker, failed(Unavailable(message, retry_after_s=1)), now)
        elif now >= found.deadline + GRACE_S:
            waited_s = now - (found.relayed_at or now)
            message = f"{found.address}: no answer from another host within {format_seconds(round(waited_s, 3))}"
            effects.append(RelayCancel(found.id))
            effects += told(state, asker, failed(TimedOut(message, timeout_s=waited_s)), now)
        elif found.again_at is not None and now >= found.again_at:
            effects += _relay(state, instance, found, now)
    return [*effects, *_still_awaited(state, now)]


def _still_awaited(state: HostState, now: float) -> list[Effect]:
    if not state.relayed or now < state.awaited_at + AWAIT_EVERY_S:
        return []
    state.awaited_at = now
    asks = ((call_id, _ask_of(state, asker)) for call_id, asker in state.relayed.items())
    # What has only just left may still come back, because nobody was there.
    sent = (call_id for call_id, ask in asks if ask is not None and ask.again_at is None and ask.sent_at < now)
    call_ids = tuple(itertools.islice(sent, MOST_AWAITED))
    return [RelayAwait(call_ids)] if call_ids else []


def _relay(state: HostState, instance: Instance, found: Ask, now: float) -> list[Effect]:
    found.relayed_at = found.relayed_at or now
    state.relayed[found.id] = Asker(instance.number, found.number)
    if not _leaving_of(state, instance.app, now).take(now, len(found.body)):
        found.again_at = now + AGAIN_S
        return []
    found.again_at, found.sent_at = None, now
    context = msgspec.structs.replace(found.context, on_behalf=digest(found.caller))
    return [Relay(found.id, found.address, found.body, max(found.deadline - now, 0.001), context)]


def _leaving_of(state: HostState, app: str, now: float) -> Allowance:
    found = state.leaving.get(app)
    if found is None:
        if len(state.leaving) >= MOST_LISTED:
            del state.leaving[next(iter(state.leaving))]
        found = Allowance(LEAVING_BYTES_PER_S, LEAVING_BURST_BYTES, LEAVING_BURST_BYTES, now)
        state.leaving[app] = found
    return found


def _ask_of(state: HostState, asker: Asker | None) -> Ask | None:
    instance = None if asker is None else state.instances.get(asker.instance)
    return None if instance is None or asker is None else instance.asks.get(asker.number)


def _forget(state: HostState, instance: Instance, found: Ask) -> None:
    del instance.asks[found.number]
    instance.asked_bytes -= len(found.body)
    state.asked_bytes -= len(found.body)
    state.relayed.pop(found.id, None)


def _inform(instance: Instance, number: int, outcome: Outcome) -> Effect:
    return Inform(instance.number, number, outcome)
