"""Streams over a connection that breaks: an item that was lost, or came twice, would not be noticed, so they end.

Those that instances here take from other hosts the gateway ends: it knows of which it has sent something.
"""

from __future__ import annotations

from motes.agent.core.answers import answer
from motes.agent.core.calls import give_up
from motes.agent.core.effects import Effect, RelayMore
from motes.agent.core.state import HostState
from motes.errors import HostLost, MotesError
from motes.model.call import failed


def break_streams(
    state: HostState, now: float, inbox: str | None = None, error: MotesError | None = None
) -> list[Effect]:
    """End the streams of which an item has left this host, the one that goes to `inbox`, or where the connection broke
    all of them, and those that come from the gateway. `error`: what is in the place of the item, when it is known."""
    effects: list[Effect] = []
    for call in list(state.calls.values()):
        inboxes = [reply for reply in call.replies if isinstance(reply, str)]
        if call.has_sent_items and inboxes and inbox in (None, *inboxes):
            message = f"{call.address}: the connection of host {state.host!r} broke in the middle of the stream"
            stopped = give_up(state, call.id, now)
            outcome = failed(error or HostLost(message, host=state.host))
            effects += [answer(state, call, outcome), *stopped]
    return [*effects, *(RelayMore(call_id, 0) for call_id in (state.relayed if inbox is None else ()))]
