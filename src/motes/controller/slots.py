"""How many requests are under way: of one sender, and of all of its kind together, so that none takes the others' turn.

A core. Each kind has its own: however many invites or callers' keys are out, this machine's owner is answered.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from motes.errors import Unavailable
from motes.model.names import (
    GATEWAY,
    GATEWAY_ANSWERS,
    GATEWAY_STREAMS,
    GUEST_PREFIX,
    HOST_PREFIX,
    KEEPER,
    OWN_USER,
)


class Limit(NamedTuple):
    """The most requests under way; beyond it they are answered with Unavailable."""

    of_one: int
    of_all: int


LIMITS = {
    # A guest asks one thing, once, and nobody knows whom an invite has reached.
    "guest": Limit(2, 16),
    "host": Limit(128, 256),
    "caller": Limit(128, 256),
    "own": Limit(128, 256),
}

_OWN = (OWN_USER, GATEWAY, GATEWAY_ANSWERS, GATEWAY_STREAMS, KEEPER)


def kind_of(sender: str) -> str:
    """Which of LIMITS holds for this user; NATS vouches for its name."""
    if sender.startswith(GUEST_PREFIX):
        return "guest"
    if sender.startswith(HOST_PREFIX):
        return "host"
    return "own" if sender in _OWN else "caller"


class Slots:
    """The requests under way."""

    def __init__(self) -> None:
        self._of_one: Counter[str] = Counter()
        self._of_all: Counter[str] = Counter()

    def take(self, sender: str) -> None:
        """One more of this sender. Raises Unavailable."""
        kind = kind_of(sender)
        limit, of_all, of_one = LIMITS[kind], self._of_all[kind], self._of_one[sender]
        if of_one >= limit.of_one or of_all >= limit.of_all:
            raise Unavailable(f"the controller has {of_all} requests under way, {of_one} of them yours; try again")
        self._of_one[sender] += 1
        self._of_all[kind] += 1

    def give_back(self, sender: str) -> None:
        """One of them was answered."""
        self._of_all[kind_of(sender)] -= 1
        self._of_one[sender] -= 1
        if not self._of_one[sender]:
            del self._of_one[sender]
