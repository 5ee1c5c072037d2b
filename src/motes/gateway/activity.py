"""Whether anything moves on a proxied connection. Time is counted in ticks, which the server gives."""

from __future__ import annotations

from motes.gateway.watch import RequestWatch

MAX_IDLE_TICKS = 90
"""Ticks without a byte either way."""
MAX_HEAD_TICKS = 3
"""Ticks that one request's head may take."""


class Activity:
    """What moved on one connection since the last tick, and which way."""

    def __init__(self, watch: RequestWatch) -> None:
        self._watch = watch
        self._moved = self._is_awaited = True
        self._idle_ticks = self._head_ticks = self._requests = 0

    def asked(self) -> None:
        """Bytes came from the client."""
        self._moved = self._is_awaited = True

    def answered(self) -> None:
        """Bytes came from the daemon."""
        self._moved = True
        self._is_awaited = False

    def is_stale_at_tick(self) -> bool:
        """Count a tick; whether nothing moved for long, or one head takes too long."""
        self._idle_ticks = 0 if self._moved else self._idle_ticks + 1
        same_head = self._watch.in_head and self._watch.requests == self._requests
        self._head_ticks = self._head_ticks + 1 if same_head else 0
        self._moved = False
        self._requests = self._watch.requests
        return self._idle_ticks > MAX_IDLE_TICKS or self._head_ticks > MAX_HEAD_TICKS

    @property
    def is_quiet(self) -> bool:
        """Whether nothing moved since the last tick, and what moved last was the daemon's answer."""
        return not self._moved and not self._is_awaited
