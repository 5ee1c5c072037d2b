"""Large results wait here until their callers have room for them: what a caller does not take in time piles up in
nats-server, which then drops the caller's connection, and with it all its other calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from motes.agent.core.effects import Reply
from motes.model.call import Outcome, held, lost, read_inbox_token
from motes.model.units import format_seconds

KEPT_S = 60.0
"""A caller that has not asked by then is gone."""
MOST_KEPT_BYTES = 512 * 2**20
"""Beyond it a large result goes out like a small one."""


class Kept(NamedTuple):
    """One result, and where it goes."""

    inboxes: Sequence[str]
    data: bytes
    until: float


class LargeResults:
    """The results of one host that are to be asked for, by call."""

    def __init__(self, send: Callable[[str, bytes], None]) -> None:
        self._send = send
        self._kept: dict[bytes, Kept] = {}
        self._bytes = 0

    def keep(self, replies: Sequence[Reply], outcome: Outcome, now: float) -> bool:
        """Tell the callers in other programs that a result is there; False when it is to be sent at once."""
        inboxes = [reply for reply in replies if isinstance(reply, str)]
        size = len(outcome.body)
        if not inboxes or self._bytes + size > MOST_KEPT_BYTES:
            return False
        try:
            call_id, _, _ = read_inbox_token(inboxes[0].rpartition(".")[2])
        except ValueError:
            return False  # None of our own routers: it would not know how to ask.
        self.drop(call_id)
        self._kept[call_id] = Kept(inboxes, outcome.pack(), now + KEPT_S)
        self._bytes += size
        for inbox in inboxes:
            self._send(inbox, held(size).pack())
        return True

    def send(self, call_id: bytes) -> bool:
        """The caller asks for it; False when nothing is kept for that call."""
        found = self.drop(call_id)
        if found is not None:
            for inbox in found.inboxes:
                self._send(inbox, found.data)
        return found is not None

    def send_all(self) -> None:
        """Send what was not asked for yet, whether there is room for it or not: the host needs the memory."""
        for call_id in list(self._kept):
            self.send(call_id)

    def keeps(self, call_id: bytes) -> bool:
        """Whether the caller has still to ask for it."""
        return call_id in self._kept

    def drop(self, call_id: bytes) -> Kept | None:
        """The caller wants it no more."""
        found = self._kept.pop(call_id, None)
        if found is not None:
            self._bytes -= len(found.data) - 1
        return found

    def tick(self, now: float) -> None:
        """Drop what nobody has asked for, and say so: its caller may still wait for room."""
        gone = f"the result was not asked for within {format_seconds(KEPT_S)}, and is gone"
        while self._kept and next(iter(self._kept.values())).until <= now:
            found = self.drop(next(iter(self._kept)))
            for inbox in found.inboxes if found is not None else ():
                self._send(inbox, lost(gone).pack())
