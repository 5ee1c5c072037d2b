"""Streams over a connection that breaks: an item that was lost, or came twice, would not be noticed, so they end.

Part of the agent's core.
"""

from __future__ import annotations

from motes.agent.answers import answer
from motes.agent.calls import give_up
from motes.agent.effects import Effect
from motes.agent.state import HostState
from motes.errors import HostLost
from motes.model.call import failed


def break_streams(state: HostState, now: float, inbox: str | None = None) -> list[Effect]:
    """End the streams of which an item has left this host, all of them or the one that goes to `inbox`."""
    effects: list[Effect] = []
    for call in list(state.calls.values()):
        inboxes = [reply for reply in call.replies if isinstance(reply, str)]
        if call.has_sent_items and inboxes and inbox in (None, *inboxes):
            message = f"{call.address}: the connection of host {state.host!r} broke in the middle of the stream"
            stopped = give_up(state, call.id, now)
            effects += [answer(state, call, failed(HostLost(message, host=state.host))), *stopped]
    return effects
