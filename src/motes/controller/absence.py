"""Hosts that have joined and are not there: when they were last, and whether their owner paused them.

Who has joined is remembered until it leaves or is removed, so that its name can be given to `motes host rm`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from motes.controller.core.state import Absence
from motes.controller.members import Member
from motes.errors import MotesError

if TYPE_CHECKING:
    from motes.controller.service import Controller

KEEP_S = 600.0
"""How often it is written down when who is there was seen last; who goes in order is written down at once."""
PAUSED = "paused"
"""What a host says when it goes because its owner wants the machine for himself."""


class Absences:
    """Of the hosts of one keeper: in the core's state, and with each member in the store."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._keep_at = 0.0

    async def load(self) -> None:
        """What was so before this controller. Raises Unavailable."""
        self._keep_at = self._controller.now() + KEEP_S
        state = self._controller.core.state
        for host, data in (await self._controller.store.members()).items():
            member = msgspec.msgpack.decode(data, type=Member)
            if host in state.joined and member.seen_at:
                state.absences[host] = Absence(member.seen_at, member.paused)

    def note_gone(self, host: str) -> None:
        """Its connection broke. It is not written down at once: that may be so again and again."""
        if host in self._controller.core.state.joined:
            self._controller.core.state.absences[host] = Absence(time.time())

    def note_left(self, host: str, word: object) -> None:
        """It goes in order, and may say that it is paused."""
        if host in self._controller.core.state.joined:
            absence = Absence(time.time(), word == PAUSED)
            self._controller.core.state.absences[host] = absence
            self._controller.tasks.spawn(self._keep(host, absence))

    def tick(self) -> None:
        """Write down from time to time who was there, for a keeper that ends without a word."""
        if self._controller.now() < self._keep_at:
            return
        self._keep_at = self._controller.now() + KEEP_S
        state = self._controller.core.state
        for host in state.joined:
            if host in state.hosts and state.hosts[host].lives:
                state.absences[host] = Absence(time.time())
            if host in state.absences:
                self._controller.tasks.spawn(self._keep(host, state.absences[host]))

    async def _keep(self, host: str, absence: Absence) -> None:
        try:
            await self._controller.admission.note_absence(host, absence.seen_at, absence.paused)
        except MotesError:
            return  # The next time; it is known as long as this keeper runs.
